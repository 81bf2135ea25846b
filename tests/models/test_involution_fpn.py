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


@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize(
    ('options', 'source'),
    [
        (dict(add_extra_convs='on_input'), 'on_input'),
        (dict(add_extra_convs='on_lateral'), 'on_lateral'),
        (dict(add_extra_convs='on_output'), 'on_output'),
        (dict(add_extra_convs=True), 'on_input'),
        (dict(add_extra_convs=True, extra_convs_on_inputs=False), 'on_output'),
        (dict(), 'pooling'),
    ],
)
def test_outputs_by_hand(options, source, relu):
    """Laterals from coarse to fine, an involution on each, and further levels from what the options say."""
    neck = InvolutionFPN([8, 16, 16], 16, 5, start_level=1, relu_before_extra_convs=relu, **options).eval()
    inputs = [torch.randn(1, channels, side, side + 3) for channels, side in ((8, 18), (16, 9), (16, 5))]
    with torch.no_grad():
        outs = neck(inputs)
        coarse = neck.lateral_convs[1](inputs[2])
        rows, columns = (torch.arange(n) * m // n for n, m in ((9, 5), (12, 8)))  # the nearest pixel
        fine = neck.lateral_convs[0](inputs[1]) + coarse[:, :, rows][..., columns]
        expected = [neck.fpn_convs[0](fine), neck.fpn_convs[1](coarse)]
        start = dict(on_input=inputs[2], on_lateral=coarse, on_output=expected[1])
        for number in range(2, 5):
            if source == 'pooling':
                expected.append(expected[-1][..., ::2, ::2])
            else:
                taken = start[source] if number == 2 else expected[-1].clamp(min=0) if relu else expected[-1]
                expected.append(neck.fpn_convs[number](taken))
    for out, other in zip(outs, expected, strict=True):
        torch.testing.assert_close(out, other)
    assert [tuple(out.shape[2:]) for out in outs] == [(9, 12), (5, 8), (3, 4), (2, 2), (1, 1)]


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
