"""`--source ic-conv`: published classifiers and pose estimators, their runs, and what is refused."""

import os

import golden
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from narrow import classifier as rednet_classifier
from running import ROOT
from torch import nn

from mmext.cli import main
from mmext.convert import ConversionError, convert
from mmext.convert.config_check import check_against_config
from mmext.convert.writing import write_checkpoint
from mmext.layers import InceptionConv2d
from mmext.models import ICResNet
from mmext.patterns import PUBLISHED, load_pattern

CONFIGS = ROOT / 'configs' / 'ic_conv'
CLASSIFIER = CONFIGS / 'ic-resnet50_8xb32_in1k.py'
POSE = CONFIGS / 'ae_ic-res50_8xb16-300e_coco-640x640.py'
BOTTLENECK = dict(deep_stem=False, in_channels=3, stem_channels=64, base_channels=64, avg_down=False)
UNPUBLISHED = 'not a published one: give the pattern file it was trained with'
WIDTHS = dict(stem_channels=8, base_channels=16)
RULE = dict(rule='proportional', max_dilation=2)  # runs of 8, 3, 3, 2 in the first stage


def build(config, **backbone):
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(model=dict(backbone=dict(backbone, init_cfg=None))))
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


def narrow(depth=18, pattern=RULE, **options):
    return ICResNet(depth, pattern, **{**WIDTHS, **options})


def published(model, prefix=''):
    """The state dict of a backbone under the published keys; no value is one that an initialisation would give."""
    torch.manual_seed(1)
    layers = {f'{name}.weight': m for name, m in model.named_modules() if isinstance(m, InceptionConv2d)}
    state = {}
    for key, value in model.state_dict().items():
        value = torch.rand(value.shape) + 2 if value.is_floating_point() else torch.tensor(1000)
        if key in layers:
            for index, part in enumerate(value.split([run[2] for run in layers[key].pattern])):
                state[f'{prefix}{key.removesuffix("weight")}conv_list.{index}.weight'] = part
        else:
            state[prefix + key] = value
    return state


def classifier(depth=18, classes=5, **options):
    model = narrow(depth, **options)
    return {
        **published(model),
        'fc.weight': torch.rand(classes, model.feat_dim),
        'fc.bias': torch.rand(classes),
    }


def pose(depth=18, width=8, outputs=34, **options):
    model = narrow(depth, inception_convs=('conv2',), **options)
    state, into = published(model, 'backbone.'), model.feat_dim
    head = nn.Sequential()
    for _ in range(3):
        head.extend([nn.ConvTranspose2d(into, width, 4, bias=False), nn.BatchNorm2d(width), nn.ReLU()])
        into = width
    state |= {f'keypoint_head.deconv_layers.{key}': torch.rand_like(v.float()) for key, v in head.state_dict().items()}
    return state | {
        'keypoint_head.final_layer.weight': torch.rand(outputs, width, 1, 1),
        'keypoint_head.final_layer.bias': torch.rand(outputs),
    }


def init_cfg(path, prefix='backbone.'):
    return dict(type='mmext.PublishedCheckpoint', source='ic-conv', checkpoint=str(path), prefix=prefix)


def save(path, state):
    torch.save(dict(state_dict=state), path)
    return path


@pytest.mark.parametrize(
    ('name', 'options', 'pattern'),
    [
        ('ic_resnet50_detection', {}, 'detection_r50_k9'),
        (
            'ic_resnet101_segmentation',
            dict(depth=101, pattern='segmentation_r101_k9'),
            'detection_r101_k9 or segmentation_r101_k9',
        ),
    ],
)
def test_golden_logits(name, options, pattern, tmp_path):
    case = golden.Case('ic_conv', name)
    path = tmp_path / f'{name}.pth.tar'
    state = case.state_dict(lambda key: f'module.{key}')
    torch.save(dict(state_dict=state, epoch=100, arch='ic_resnet50', best_prec1=torch.tensor(77.0), optimizer={}), path)
    converted, report = convert(path, 'ic-conv')
    runs = report.architecture.pop('runs')
    assert list(runs.values()) == [tuple(run[2] for run in layer) for layer in load_pattern(case['options']['pattern'])]
    assert report.architecture == dict(
        depth=case['options']['depth'], pattern=pattern, **BOTTLENECK, head='LinearClsHead', num_classes=1000
    )
    assert (len(report.mapped), report.dropped, report.missing) == (len(state), {}, [])
    model = build(CLASSIFIER, **options).eval()
    model.load_state_dict(converted, strict=True)
    with torch.no_grad():
        for key, x in case.inputs().items():
            case.check(f'{key}/logits', model(x))


def test_golden_basic_blocks_with_inception_convolutions_twice():
    case = golden.Case('ic_conv', 'ic_resnet18_synthetic')
    converted, report = convert(case.state_dict(), 'ic-conv')
    assert report.architecture['inception_convs'] == ('conv1', 'conv2')
    assert report.architecture['pattern'] == UNPUBLISHED
    options = dict(depth=18, pattern=case['options']['pattern'])
    model = build(CLASSIFIER, **options)
    model.head.fc = nn.Linear(512, 1000)
    model.load_state_dict(converted, strict=True)
    with torch.no_grad():
        for key, x in case.inputs().items():
            case.check(f'{key}/logits', model.eval()(x))


@pytest.mark.parametrize('whole', [False, True], ids=['backbone alone', 'estimator'])
@pytest.mark.parametrize('name', golden.names('ic_conv', 'pose_*'))
def test_golden_pose_stages(name, whole):
    case = golden.Case('ic_conv', name)
    options = case['options']
    state = case.state_dict(lambda key: f'backbone.{key}' if whole else key)
    width = 512 if options['depth'] == 18 else 2048
    if whole:
        state['keypoint_head.final_layer.weight'] = torch.rand(34, width, 1, 1)
        state['keypoint_head.final_layer.bias'] = torch.rand(34)
    converted, report = convert(state, 'ic-conv')
    settings = report.architecture
    published_one = isinstance(options['pattern'], str)
    assert settings['pattern'] == (options['pattern'] if published_one else UNPUBLISHED)
    assert settings['deep_stem'] == options.get('deep_stem', False)
    assert settings['avg_down'] == options.get('avg_down', False)
    assert settings.get('inception_convs') == (None if options['depth'] == 50 else ('conv2',))
    assert settings.get('part') == (None if whole else 'backbone alone')
    if whole:
        assert settings['out_channels'] == 34
        assert torch.equal(converted.pop('head.final_layer.weight'), state['keypoint_head.final_layer.weight'])
        assert torch.equal(converted.pop('head.final_layer.bias'), state['keypoint_head.final_layer.bias'])
    else:  # the values of the lists are compared in the other case
        assert report.mapped.keys() == state.keys()
        single = {key: ours for key, ours in report.mapped.items() if '.conv_list.' not in key}
        assert single == {key: f'backbone.{key}' for key in single}
        assert all(torch.equal(converted[ours], state[key]) for key, ours in single.items())
        return
    model = ICResNet(**options, inception_convs=('conv2',)).eval()
    model.load_state_dict({key.removeprefix('backbone.'): value for key, value in converted.items()}, strict=True)
    with torch.no_grad():
        for key, x in case.inputs().items():
            for stage, out in enumerate(model(x), 1):
                case.check(f'{key}/stage{stage}', out)
    case.check_complete()


def test_every_tensor_of_an_estimator():
    state = pose()
    converted, report = convert(dict(state_dict=state), 'ic-conv')
    for key, ours in report.mapped.items():
        if '.conv_list.' not in key:
            assert ours == key.replace('keypoint_head.', 'head.')
            assert torch.equal(converted[ours], state[key])
    parts = [state[f'backbone.layer4.1.conv2.conv_list.{index}.weight'] for index in range(4)]
    assert torch.equal(converted['backbone.layer4.1.conv2.weight'], torch.cat(parts))
    assert report.mapped.keys() == state.keys()
    settings = dict(head='AssociativeEmbeddingHead', out_channels=34, deconv_layers=3)
    assert settings.items() <= report.architecture.items()


def test_an_estimator_fills_the_model_of_the_pose_config():
    case = golden.Case('ic_conv', 'pose_ic_resnet50')
    state = {f'backbone.{key}': torch.zeros(shape) for key, shape in case['state']}
    for step, into in enumerate((2048, 256, 256)):
        state[f'keypoint_head.deconv_layers.{3 * step}.weight'] = torch.zeros(into, 256, 4, 4)
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            state[f'keypoint_head.deconv_layers.{3 * step + 1}.{name}'] = torch.zeros(256)
        state[f'keypoint_head.deconv_layers.{3 * step + 1}.num_batches_tracked'] = torch.tensor(0)
    state['keypoint_head.final_layer.weight'] = torch.zeros(34, 256, 1, 1)
    state['keypoint_head.final_layer.bias'] = torch.zeros(34)
    converted, report = convert(state, 'ic-conv')
    check_against_config(converted, report, POSE)
    assert report.missing == []


def test_parts_are_joined_by_their_numbers():
    """Ten parts and more, in any order of the file: 10 comes after 9, not after 1."""
    model = narrow(pattern=dict(rule='uniform', max_dilation=4, undilated=0.1), base_channels=64)
    state = published(model)
    counts = [run[2] for run in model.pattern[0]]
    assert len(counts) > 10
    shuffled = {key: state[key] for key in sorted(state)}
    converted, report = convert(shuffled, 'ic-conv')
    parts = [state[f'layer1.0.conv1.conv_list.{index}.weight'] for index in range(len(counts))]
    assert torch.equal(converted['backbone.layer1.0.conv1.weight'], torch.cat(parts))
    assert report.architecture['runs']['backbone.layer1.0.conv1'] == tuple(counts)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(inception_convs=('conv1',)),
        dict(inception_convs=('conv2',), deep_stem=True, in_channels=4),
        dict(depth=34, avg_down=True),
        dict(depth=50, deep_stem=True, avg_down=True),
        dict(depth=101),
        dict(depth=152),
    ],
)
def test_the_settings_build_the_backbone(options):
    converted, report = convert(classifier(**options), 'ic-conv')
    settings = {k: v for k, v in report.architecture.items() if k not in ('pattern', 'runs', 'head', 'num_classes')}
    model = ICResNet(pattern=RULE, **settings)
    weights = {key.removeprefix('backbone.'): value for key, value in converted.items() if key.startswith('backbone.')}
    model.load_state_dict(weights, strict=True)
    counts = [tuple(run[2] for run in layer) for layer in model.pattern]
    assert list(report.architecture['runs'].values()) == counts
    assert settings['depth'] == options.get('depth', 18)
    assert report.architecture['num_classes'] == 5


@pytest.mark.parametrize('name', PUBLISHED)
def test_every_published_pattern_is_told_by_its_runs(name):
    pattern = load_pattern(name)
    with torch.device('meta'):
        model = ICResNet(50 if len(pattern) == 16 else 101, pattern)
        state = published(model)
    state = {key: torch.zeros(value.shape) for key, value in state.items()}
    same = [other for other in PUBLISHED if load_pattern(other) == pattern]
    assert convert(state, 'ic-conv')[1].architecture['pattern'] == ' or '.join(same)


def test_report_shows_the_settings_and_counts_the_runs():
    text = str(convert(classifier(), 'ic-conv')[1])
    assert f"settings depth=18, pattern='{UNPUBLISHED}', inception_convs=('conv1', 'conv2'), deep_stem=False" in text
    assert 'runs     64 in 16 inception convolutions' in text
    assert 'runs=' not in text


def test_a_converted_file_keeps_the_runs(tmp_path):
    state = classifier()
    first = write_checkpoint(*convert(state, 'ic-conv'), tmp_path / 'ic.pth')
    meta = torch.load(first, weights_only=True)['meta']
    assert meta['architecture']['runs']['backbone.layer1.0.conv1'] == (8, 3, 3, 2)
    again = write_checkpoint(*convert(first, 'ic-conv'), tmp_path / 'again.pth')
    assert again.read_bytes() == first.read_bytes()
    for other in (published(narrow()), pose()):
        path = write_checkpoint(*convert(other, 'ic-conv'), tmp_path / 'other.pth')
        assert write_checkpoint(*convert(path, 'ic-conv'), tmp_path / 'again.pth').read_bytes() == path.read_bytes()


@pytest.mark.parametrize('converted', [False, True])
def test_a_backbone_is_filled_and_its_pattern_compared(tmp_path, converted):
    path = save(tmp_path / 'published.pth.tar', classifier())
    if converted:
        path = write_checkpoint(*convert(path, 'ic-conv'), tmp_path / 'ic.pth')
    expected = convert(classifier(), 'ic-conv')[0]
    for stages in (4, 2):
        model = narrow(init_cfg=init_cfg(path), num_stages=stages, out_indices=(stages - 1,))
        model.init_weights()
        assert all(torch.equal(value, expected[f'backbone.{key}']) for key, value in model.state_dict().items())

    model = narrow(pattern=dict(rule='uniform', max_dilation=2), init_cfg=init_cfg(path))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    message = (
        r'layer2\.0\.conv1 is an inception convolution with runs of 16, [567], [567], 3 channels in the checkpoint and '
        r'an inception convolution with runs of 16, [56], [56], 5 channels in the network \(and 11 more layers '
        rf'differ\); the pattern of the checkpoint is {UNPUBLISHED}, with inception_convs'
    )
    with pytest.raises(ConversionError, match=message):
        model.init_weights()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_backbone_with_another_published_pattern_is_refused(tmp_path):
    case = golden.Case('ic_conv', 'ic_resnet50_detection')
    state = {key: torch.zeros(shape) for key, shape in case['state']}
    path = save(tmp_path / 'ic_resnet50_detection.pth.tar', state)
    message = (
        r'does not fill ICResNet: layer2\.0\.conv2 is an inception convolution with runs of 77, 9, 1, .* channels in '
        r'the checkpoint and an inception convolution with runs of .* channels in the network \(and 12 more layers '
        r'differ\); the pattern of the checkpoint is detection_r50_k9; the network must have the same'
    )
    with pytest.raises(ConversionError, match=message):
        ICResNet(50, 'segmentation_r50_k9', init_cfg=init_cfg(path)).init_weights()


@pytest.mark.parametrize(
    ('checkpoint', 'network', 'message'),
    [
        (
            dict(inception_convs=('conv2',)),
            dict(),
            r'layer1\.0\.conv1 is an ordinary convolution in the checkpoint and an inception convolution with runs of '
            r"8, 3, 3, 2 .* \(and 7 more .*with inception_convs=\('conv2',\); the network must",
        ),
        (
            dict(),
            dict(inception_convs=('conv2',)),
            r'layer1\.0\.conv1 is an inception .* in the checkpoint and an ordinary convolution in the network',
        ),
        (dict(depth=34, inception_convs=('conv2',)), dict(), r'the network has no place for .*layer1\.2\.conv1'),
        (dict(deep_stem=True), dict(), r'no place for .*stem\.0\.conv\.weight.* lacks .* conv1\.weight'),
    ],
)
def test_networks_that_differ_in_more_than_the_pattern(tmp_path, checkpoint, network, message):
    path = save(tmp_path / 'published.pth.tar', classifier(**checkpoint))
    with pytest.raises(ConversionError, match=message):
        narrow(init_cfg=init_cfg(path), **network).init_weights()


def test_an_ordinary_convolution_is_one_run_without_dilation(tmp_path):
    path = save(tmp_path / 'published.pth.tar', published(narrow(inception_convs=('conv2',))))
    plain = narrow().pattern
    runs = [layer if index % 2 else [(1, 1, sum(run[2] for run in layer))] for index, layer in enumerate(plain)]
    narrow(pattern=runs, init_cfg=init_cfg(path)).init_weights()
    dilated = [layer if index % 2 else [(2, 2, layer[0][2])] for index, layer in enumerate(runs)]
    with pytest.raises(ConversionError, match=r'layer1\.0\.conv1 is an ordinary convolution in the checkpoint'):
        narrow(pattern=dilated, init_cfg=init_cfg(path)).init_weights()


def test_a_network_without_inception_convolutions_is_refused(tmp_path):
    """Such a ResNet has every key, in every shape."""
    from mmpretrain.models import ResNet

    path = save(tmp_path / 'published.pth.tar', published(narrow(50, base_channels=64, stem_channels=64)))
    with pytest.raises(ConversionError, match=r'layer1\.0\.conv2 is an inception .* an ordinary convolution in the ne'):
        ResNet(50, init_cfg=init_cfg(path)).init_weights()


def changed(key, value, state=None):
    """The state of a classifier with a tensor more, another one, or, with None, one less."""
    state = classifier() if state is None else state
    state.pop(key, None)
    return state if value is None else {**state, key: value}


PARTS = 'layer2.0.conv2.conv_list'


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('fc.bias', None, r'lacks 1 key: head\.fc\.bias\. Read as ic-conv with depth=18, .*--allow-missing'),
        ('fc.weight', None, r'head\.fc\.weight is missing, and the architecture cannot be told without it'),
        ('fc.weight', torch.ones(5, 7), r'head\.fc\.weight \(\[5, 7\], the network needs \[5, 128\]\)'),
        (
            'bn1.weight',
            torch.ones(7),
            r'shapes differ in 1 key: backbone\.bn1\.weight \(\[7\], the network needs \[8\]',
        ),
        ('neck.weight', torch.ones(7), r'no place for 1 key: neck\.weight'),
        (f'{PARTS}.0.bias', torch.ones(16), rf'no place for 1 key: {PARTS}\.0\.bias'),
        ('layer2.0.conv2.weight', torch.ones(32, 32, 3, 3), r'no place for 1 key: layer2\.0\.conv2\.weight'),
        ('layer2.0.downsample.0.conv_list.0.weight', torch.ones(1), 'no place for 1 key: layer2.0.downsample'),
        (f'{PARTS}.01.weight', torch.ones(1), rf'no place for 1 key: {PARTS}\.01\.weight'),
        (f'{PARTS}.1.weight', None, rf'{PARTS}\.1\.weight is missing, though {PARTS}\.2\.weight is there'),
        (f'{PARTS}.5.weight', torch.ones(1), rf'{PARTS}\.4\.weight is missing, though {PARTS}\.5\.weight'),
        (
            f'{PARTS}.3.weight',
            None,
            r'backbone\.layer2\.0\.conv2\.weight \(\[\d\d, 32, 3, 3\], the network needs \[32, ',
        ),
        (
            f'{PARTS}.1.weight',
            torch.ones(6, 32, 1, 1),
            r'parts of backbone\.layer2\.0\.conv2\.weight do not fit together: beside '
            rf'{PARTS}\.0\.weight \[16, 32, 3, 3\], .* not 1 key: {PARTS}\.1\.weight \[6, 32, 1, 1\]; give',
        ),
        (f'{PARTS}.1.weight', torch.tensor(1.0), rf'do not fit together: .* 1 key: {PARTS}\.1\.weight \[\];'),
        ('layer1.0.bn1.weight', None, r'backbone\.layer1\.0\.bn1\.weight is missing, and the architecture'),
        ('conv1.weight', torch.ones(8), r'backbone\.conv1\.weight has shape \[8\], and the architecture'),
        ('layer1.0.bn1.weight', torch.ones(0), r'the widths in the checkpoint make no IC-ResNet: '),
        ('layer3.2.bn1.weight', torch.ones(0), r'lacks .*\. Read as ic-conv with depth=34'),
        ('layer1.3.bn1.weight', torch.ones(0), r'\(4, 2, 2, 2\) blocks of two conv.*IC-ResNet-34 \(3, 4, 6, 3\)'),
        ('layer1.0.conv3.weight', torch.ones(0), r'Read as ic-conv with depth=50'),
    ],
)
def test_what_is_refused(key, value, message):
    with pytest.raises(ConversionError, match=f'the mapping: .*{message}'):
        convert(changed(key, value), 'ic-conv')


def test_an_inception_convolution_that_is_none():
    state = {key: value for key, value in classifier().items() if not key.startswith(PARTS)}
    state['layer2.0.conv2.weight'] = torch.ones(32, 32, 3, 3)
    message = r'layer2\.0\.conv2\.weight is one convolution, where others .*backbone\.layer2\.0\.conv2\.conv_list\.\*'
    with pytest.raises(ConversionError, match=message):
        convert(state, 'ic-conv', allow_missing=True)


def test_missing_keys_may_be_allowed_but_not_gaps():
    state = {key: value for key, value in classifier().items() if not key.startswith((PARTS, 'fc.bias'))}
    converted, report = convert(state, 'ic-conv', allow_missing=True)
    assert sorted(report.missing) == ['backbone.layer2.0.conv2.weight', 'head.fc.bias']
    assert report.missing[0] not in converted
    with pytest.raises(ConversionError, match='is missing, though'):
        convert(changed(f'{PARTS}.1.weight', None), 'ic-conv', allow_missing=True)


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('keypoint_head.final_layer.weight', r'head\.final_layer\.weight is missing, and the architecture'),
        ('keypoint_head.final_layer.bias', r'lacks 1 key: head\.final_layer\.bias'),
        ('keypoint_head.deconv_layers.3.weight', r'head\.deconv_layers\.3\.weight is missing, and'),
        ('keypoint_head.deconv_layers.7.running_var', r'lacks 1 key: head\.deconv_layers\.7\.running_var'),
    ],
)
def test_heads_that_are_not_whole(key, message):
    state = pose()
    del state[key]
    with pytest.raises(ConversionError, match=message):
        convert(state, 'ic-conv')


def test_a_head_of_another_kind():
    state = {**pose(), 'keypoint_head.loss.weight': torch.ones(1), 'head.final_layer.bias': torch.ones(34)}
    with pytest.raises(ConversionError, match=r'no place for 2 keys: keypoint_head\.loss\.weight, head\.final_layer'):
        convert(state, 'ic-conv')


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        (['conv1.weight', 'layer1.0.conv2.weight'], r"it has layer1\.0\.conv2\.weight, like a ResNet .*'Pretrained'"),
        (['backbone.layer1.0.conv2.weight'], r'like a ResNet with ordinary convolutions, or an IC-ResNet saved by'),
        (['encoder.weight'], r'no checkpoint of the inception convolution project: it has 1 key: encoder\.weight'),
    ],
)
def test_another_architecture(keys, message):
    with pytest.raises(ConversionError, match=message):
        convert({key: torch.ones(1) for key in keys}, 'ic-conv', allow_missing=True)


def test_the_source_of_another_family(tmp_path):
    with pytest.raises(ConversionError, match="like a RedNet: choose the source 'involution'"):
        convert(rednet_classifier(), 'ic-conv')
    path = write_checkpoint(*convert(classifier(), 'ic-conv'), tmp_path / 'ic.pth')
    with pytest.raises(ConversionError, match='no checkpoint of the involution project'):
        convert(path, 'involution')


@pytest.mark.parametrize(
    ('runs', 'message'),
    [
        ([8, 8], 'the runs in its meta are damaged'),
        ({'backbone.layer1.0.conv1': 16}, 'the runs in its meta are damaged'),
        ({'backbone.layer1.0.conv1': ['16']}, 'the runs in its meta are no numbers of channels'),
        ({'backbone.layer1.0.conv1': [8, 7]}, r'layer1\.0\.conv1\.weight has 16 channels, .* add up to 15; convert'),
        ({}, 'an IC-ResNet saved by this package'),
    ],
)
def test_damaged_runs_of_a_converted_file(runs, message):
    meta = dict(source='ic-conv', architecture=dict(runs=runs))
    with pytest.raises(ConversionError, match=f'the mapping: .*{message}'):
        convert(dict(meta=meta, state_dict=convert(classifier(), 'ic-conv')[0]), 'ic-conv')


def test_the_command_compares_the_pattern_of_the_config(tmp_path, capsys):
    case = golden.Case('ic_conv', 'ic_resnet50_detection')
    src = tmp_path / 'ic_resnet50_detection.pth.tar'
    save(src, {f'module.{key}': torch.zeros(shape) for key, shape in case['state']})
    (tmp_path / 'out').mkdir()

    def run(src, *options):
        args = ['convert', str(src), str(tmp_path / 'out' / 'ic.pth'), '--source', 'ic-conv', '--config']
        return main([*args, str(CLASSIFIER), *options])

    other = ['--cfg-options', 'model.backbone.pattern=segmentation_r50_k9']
    assert run(src, *other) == 1
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.count('\n') == 1
    assert 'backbone.layer2.0.conv2 is an inception convolution with runs of 77, 9, 1, 3,' in captured.err
    assert 'the pattern of the checkpoint is detection_r50_k9' in captured.err
    assert os.listdir(tmp_path / 'out') == []

    assert run(src) == 0
    (name,) = os.listdir(tmp_path / 'out')
    printed = capsys.readouterr().out
    for line in ('source   ic-conv', "depth=50, pattern='detection_r50_k9'", 'missing  none', f'written  {tmp_path}'):
        assert line in printed
    assert run(tmp_path / 'out' / name, *other) == 1
    assert 'the pattern of the checkpoint is detection_r50_k9' in capsys.readouterr().err
    assert run(tmp_path / 'out' / name) == 0
    assert os.listdir(tmp_path / 'out') == [name]
