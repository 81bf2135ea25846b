import golden
import pytest
import torch

from mmext.models import InvolutionFPN


@pytest.mark.parametrize('name', golden.names('involution', 'fpn_*'))
def test_golden(name):
    case = golden.Case('involution', name)
    neck = InvolutionFPN(**case['options'], extra_convs_on_inputs='_det_' in name)
    assert [(key, tuple(value.shape)) for key, value in neck.state_dict().items()] == case.keys_and_shapes()
    case.load(neck)
    with torch.no_grad():
        outs = neck(list(case.inputs().values()))
    assert len(outs) == case['options']['num_outs']
    for level, out in enumerate(outs):
        case.check(f'out{level}', out)
    case.check_complete()


def test_convolutions_start_as_xavier():
    neck = InvolutionFPN([64, 64], 64, 2)
    neck.init_weights()
    weight = neck.fpn_convs[0].conv2.conv.weight  # uniform on +-sqrt(6 / (fan in + fan out))
    bound = (6 / (16 + 196)) ** 0.5
    assert 0.95 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_options_of_the_toolboxes():
    neck = InvolutionFPN(
        [16, 32, 64],
        32,
        num_outs=2,
        end_level=1,
        norm_cfg=dict(type='GN', num_groups=4),
        act_cfg=dict(type='ReLU'),
        no_norm_on_lateral=True,
        upsample_cfg=dict(scale_factor=2, mode='bilinear'),
    )
    outs = neck([torch.rand(1, c, s, s) for c, s in ((16, 16), (32, 8), (64, 4))])
    assert [tuple(out.shape) for out in outs] == [(1, 32, 16, 16), (1, 32, 8, 8)]
    assert not neck.lateral_convs[0].with_norm
    assert isinstance(neck.fpn_convs[0].conv1.bn, torch.nn.BatchNorm2d)


@pytest.mark.parametrize('source', ['on_input', 'on_lateral', 'on_output'])
def test_source_of_extra_levels(source):
    neck = InvolutionFPN([16, 32], 16, num_outs=4, add_extra_convs=source)
    assert neck.fpn_convs[2].conv.in_channels == (32 if source == 'on_input' else 16)
    outs = neck([torch.rand(2, 16, 8, 8), torch.rand(2, 32, 4, 4)])
    assert [out.shape[-1] for out in outs] == [8, 4, 2, 1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_outs=2), 'num_outs=2 must be at least 3'),
        (dict(num_outs=3, end_level=1), 'num_outs=3 must be exactly 2'),
        (dict(num_outs=3, start_level=3), 'start_level=3 and end_level=-1'),
        (dict(num_outs=3, end_level=7), 'end_level=7'),
        (dict(num_outs=5, add_extra_convs='on_top'), "add_extra_convs='on_top' must be a bool or one of"),
        (dict(num_outs=3, out_channels=24), 'channels=24 is not a multiple of group_channels=16'),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        InvolutionFPN(**{**dict(in_channels=[16, 32, 64], out_channels=32), **options})


def test_wrong_number_of_maps():
    neck = InvolutionFPN([16, 16], 16, 2)
    with pytest.raises(ValueError, match=r'1 feature maps came in, in_channels=\[16, 16\] expects 2'):
        neck([torch.rand(1, 16, 4, 4)])
