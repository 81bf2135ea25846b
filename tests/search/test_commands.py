"""Three commands from a config of a toolbox to a searched network, trained by the toolbox's own installed scripts."""

import json

import pytest
import running
import torch
from mmengine.config import Config

from mmext.cli import main
from mmext.layers import InceptionConv2d, SupernetConv2d
from mmext.models import ICResNet
from mmext.patterns import load_pattern
from mmext.search import choose
from mmext.utils.configs import build_model, load_config

MINI = running.ROOT / 'configs/mini'
RESNET = """
_base_ = [{base!r}]
model = dict(backbone=dict(_delete_=True, type='ResNet', depth=18, base_channels={width}, stem_channels={width},
                           style='pytorch', out_indices=(0, 1, 2, 3)))
"""
BOTTLENECKS = """
_base_ = [{base!r}]
model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=50, base_channels=8, stem_channels=8, norm_eval=False),
    neck=dict(in_channels=[32, 64, 128, 256]))
"""
UNET = """
_base_ = [{base!r}]
norm_cfg = dict(type='BN')
model = dict(
    backbone=dict(_delete_=True, type='UNet', base_channels=8, num_stages=3, strides=(1, 1, 1), norm_cfg=norm_cfg,
                  enc_num_convs=(2, 2, 2), dec_num_convs=(2, 2), downsamples=(True, True),
                  enc_dilations=(1, 1, 1), dec_dilations=(1, 1)),
    neck=None,
    decode_head=dict(_delete_=True, type='FCNHead', in_channels=8, in_index=2, channels=8, num_convs=1,
                     concat_input=False, num_classes=19, norm_cfg=norm_cfg))
"""
POSE = '_base_ = [{base!r}]\n'
# toolbox, data, mini config, config over it, options of a few short steps, backbone that is found
CASES = {
    'detector': (
        'mmdet',
        'coco',
        'faster-rcnn_ic-r18_fpn_mini-coco.py',
        BOTTLENECKS,
        ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'],
        'mmext.ICResNet',
    ),
    'unet': (
        'mmseg',
        'cityscapes',
        'fpn_red26_inv-neck_mini-cityscapes.py',
        UNET,
        ['train_cfg.max_iters=4', 'default_hooks.checkpoint.interval=4', 'train_dataloader.batch_size=4'],
        'mmext.ExchangedConvs',
    ),
    'pose': (
        'mmpose',
        'coco_keypoints',
        'ae_res18_mini-coco-keypoints.py',
        POSE,
        ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4', 'train_cfg.val_interval=1'],
        'mmext.ExchangedConvs',
    ),
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A handful of images of each dataset."""
    out = tmp_path_factory.mktemp('data')
    names = sorted(case[1] for case in CASES.values())
    running.run('tools/make_mini_datasets.py', *names, '--out', out, '--train', '12', '--val', '4')
    return out


def plain(folder, text, base):
    path = folder / 'plain.py'
    path.write_text(text.format(base=str(MINI / base)))
    return path


def train(case, config, data, work_dir):
    toolbox, dataset, *_, options, _ = CASES[case]
    root = f'{data}/{dataset}/'
    options = [*options, 'default_hooks.checkpoint.interval=1']
    options += [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val', 'test')]
    files = {'coco': 'instances', 'coco_keypoints': 'person_keypoints'}
    if dataset in files:
        annotations = f'{root}annotations/{files[dataset]}_val2017.json'
        options += [f'{split}_evaluator.ann_file={annotations}' for split in ('val', 'test')]
    running.run(running.script(toolbox, 'train.py'), config, '--work-dir', work_dir, '--cfg-options', *options)
    return (work_dir / 'last_checkpoint').read_text().strip()


@pytest.mark.parametrize('case', CASES)
def test_from_a_config_to_a_trained_searched_network(case, data, tmp_path, capsys):
    _, _, base, text, _, backbone = CASES[case]
    config = plain(tmp_path, text, base)
    supernet, pattern, searched = (tmp_path / name for name in ('supernet.py', 'pattern.json', 'searched.py'))
    assert main(['search', 'supernet', str(config), '--max-dilation', '2', '--out', str(supernet)]) == 0
    model = build_model(load_config(supernet))
    names = [name for name, module in model.named_modules() if isinstance(module, SupernetConv2d)]
    assert names == capsys.readouterr().out.splitlines()[:-1]
    assert all(name.startswith('backbone.') for name in names)
    checkpoint = train(case, supernet, data, tmp_path / 'supernet')

    counts = tmp_path / 'counts.json'
    arguments = [str(supernet), checkpoint, '--out', str(pattern), '--counts', str(counts)]
    assert main(['search', 'pattern', *arguments, '--picture', str(tmp_path / 'pattern.png')]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in names)
    found = load_pattern(pattern)
    assert load_pattern(counts) == found
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    for name, layer in zip(names, found, strict=True):
        assert layer == choose(weights[f'{name}.weight'], 2).runs
    content = json.loads(pattern.read_text())
    assert content['names'] == names
    assert content['search']['max_dilation'] == 2
    assert content['search']['criterion'] == 'l1'
    assert len(content['search']['checkpoint_sha256']) == 64
    for layer in json.loads(counts.read_text()):  # what a loader that knows the published files only reads
        assert list(layer) == ['(0, 0)', '(0, 1)', '(1, 0)', '(1, 1)']

    assert main(['search', 'apply', str(config), str(pattern), '--out', str(searched)]) == 0
    cfg = Config.fromfile(searched)
    assert cfg.model.backbone.type == backbone
    built = build_model(cfg)
    layers = [module for module in built.modules() if isinstance(module, InceptionConv2d)]
    assert [layer.pattern for layer in layers] == list(found)
    train(case, searched, data, tmp_path / 'searched')


def test_weights_of_the_plain_model_start_the_supernet(tmp_path):
    config = plain(tmp_path, RESNET.replace('{width}', '32'), 'faster-rcnn_ic-r18_fpn_mini-coco.py')
    weights, supernet = tmp_path / 'plain.pth', tmp_path / 'supernet.py'
    model = build_model(load_config(config))
    model.eval()
    torch.save(model.state_dict(), weights)
    arguments = ['search', 'supernet', str(config), '--max-dilation', '3', '--out', str(supernet)]
    assert main([*arguments, '--checkpoint', str(weights)]) == 0
    cfg = load_config(supernet)
    assert cfg.load_from == str(weights)
    other = build_model(cfg)
    other.load_state_dict(torch.load(cfg.load_from, weights_only=True))
    other.eval()
    x = torch.rand(1, 3, 64, 70)
    for one, two in zip(other.backbone(x), model.backbone(x), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


def test_names_choose_the_convolutions(tmp_path, capsys):
    config = plain(tmp_path, RESNET.replace('{width}', '32'), 'faster-rcnn_ic-r18_fpn_mini-coco.py')
    arguments = ['search', 'supernet', str(config), '--max-dilation', '2']
    include = ['--include', 'neck.*', '--include', 'backbone.layer4.*', '--exclude', '*.conv1']
    assert main([*arguments, *include, '--out', str(tmp_path / 'some.py')]) == 0
    *names, last = capsys.readouterr().out.splitlines()
    assert names == [
        *(f'backbone.layer4.{block}.conv2' for block in range(2)),
        *(f'neck.fpn_convs.{level}.conv' for level in range(4)),
    ]
    assert '6 convolutions' in last
    model = build_model(load_config(tmp_path / 'some.py'))
    found = [name for name, module in model.named_modules() if isinstance(module, SupernetConv2d)]
    assert found == names
    torch.save(model.state_dict(), tmp_path / 'some.pth')
    pattern = str(tmp_path / 'some.json')
    assert main(['search', 'pattern', str(tmp_path / 'some.py'), str(tmp_path / 'some.pth'), '--out', pattern]) == 0
    assert main(['search', 'apply', str(config), pattern, '--out', str(tmp_path / 'searched.py')]) == 0
    built = build_model(load_config(tmp_path / 'searched.py'))
    layers = {name: module.pattern for name, module in built.named_modules() if isinstance(module, InceptionConv2d)}
    assert layers == dict(zip(names, load_pattern(pattern), strict=True))


def test_the_searched_resnet_is_ic_resnet_and_takes_the_file(tmp_path):
    config = plain(tmp_path, BOTTLENECKS, 'faster-rcnn_ic-r18_fpn_mini-coco.py')
    supernet, pattern = tmp_path / 'supernet.py', tmp_path / 'pattern.json'
    assert main(['search', 'supernet', str(config), '--max-dilation', '2', '--out', str(supernet)]) == 0
    torch.save(build_model(load_config(supernet)).state_dict(), tmp_path / 's.pth')
    assert main(['search', 'pattern', str(supernet), str(tmp_path / 's.pth'), '--out', str(pattern)]) == 0
    assert ICResNet(50, pattern=str(pattern), base_channels=8).pattern == load_pattern(pattern)
    assert main(['pattern', 'show', str(pattern)]) == 0


# models of each toolbox as it ships them, whether they can be built on the meta device, and others than ResNets
SHIPPED = {
    'mmpretrain::resnet/resnet18_8xb32_in1k.py': (16, 'mmext.ICResNet'),
    'mmpretrain::resnext/resnext50-32x4d_8xb32_in1k.py': (16, 'mmext.ICResNeXt'),
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py': (16, 'mmext.ICResNet'),
    'mmdet::yolox/yolox_s_8xb8-300e_coco.py': (12, 'mmext.ExchangedConvs'),
    'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py': (16, 'mmext.ExchangedConvs'),
    'mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py': (
        16,
        'mmext.ExchangedConvs',
    ),
}


@pytest.mark.parametrize('base', SHIPPED)
def test_shipped_configs(base, tmp_path):
    count, backbone = SHIPPED[base]
    config, supernet, searched = (tmp_path / name for name in ('plain.py', 'supernet.py', 'searched.py'))
    checkpoint, pattern = tmp_path / 'supernet.pth', tmp_path / 'pattern.json'
    config.write_text(f'_base_ = [{base!r}]\n')
    assert main(['search', 'supernet', str(config), '--max-dilation', '2', '--out', str(supernet)]) == 0
    state = build_model(load_config(supernet)).state_dict()
    torch.save(state, checkpoint)
    assert main(['search', 'pattern', str(supernet), str(checkpoint), '--out', str(pattern)]) == 0
    assert main(['search', 'apply', str(config), str(pattern), '--out', str(searched)]) == 0
    cfg = load_config(searched)
    assert cfg.model.backbone.type == backbone
    built = build_model(cfg)
    assert list(built.state_dict()) == list(build_model(load_config(config)).state_dict())
    layers = [module.pattern for module in built.modules() if isinstance(module, InceptionConv2d)]
    assert len(layers) == count
    assert layers == list(load_pattern(pattern))
    assert not list(tmp_path.glob('*trial*'))


def test_a_config_that_cannot_be_a_base(tmp_path, capsys):
    (tmp_path / 'base.py').write_text(
        "default_scope = 'mmpretrain'\nmodel = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18))\n"
    )
    config = tmp_path / 'lazy.py'
    config.write_text('from mmengine.config import read_base\n\nwith read_base():\n    from .base import *\n')
    out = tmp_path / 'supernet.py'
    assert main(['search', 'supernet', str(config), '--max-dilation', '2', '--out', str(out)]) == 1
    assert 'new style' in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob('*.py')) == ['base.py', 'lazy.py']


def wrong(arguments, capsys):
    assert main(['search', *map(str, arguments)]) == 1
    return capsys.readouterr().err


def test_what_is_wrong_is_said_and_nothing_is_written(tmp_path, capsys):
    config = plain(tmp_path, RESNET.replace('{width}', '32'), 'faster-rcnn_ic-r18_fpn_mini-coco.py')
    supernet, out = tmp_path / 'supernet.py', tmp_path / 'out.json'
    make = ['supernet', config, '--out', tmp_path / 'none.py']
    assert 'candidates are backbone.conv1, backbone.layer1.0.conv1' in wrong(
        [*make, '--max-dilation', 2, '--include', 'head.*'], capsys
    )
    assert 'integer from 1 to 16' in wrong([*make, '--max-dilation', 0], capsys)
    assert 'exists and is left' in wrong(['supernet', config, '--out', config, '--max-dilation', 2], capsys)
    assert not (tmp_path / 'none.py').exists()
    assert main(['search', 'supernet', str(config), '--max-dilation', '2', '--out', str(supernet)]) == 0
    capsys.readouterr()

    states = {}
    for name, dilation in (('right', 2), ('other', 3)):
        main(
            ['search', 'supernet', str(config), '--max-dilation', str(dilation), '--out', str(tmp_path / f'{name}.py')]
        )
        states[name] = build_model(load_config(tmp_path / f'{name}.py')).state_dict()
    states['plain'] = build_model(load_config(config)).state_dict()
    key = 'backbone.layer2.0.conv1.weight'
    states['missing'] = {name: value for name, value in states['right'].items() if name != key}
    states['infinite'] = {**states['right'], key: states['right'][key] * float('inf')}
    for name, state in states.items():
        torch.save(state, tmp_path / f'{name}.pth')
    capsys.readouterr()
    for name, reason in (
        ('plain', 'that of the plain network, no supernet'),
        ('other', 'max_dilation=3, but'),
        ('missing', f'no {key}'),
        ('infinite', 'backbone.layer2.0.conv1 of'),
        ('absent', 'absent.pth'),
    ):
        assert reason in wrong(['pattern', supernet, tmp_path / f'{name}.pth', '--out', out], capsys)
        assert not out.exists()
    assert 'no supernet; make one' in wrong(['pattern', config, tmp_path / 'plain.pth', '--out', out], capsys)

    assert main(['search', 'pattern', str(supernet), str(tmp_path / 'right.pth'), '--out', str(out)]) == 0
    searched = tmp_path / 'searched.py'
    capsys.readouterr()
    narrow = tmp_path / 'narrow.py'
    narrow.write_text(RESNET.format(base=str(MINI / 'faster-rcnn_ic-r18_fpn_mini-coco.py'), width=16))
    assert 'of another network than' in wrong(['apply', narrow, out, '--out', searched], capsys)
    assert 'config of a supernet' in wrong(['apply', supernet, out, '--out', searched], capsys)
    assert 'does not name the convolution' in wrong(['apply', config, save(tmp_path), '--out', searched], capsys)
    assert 'no suffix .py' in wrong(['apply', config, out, '--out', tmp_path / 'searched'], capsys)
    assert not searched.exists()


def save(folder):
    path = folder / 'published.json'
    path.write_text(json.dumps([{'(0, 0)': 64}]))
    return path


def test_images_of_other_channels(tmp_path):
    config = tmp_path / 'plain.py'
    config.write_text(
        "default_scope = 'mmpretrain'\n"
        "backbone = dict(type='ResNet', depth=18, in_channels=4, out_indices=(3,))\n"
        "model = dict(type='ImageClassifier', backbone=backbone)\n"
    )
    supernet, checkpoint, pattern = (str(tmp_path / name) for name in ('supernet.py', 's.pth', 'pattern.json'))
    assert main(['search', 'supernet', str(config), '--max-dilation', '2', '--out', supernet]) == 0
    torch.save(build_model(load_config(supernet)).state_dict(), checkpoint)
    assert main(['search', 'pattern', supernet, checkpoint, '--out', pattern]) == 0
    assert main(['search', 'apply', str(config), pattern, '--out', str(tmp_path / 'searched.py')]) == 0
    assert load_config(tmp_path / 'searched.py').model.backbone.type == 'mmext.ICResNet'
