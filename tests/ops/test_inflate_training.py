"""Gradients of the operators of clips in the forms that the CPU takes, against PyTorch's own."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmext.ops.inflate import InflatedConv3d, activation, one_dnn
from mmext.ops.inflate.activation import activated, activated_and_pooled
from mmext.ops.inflate.pooled_parts import pooled_in_parts

LAST = torch.channels_last_3d
RELU = nn.ReLU(inplace=True)
CONVS = {
    'one pixel': dict(kernel_size=1),
    'one pixel, stride': dict(kernel_size=1, stride=2),
    'bias': dict(kernel_size=3, padding=1, bias=True),
    'groups': dict(kernel_size=3, padding=1, groups=2),
    'stride': dict(kernel_size=3, padding=1, stride=(2, 1, 2), dilation=(1, 2, 1)),
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
    assert results[0][1].is_contiguous(memory_format=LAST)


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


def parts(kind):
    """A convolution, its norm with weights of its own, and a clip."""
    conv = InflatedConv3d(8, 16, 1, bias=False) if kind == 'pixels' else InflatedConv3d(8, 16, 3, padding=1, bias=False)
    norm = nn.BatchNorm3d(16)
    nn.init.uniform_(norm.weight, -1, 1)
    nn.init.normal_(norm.bias)
    return conv, norm, torch.randn(2, 8, 5, 9, 8) + 0.5


def results_of(function, conv, norm, tensors, monkeypatch, joined):
    """Result, gradients and statistics of a function, joined or as separate modules."""
    if not joined:
        monkeypatch.setattr(activation, '_trains_here', lambda *args: False)
    norm.reset_running_stats()
    tensors = [tensor.detach().contiguous(memory_format=LAST).requires_grad_() for tensor in tensors]
    out = function(*tensors)
    inputs = (*tensors, *conv.parameters(), *norm.parameters())
    grad = torch.linspace(-1, 1, out.numel()).view(out.shape)
    first = torch.autograd.grad(out, inputs, grad, retain_graph=True)
    (again,) = torch.autograd.grad(out, tensors[0], grad * out.detach(), create_graph=True)
    second = torch.autograd.grad(again.square().sum(), (tensors[0], *conv.parameters(), norm.weight), allow_unused=True)
    monkeypatch.undo()
    buffers = [buffer.clone() for buffer in norm.buffers()]
    return [out.detach(), *first, *[value for value in second if value is not None], *buffers], out


@pytest.mark.parametrize('kind', ['pixels', 'taps'])
@pytest.mark.parametrize('with_other', [False, True])
@pytest.mark.parametrize('chunk', [64, 2**19])
def test_norm_sum_and_relu_join(kind, with_other, chunk, monkeypatch):
    conv, norm, x = parts(kind)
    tensors = (x, torch.randn(2, 16, 5, 9, 8)) if with_other else (x,)
    found = []
    for joined in (True, False):
        if joined:
            monkeypatch.setattr(activation, 'CHUNK', chunk)
        values, out = results_of(
            lambda x, other=None: activated(x, conv, norm, RELU, other), conv, norm, tensors, monkeypatch, joined
        )
        found.append(values)
        assert ('NormReLU' in type(out.grad_fn).__name__) == joined
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found):
        close(one, other, 2e-5)


def test_pooling_joins(monkeypatch):
    conv, norm, x = parts('taps')
    pool = nn.MaxPool3d(3, (2, 2, 2), 1)
    found = []
    for joined in (True, False):
        values, out = results_of(
            lambda x: activated_and_pooled(x, conv, norm, RELU, pool), conv, norm, (x,), monkeypatch, joined
        )
        found.append(values)
        assert ('NormReLUPool' in type(out.grad_fn).__name__) == joined
    for one, other in zip(*found):
        close(one, other, 2e-5)


def test_a_window_of_zeros_has_no_gradient():
    conv, norm, x = parts('pixels')
    nn.init.constant_(norm.bias, -9)
    x = x.contiguous(memory_format=LAST).requires_grad_()
    out = activated_and_pooled(x, conv, norm, RELU, nn.MaxPool3d(2))
    assert not out.any()
    out.sum().backward()
    assert not x.grad.any()
    assert not norm.bias.grad.any()


def test_modules_with_hooks_are_called():
    conv, norm, x = parts('pixels')
    seen = []
    for module in (conv, norm):
        module.register_forward_hook(lambda module, args, out: seen.append(type(module)))
    activated(x.contiguous(memory_format=LAST), conv, norm, RELU)
    assert seen == [InflatedConv3d, nn.BatchNorm3d]


@pytest.mark.parametrize(
    'change',
    [
        lambda norm: norm.eval(),
        lambda norm: setattr(norm, 'momentum', None),
        lambda norm: norm.register_parameter('weight', None),
    ],
)
def test_other_norms_stay_modules(change):
    conv, norm, x = parts('taps')
    change(norm)
    if norm.weight is None:
        norm.affine = False
        norm.register_parameter('bias', None)
    x = x.contiguous(memory_format=LAST)
    out = activated(x, conv, norm, RELU)
    torch.testing.assert_close(out, norm(conv(x)).relu())
    assert 'NormReLU' not in type(out.grad_fn).__name__


def test_frozen_weights_get_no_gradient():
    conv, norm, x = parts('pixels')
    for parameter in (conv.weight, norm.weight):
        parameter.requires_grad_(False)
    out = activated(x.contiguous(memory_format=LAST), conv, norm, RELU)
    out.sum().backward()
    assert conv.weight.grad is None
    assert norm.weight.grad is None
    assert norm.bias.grad is not None


def test_without_onednn(monkeypatch):
    """Another PyTorch may lack the names that are called here."""
    conv, norm, x = parts('taps')
    x = x.contiguous(memory_format=LAST)
    expected = activated(x, conv, norm.eval(), RELU).detach()
    monkeypatch.setattr(torch._C, '_select_conv_backend', None, raising=False)
    x = x.requires_grad_()
    close(torch.autograd.grad(conv(x).sum(), x)[0], torch.autograd.grad(plain(conv, x).sum(), x)[0])
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    assert not one_dnn.runs_here(x, conv.weight)
    torch.testing.assert_close(activated(x, conv, norm, RELU).detach(), expected)


@pytest.mark.parametrize('layout', [torch.contiguous_format, LAST])
def test_repeated_frames_keep_the_layout(layout):
    conv = InflatedConv3d(4, 6, 3, padding=1, temporal_padding_mode='replicate')
    x = torch.randn(2, 4, 5, 6, 7).contiguous(memory_format=layout)
    assert conv(x).is_contiguous(memory_format=layout)
    close(conv(x).detach(), plain(conv, x).detach())


@pytest.mark.parametrize('kernel', [1, 3, 5])
@pytest.mark.parametrize('along_time', [(1, 1, 0), (3, 2, 1)])
@pytest.mark.parametrize('frames', [1, 2, 3, 6, 7])
def test_pooling_in_parts(kernel, along_time, frames):
    conv = InflatedConv3d(3, 8, (kernel, 5, 5), (1, 2, 2), (kernel // 2, 2, 2))
    size, stride, padding = along_time
    pool = nn.MaxPool3d((size, 3, 2), (stride, 2, 1), (padding, 1, 0))
    x = torch.randn(2, 3, frames, 15, 13).contiguous(memory_format=LAST)
    with torch.no_grad():
        found = pooled_in_parts(x, conv, pool)
        close(found, pool(plain(conv, x).relu()))
    assert found.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize(
    ('conv', 'pool'),
    [
        (dict(stride=(2, 1, 1)), {}),
        (dict(padding=(0, 1, 1)), {}),
        (dict(temporal_padding_mode='replicate'), {}),
        ({}, dict(stride=(3, 2, 2))),
        ({}, dict(dilation=2)),
        ({}, dict(ceil_mode=True)),
    ],
)
def test_other_stems_are_pooled_whole(conv, pool):
    conv = InflatedConv3d(3, 8, 3, **{'padding': 1, **conv})
    pool = nn.MaxPool3d(**{'kernel_size': 3, 'stride': 2, 'padding': 1, **pool})
    x = torch.randn(2, 3, 6, 15, 13).contiguous(memory_format=LAST)
    with torch.no_grad():
        assert pooled_in_parts(x, conv, pool) is None
        close(activated_and_pooled(x, conv, nn.Identity(), RELU, pool), pool(plain(conv, x).relu()))
