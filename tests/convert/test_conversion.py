import golden
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from narrow import classifier
from running import ROOT

from mmext.convert import SOURCES, ConversionError, convert
from mmext.models import RedNet

WIDTHS = dict(in_channels=3, stem_channels=64, base_channels=64, expansion=4, avg_down=False)
FASTER = dict(neck='conv', extra_levels=0, rpn_head='conv', bbox_head='Shared2FC', num_classes=80)
RETINA = dict(neck='conv', extra_levels=2, bbox_head='RetinaHead', num_classes=80)
FPN = dict(neck='conv', extra_levels=0, decode_head='FPNHead', num_classes=19)
UPER = dict(decode_head='UPerHead', num_classes=19, auxiliary_head='FCNHead')

# golden key list -> config, settings that must be read off it
ROWS = {
    **{
        f'rednet{depth}': (
            f'rednet{depth}_64xb32-130e_in1k',
            dict(depth=depth, stem_kernel=3, head='LinearClsHead', num_classes=1000),
        )
        for depth in (26, 50, 101, 152)
    },
    'faster_rcnn_red50_fpn': ('faster-rcnn_red50_fpn-conv-neck_conv-head_1x_coco', FASTER),
    'faster_rcnn_red50_neck_fpn': (
        'faster-rcnn_red50_fpn-inv-neck_conv-head_1x_coco',
        dict(FASTER, neck='involution'),
    ),
    'faster_rcnn_red50_neck_fpn_head': (
        'faster-rcnn_red50_fpn-inv-neck_inv-head_1x_coco',
        dict(FASTER, neck='involution', rpn_head='involution'),
    ),
    'mask_rcnn_red50_fpn': ('mask-rcnn_red50_fpn-conv-neck_conv-head_1x_coco', dict(FASTER, mask_head='conv')),
    'mask_rcnn_red50_neck_fpn': (
        'mask-rcnn_red50_fpn-inv-neck_conv-head_1x_coco',
        dict(FASTER, neck='involution', mask_head='conv'),
    ),
    'mask_rcnn_red50_neck_fpn_head': (
        'mask-rcnn_red50_fpn-inv-neck_inv-head_1x_coco',
        dict(FASTER, neck='involution', rpn_head='involution', mask_head='involution'),
    ),
    'retinanet_red50_fpn': ('retinanet_red50_fpn-conv-neck_1x_coco', RETINA),
    'retinanet_red50_neck_fpn': ('retinanet_red50_fpn-inv-neck_1x_coco', dict(RETINA, neck='involution')),
    'fpn_red50': ('fpn_red50_conv-neck_4xb2-80k_cityscapes-512x1024', FPN),
    'fpn_red50_neck': ('fpn_red50_inv-neck_4xb2-80k_cityscapes-512x1024', dict(FPN, neck='involution')),
    'upernet_red50': ('upernet_red50_conv-neck_4xb2-80k_cityscapes-512x1024', UPER),
}


def row(name):
    """A state dict of a row's keys and shapes that takes no memory."""
    return {key: torch.zeros(shape) for key, shape in golden.Case('involution', f'rows/{name}')['state']}


def shapes(state_dict):
    return {key: tuple(value.shape) for key, value in state_dict.items()}


def build(config, **backbone):
    cfg = Config.fromfile(ROOT / 'configs' / 'involution' / f'{config}.py')
    cfg.merge_from_dict(dict(model=dict(backbone=dict(backbone, init_cfg=None))))
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


def test_the_table_has_every_golden_row():
    assert sorted(ROWS) == golden.names('involution/rows', '*')


@pytest.mark.parametrize('name', ROWS)
def test_every_key_of_a_row(name):
    state = row(name)
    converted, report = convert(state, 'involution')
    assert report.dropped == {}
    assert report.missing == []
    assert report.mapped == {key: key for key in state}
    assert shapes(converted) == shapes(state)
    assert report.architecture == {**WIDTHS, 'depth': 50, 'stem_kernel': 7, **ROWS[name][1]}


@pytest.mark.parametrize('name', ROWS)
def test_a_row_fills_the_model_of_its_config(name):
    converted, report = convert(row(name), 'involution')
    with torch.device('meta'):
        model = build(ROWS[name][0], stem_kernel=report.architecture['stem_kernel'])
    assert shapes(model.state_dict()) == shapes(converted)


def test_depth_38_that_no_golden_row_has():
    with torch.device('meta'):
        model = build('rednet38_64xb32-130e_in1k')
    state = {key: torch.zeros(value.shape) for key, value in model.state_dict().items()}
    converted, report = convert(state, 'involution')
    assert (report.architecture['depth'], report.architecture['stem_kernel']) == (38, 7)
    assert shapes(converted) == shapes(state)


@pytest.mark.parametrize('name', golden.names('involution', 'rednet*_classifier'))
def test_golden_logits(name, tmp_path):
    case = golden.Case('involution', name)
    path = tmp_path / 'published.pth'
    meta = dict(mmcls_version='0.11.0', config='model = dict(type="ImageClassifier")', epoch=130, iter=81250)
    torch.save(dict(meta=meta, state_dict=case.state_dict(), optimizer={}), path)
    converted, report = convert(path, 'involution')
    assert report.architecture['depth'] == case['options']['depth']
    model = build(f'rednet{case["options"]["depth"]}_64xb32-130e_in1k', stem_kernel=report.architecture['stem_kernel'])
    model.load_state_dict(converted, strict=True)
    with torch.no_grad():
        for key, x in case.inputs().items():
            case.check(f'{key}/logits', model.eval()(x))
    case.check_complete()


def test_tensors_are_detached_and_unchanged():
    state = classifier()
    trained = {key: torch.nn.Parameter(value, value.is_floating_point()) for key, value in state.items()}
    converted, _ = convert(dict(state_dict={f'module.{key}': value for key, value in trained.items()}), 'involution')
    assert type(converted) is dict
    for key, value in state.items():
        assert type(converted[key]) is torch.Tensor
        assert not converted[key].requires_grad
        assert torch.equal(converted[key], value)


def test_backbone_alone_gets_the_prefix():
    state = {key.removeprefix('backbone.'): value for key, value in classifier().items() if key.startswith('backbone.')}
    converted, report = convert(state, 'involution')
    assert report.mapped == {key: f'backbone.{key}' for key in state}
    assert report.architecture['part'] == 'backbone alone'
    assert all(torch.equal(converted[f'backbone.{key}'], value) for key, value in state.items())


def test_options_that_widths_show():
    state = classifier(in_channels=4, avg_down=True, stem_kernel=5)
    _, report = convert(state, 'involution')
    assert report.architecture == dict(
        depth=26,
        stem_kernel=5,
        in_channels=4,
        stem_channels=32,
        base_channels=16,
        expansion=2,
        avg_down=True,
        head='LinearClsHead',
        num_classes=5,
    )


def test_averages_of_the_ema_hook_are_dropped():
    state = classifier()
    averages = {f'ema_{key.replace(".", "_")}': value for key, value in state.items() if key.endswith('weight')}
    converted, report = convert({**state, **averages}, 'involution')
    assert list(converted) == list(state)
    assert sorted(report.dropped) == sorted(averages)
    assert f'dropped  {len(averages)} keys: ema_' in str(report)
    assert 'EMAHook' in str(report)
    with pytest.raises(ConversionError, match='no place for 1 key: ema_neck_weight'):
        convert({**state, 'ema_neck_weight': torch.ones(1)}, 'involution')


def test_missing_keys():
    state = classifier()
    gone = ['head.fc.bias', 'backbone.layer3.3.bn3.weight']
    for key in gone:
        del state[key]
    with pytest.raises(ConversionError, match=r'lacks 2 keys: backbone\.layer3\.3\.bn3\.weight, head\.fc\.bias.*allow'):
        convert(state, 'involution')
    converted, report = convert(state, 'involution', allow_missing=True)
    assert sorted(report.missing) == sorted(gone)
    assert list(converted) == list(state)
    assert 'missing  2 keys: backbone.layer3.3.bn3.weight, head.fc.bias' in str(report)


def test_a_missing_last_block_is_no_smaller_network():
    state = {key: value for key, value in classifier().items() if not key.startswith('backbone.layer3.3.')}
    with pytest.raises(ConversionError, match=r'lacks 25 keys: backbone\.layer3\.3\.conv1\.weight.*depth=26'):
        convert(state, 'involution')


def test_unknown_keys_are_named():
    state = classifier()
    state.update({f'backbone.fc{i}.weight': torch.ones(1) for i in range(7)})
    with pytest.raises(
        ConversionError, match=r'mapping: .* no place for 7 keys: backbone\.fc0\.weight, .*, \.\.\.\. R'
    ):
        convert(state, 'involution', allow_missing=True)


def test_a_wrong_shape_is_named():
    state = classifier()
    state['backbone.layer2.1.conv2.conv2.conv.bias'] = torch.zeros(18)
    message = (
        r'shapes differ in 1 key: backbone\.layer2\.1\.conv2\.conv2\.conv\.bias \(\[18\], the network needs \[98\]'
    )
    with pytest.raises(ConversionError, match=message):
        convert(state, 'involution', allow_missing=True)


@pytest.mark.parametrize(
    ('name', 'key'),
    [
        ('mask_rcnn_red50_neck_fpn_head', 'roi_head.mask_head.conv_logits.bias'),
        ('mask_rcnn_red50_neck_fpn_head', 'roi_head.bbox_head.fc_reg.weight'),
        ('mask_rcnn_red50_neck_fpn_head', 'rpn_head.rpn_conv.conv2.conv.bias'),
        ('retinanet_red50_fpn', 'bbox_head.retina_reg.bias'),
        ('retinanet_red50_neck_fpn', 'neck.fpn_convs.4.conv.weight'),
        ('upernet_red50', 'auxiliary_head.conv_seg.weight'),
        ('upernet_red50', 'decode_head.fpn_bottleneck.conv.weight'),
        ('fpn_red50_neck', 'decode_head.scale_heads.3.4.bn.running_var'),
    ],
)
def test_parts_that_do_not_agree(name, key):
    state = row(name)
    state[key] = torch.zeros(7, *state[key].shape[1:])
    with pytest.raises(ConversionError, match=rf'shapes differ in 1 key: {key} \(\[7'):
        convert(state, 'involution')
    del state[key]
    with pytest.raises(ConversionError, match=key):
        convert(state, 'involution')


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        (['conv1.weight', 'layer1.0.conv2.weight', 'fc.bias'], r'looks like a ResNet .* \(it has layer1\.0\.conv2\.w'),
        (['backbone.layer1.0.conv2.weight'], r'looks like a ResNet .*a RedNet has backbone\.stem\.1\.conv2\.conv\.wei'),
        (['cls_token', 'patch_embed.proj.weight'], r'looks like a vision transformer \(it has cls_token\)'),
        (['encoder.weight'], r'no checkpoint of the involution project: it has 1 key: encoder\.weight'),
    ],
)
def test_another_architecture(keys, message):
    with pytest.raises(ConversionError, match=message):
        convert({key: torch.ones(1) for key in keys}, 'involution', allow_missing=True)


def test_too_many_blocks():
    state = classifier()
    state['backbone.layer4.3.conv1.weight'] = torch.ones(1)
    with pytest.raises(ConversionError, match=r'stages have \(1, 2, 4, 4\) blocks, which no RedNet has'):
        convert(state, 'involution')


@pytest.mark.parametrize(
    ('key', 'shape', 'message'),
    [
        ('stem.1.conv2.conv.weight', (16, 4, 1, 1), r'makes 16 maps for 16 channels .* k odd, needs 1 \* k \* k'),
        ('stem.1.conv2.conv.weight', (8, 4, 1, 1), 'makes 8 maps'),
        ('stem.4.conv.weight', (), r'stem\.4\.conv\.weight has shape \[\], and the architecture cannot be told'),
        ('stem.4.conv.weight', None, r'stem\.4\.conv\.weight is missing, and the architecture cannot be told'),
        ('layer1.0.conv1.weight', (24, 32, 1, 1), r'make no RedNet: channels=24 is not a multiple'),
    ],
)
def test_settings_that_cannot_be_read(key, shape, message):
    state = classifier()
    del state[f'backbone.{key}']
    if shape is not None:
        state[f'backbone.{key}'] = torch.zeros(shape)
    with pytest.raises(ConversionError, match=message):
        convert(state, 'involution', allow_missing=True)


def test_an_unknown_decode_head():
    state = row('fpn_red50')
    state = {key.replace('scale_heads', 'convs'): value for key, value in state.items()}
    with pytest.raises(ConversionError, match=r'decode_head is neither an FPNHead .* nor a UPerHead'):
        convert(state, 'involution')


def test_an_unknown_source_names_the_nearest():
    with pytest.raises(
        ConversionError, match=r"'involutoin' is unknown: did you mean 'involution'\? choose one of invo"
    ):
        convert({}, 'involutoin')
    assert list(SOURCES) == ['involution', 'ic-conv', 'ademxapp', 'psa']


def test_the_settings_build_the_backbone():
    state = classifier(stem_kernel=5)
    converted, report = convert(state, 'involution')
    options = {key: value for key, value in report.architecture.items() if key not in ('head', 'num_classes')}
    RedNet(**options).load_state_dict(
        {key.removeprefix('backbone.'): value for key, value in converted.items() if key.startswith('backbone.')}
    )
