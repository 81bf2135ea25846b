"""Gradients of the convolution of clips in the forms that the CPU takes, against PyTorch's own."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from mmext.ops.inflate import InflatedConv3d

LAST = torch.channels_last_3d
CONVS = {
    'one pixel': dict(kernel_size=1),
    'one pixel, stride': dict(kernel_size=1, stride=2),
    'bias': dict(kernel_size=3, padding=1, bias=True),
    'groups': dict(kernel_size=3, padding=1, groups=2),
    'stride': dict(kernel_size=3, padding=1, stride=(2, 1, 2), dilation=(1, 2, 1)),
    'one frame, padded in time': dict(kernel_size=(1, 3, 3), padding=(1, 1, 1)),
    'one frame, padded in time alone': dict(kernel_size=1, padding=(1, 0, 0)),
    'stem': dict(kernel_size=(3, 7, 7), padding=(1, 3, 3), stride=(1, 2, 2)),
    'repeated frames': dict(kernel_size=(5, 3, 3), padding=(2, 1, 1), temporal_padding_mode='replicate'),
}


def plain(conv, x):
    """The convolution in float64, worked out in PyTorch's usual layout."""
    weight, bias = (None if value is None else value.double() for value in (conv.weight, conv.bias))
    x, padding = x.double(), conv.padding
    if conv.temporal_padding_mode == 'replicate':
        x, padding = F.pad(x, (0, 0, 0, 0, padding[0], padding[0]), mode='replicate'), (0, *padding[1:])
    return F.conv3d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)


def close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    assert (found.double() - expected.double()).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize('name', CONVS)
@pytest.mark.parametrize('size', [(1, 1, 5, 4), (1, 4, 6, 7), (2, 3, 9, 8)])
def test_convolution(name, size):
    conv = InflatedConv3d(4, 6, **{'bias': False, **CONVS[name]})
    n, *sizes = size
    x = torch.randn(n, 4, *sizes)
    results = []
    for function in (conv, lambda x: plain(conv, x)):
        x = x.detach().contiguous(memory_format=LAST).requires_grad_()
        out = function(x)
        grad = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
        results.append((out, *torch.autograd.grad(out, (x, *conv.parameters()), grad)))
    for found, expected in zip(*results):
        close(found, expected)
    assert results[0][0].is_contiguous(memory_format=LAST)


@pytest.mark.parametrize('name', ['one pixel', 'bias'])
def test_gradients_of_gradients(name):
    conv = InflatedConv3d(4, 6, **CONVS[name])
    x = torch.randn(1, 4, 3, 5, 4).contiguous(memory_format=LAST).requires_grad_()
    results = []
    for function in (conv, lambda x: plain(conv, x)):
        (first,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), (x, conv.weight)))
    for found, expected in zip(*results):
        close(found, expected)


@pytest.mark.parametrize(('kernel', 'stride'), [((3, 7, 7), (1, 2, 2)), (3, 1), (3, 2), ((5, 3, 3), 1)])
def test_low_precision_of_short_clips(kernel, stride):
    """Where a kernel is as long as the clip, oneDNN's gradient of the weight is made of memory never written."""
    padding = [size // 2 for size in (kernel if isinstance(kernel, tuple) else (kernel,) * 3)]
    conv = InflatedConv3d(16, 16, kernel, stride, padding, bias=False)
    for frames, size, layout in itertools.product((1, 2, 3, 4, 5), (1, 2, 9), (torch.contiguous_format, LAST)):
        results = []
        start = torch.rand(2, 16, frames, size, size)
        for low in (True, False):
            x = start.contiguous(memory_format=layout).requires_grad_()
            with torch.autocast('cpu', torch.bfloat16, enabled=low):
                out = conv(x)
            grad = torch.linspace(0, 1, out.numel()).view(out.shape).to(out.dtype)
            results.append((out, *torch.autograd.grad(out, (x, conv.weight), grad)))
        assert results[0][0].dtype == torch.bfloat16
        for found, expected in zip(*results):
            close(found, expected, 0.03)


@pytest.mark.parametrize('layout', [torch.contiguous_format, LAST])
def test_repeated_frames_keep_the_layout(layout):
    conv = InflatedConv3d(4, 6, 3, padding=1, temporal_padding_mode='replicate')
    x = torch.randn(2, 4, 5, 6, 7).contiguous(memory_format=layout)
    assert conv(x).is_contiguous(memory_format=layout)
    close(conv(x).detach(), plain(conv, x).detach())


@pytest.mark.parametrize(('taps', 'dilation', 'padding'), [(2, 2, 1), (4, 2, 3), (3, 1, 1), (3, 2, 2), (5, 1, 2)])
def test_single_frames(taps, dilation, padding):
    """Only the middle tap of an odd number of them sees the frame."""
    conv = InflatedConv3d(4, 6, (taps, 3, 3), dilation=(dilation, 1, 1), padding=(padding, 1, 1))
    x = torch.randn(2, 4, 1, 5, 6)
    close(conv(x).detach(), plain(conv, x).detach())


@pytest.mark.parametrize('frames', [1, 2, 3])
def test_clips_that_are_too_short(frames):
    conv = InflatedConv3d(4, 6, (3, 3, 3), padding=(0, 1, 1), dilation=(2, 1, 1))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        conv(torch.randn(1, 4, frames, 6, 6).contiguous(memory_format=LAST))


@pytest.mark.parametrize(
    'change',
    [
        lambda conv: setattr(conv, 'padding_mode', 'circular'),
        lambda conv: setattr(conv, 'stride', 2),
        lambda conv: (setattr(conv, 'padding', 2), setattr(conv, 'dilation', 2)),
        lambda conv: setattr(conv, 'padding', 'same'),
        lambda conv: setattr(conv, '_conv_forward', lambda x, weight, bias: F.conv3d(x, weight.sign(), bias)),
    ],
)
def test_changes_that_plain_convolutions_know(change):
    conv, other = InflatedConv3d(4, 6, 3, padding=1), torch.nn.Conv3d(4, 6, 3, padding=1)
    other.load_state_dict(conv.state_dict())
    change(conv), change(other)
    for layout in (torch.contiguous_format, LAST):
        x = torch.randn(1, 4, 5, 6, 7).contiguous(memory_format=layout)
        close(conv(x).detach(), other(x).detach())


def test_other_padding_beside_repeated_frames():
    conv = InflatedConv3d(4, 6, 3, padding=1, temporal_padding_mode='replicate')
    conv.padding_mode = 'circular'
    with pytest.raises(
        ValueError, match=r'is not possible with temporal_padding_mode=.replicate.; set that to "zeros"'
    ):
        conv(torch.randn(1, 4, 5, 6, 7))
