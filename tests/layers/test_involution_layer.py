import golden
import pytest
import torch

from mmext.layers import Involution


def build(options):
    return Involution(
        options['channels'],
        options['kernel_size'],
        options['stride'],
        group_channels=options['group_channels'],
        reduction_ratio=options['reduction_ratio'],
    )


@pytest.mark.parametrize('name', golden.names('involution', 'module_*'))
def test_golden(name):
    case = golden.Case('involution', name)
    layer = build(case['options'])
    assert [(key, tuple(value.shape)) for key, value in layer.state_dict().items()] == case.keys_and_shapes()
    case.load(layer)
    inputs = case.inputs()
    x = inputs['x'].requires_grad_()
    out = layer(x)
    out.backward(inputs['grad_out'])
    case.check('out', out)
    case.check('grad_x', x.grad)
    for key, parameter in layer.named_parameters():
        case.check(f'grad/{key}', parameter.grad)
    if 'out_train' in case['outputs']:
        case.check('out_train', layer.train()(x))
        case.check('running_mean_after', layer.conv1.bn.running_mean)
        case.check('running_var_after', layer.conv1.bn.running_var)
    case.check_complete()


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('size', [(7, 9), (8, 5), (1, 1)])
def test_any_size_rounds_up(size, stride):
    layer = Involution(16, 7, stride).eval()
    expected = [-(-n // stride) for n in size]
    assert list(layer(torch.rand(2, 16, *size)).shape[2:]) == expected


def test_odd_sizes_pool_only_pixels_that_exist():
    layer = Involution(16, 3, 2).eval()
    x = torch.rand(1, 16, 5, 5)
    pooled = layer.avgpool(x)
    torch.testing.assert_close(pooled[0, :, 2, 2], x[0, :, 4, 4])
    torch.testing.assert_close(pooled[0, :, 0, 2], x[0, :, :2, 4].mean(1))


def test_dilation_reaches_further():
    layer = Involution(16, 3, dilation=2).eval()
    x = torch.zeros(1, 16, 9, 9, requires_grad=True)
    layer(x + 1)[0, 0, 4, 4].backward()
    reached = x.grad[0, 0].nonzero().tolist()
    assert [2, 2] in reached
    assert [6, 6] in reached
    assert [3, 3] not in reached


def test_norm_is_a_parameter():
    layer = Involution(32, 3, norm_cfg=dict(type='GN', num_groups=4))
    assert isinstance(layer.conv1.gn, torch.nn.GroupNorm)
    assert isinstance(Involution(32, 3).conv1.bn, torch.nn.BatchNorm2d)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(channels=72, kernel_size=7), 'channels=72 is not a multiple of group_channels=16'),
        (dict(channels=64, kernel_size=4), 'kernel_size=4: .* odd'),
        (dict(channels=64, kernel_size=-3), 'kernel_size=-3'),
        (dict(channels=64, kernel_size=3, reduction_ratio=65), r'reduction_ratio=65 must be in 1\.\.64'),
        (dict(channels=64, kernel_size=3, stride=0), 'stride=0'),
        (dict(channels=64, kernel_size=3, dilation=0), 'dilation=0 must be at least 1'),
        (dict(channels=64, kernel_size=3, group_channels=0), 'multiple of group_channels=0'),
        (dict(channels=64, kernel_size=3, group_channels=-16), 'multiple of group_channels=-16'),
        (dict(channels=0, kernel_size=3), 'channels=0 is not a multiple'),
        (dict(channels=64, kernel_size=3, reduction_ratio=0), r'reduction_ratio=0 must be in 1\.\.64'),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        Involution(**options)
