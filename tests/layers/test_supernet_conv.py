import pytest
import torch
from torch import nn

from mmext.layers import InceptionConv2d, SupernetConv2d


@pytest.mark.parametrize(
    'options',
    [
        dict(kernel_size=3, padding=1),
        dict(kernel_size=(3, 3), padding=(1, 1), stride=2, bias=False),
        dict(kernel_size=5, padding=2, groups=3),
        dict(kernel_size=3, padding=2, dilation=2),
        dict(kernel_size=3, padding=0, stride=(2, 1)),
        dict(kernel_size=1),
    ],
)
@pytest.mark.parametrize('max_dilation', [1, 2, 4])
@pytest.mark.parametrize('size', [(13, 14), (5, 16)])
def test_starts_as_the_ordinary_convolution(options, max_dilation, size):
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 12, **options)
    supernet = SupernetConv2d(6, 12, **options, max_dilation=max_dilation)
    side = (plain.kernel_size[0] - 1) * max_dilation + 1
    assert supernet.weight.shape == (*plain.weight.shape[:2], side, side)
    supernet.load_state_dict(plain.state_dict())
    x = torch.rand(2, 6, *size)
    torch.testing.assert_close(supernet(x), plain(x), rtol=1e-6, atol=1e-6)


def test_one_dilation_alone_is_that_of_an_inception_convolution():
    torch.manual_seed(0)
    layer = SupernetConv2d(4, 6, 3, padding=2, dilation=2, stride=2, max_dilation=3)
    inception = InceptionConv2d(4, 6, 3, stride=2, dilation=2, pattern=[(3, 2, 6)])
    inception.bias.data.copy_(layer.bias.data)
    weight = torch.zeros_like(layer.weight)
    weight[:, :, 0::3, 1:6:2] = inception.weight.data
    layer.weight.data.copy_(weight)
    x = torch.rand(1, 4, 17, 15)
    torch.testing.assert_close(layer(x), inception(x))


def test_its_own_weights_load_and_others_do_not():
    layer = SupernetConv2d(4, 6, 3, padding=1, max_dilation=3)
    other = SupernetConv2d(4, 6, 3, padding=1, max_dilation=3)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)
    before = other.weight.detach().clone()
    for wrong in (SupernetConv2d(4, 6, 3, max_dilation=2), nn.Conv2d(4, 6, 5), nn.Conv2d(5, 6, 3)):
        with pytest.raises(RuntimeError, match='size mismatch for weight'):
            other.load_state_dict(wrong.state_dict())
        assert torch.equal(other.weight, before)


@pytest.mark.parametrize('value', [0, -1, 17, 2.0, True, None])
def test_bad_max_dilation(value):
    with pytest.raises(ValueError, match='integer from 1 to 16'):
        SupernetConv2d(3, 8, 3, max_dilation=value)


@pytest.mark.parametrize('kernel', [2, 4, (3, 5), (1, 3)])
def test_bad_kernel(kernel):
    with pytest.raises(ValueError, match='square kernels of odd size'):
        SupernetConv2d(3, 8, kernel, max_dilation=2)


def test_padding_in_words():
    with pytest.raises(ValueError, match="padding='same'"):
        SupernetConv2d(3, 8, 3, padding='same', max_dilation=2)


def test_settings_are_printed():
    assert 'kernel_size=(9, 9)' in repr(SupernetConv2d(3, 8, 3, max_dilation=4))
    assert 'max_dilation=4' in repr(SupernetConv2d(3, 8, 3, max_dilation=4))
