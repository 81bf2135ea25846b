"""oneDNN's convolution of clips on the CPU, called by its own names.

``F.conv3d`` and its gradients take oneDNN for large clips only, and hand on another layout where they do not, which
slows down all that follows. For inference, what follows a convolution (a sum, a ReLU) is done while its result is still
in cache, and weights are packed once.
"""

import weakref

import torch

from .memory import pixels_of

__all__ = ['convolve', 'infer', 'multiply', 'runs_here']

_PACKED = weakref.WeakKeyDictionary()  # not attributes: packed weights can be neither copied nor saved


def runs_here(x, weight):
    """Return whether the convolution of a clip can be done here: on a CPU, outside of tracers and autocast.

    Args:
        x (Tensor): [N, C, T, H, W].
        weight (Tensor): [out, in / groups, t, h, w].

    Returns:
        bool: True where ``x`` is in ``torch.channels_last_3d`` and PyTorch has the operators.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and x.device.type == weight.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last_3d)
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled('cpu')
    )


def convolve(x, conv, padding):
    """Convolve a clip, with gradients.

    Args:
        x (Tensor): [N, C, T, H, W], as :func:`runs_here` wants it.
        conv (nn.Conv3d): Weight, bias, stride, dilation, groups.
        padding (tuple[int, int, int]): Zeros around frames and pictures.

    Returns:
        Tensor: [N, out_channels, T', H', W'] in ``torch.channels_last_3d``.
    """
    return _Convolution.apply(x, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups)


def multiply(x, weight):
    """Convolve single pixels of a clip, without gradients.

    Args:
        x (Tensor): As of :func:`convolve`.
        weight (Tensor): [out_channels, C, 1, 1, 1].

    Returns:
        Tensor: [N, out_channels, T, H, W] in ``torch.channels_last_3d``.
    """
    return torch.ops.aten.mkldnn_convolution(x, weight, None, (0, 0, 0), (1, 1, 1), (1, 1, 1), 1)


class _Convolution(torch.autograd.Function):
    """oneDNN's convolution with gradients in the clip's layout, whatever its size."""

    @staticmethod
    def forward(x, weight, bias, stride, padding, dilation, groups):
        return torch.ops.aten.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, bias, *ctx.settings = inputs
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        stride, padding, _, groups = ctx.settings
        if weight[0, 0].numel() == groups == 1 and set(stride) == {1} and not any(padding):
            found = _pointwise_gradients(grad, x, weight, wanted)
        else:
            found = _gradients(grad, x, weight, ctx.bias_sizes, ctx.settings, wanted)
        return *found, None, None, None, None


def _pointwise_gradients(grad, x, weight, wanted):
    """Return the gradients of a convolution of single pixels, which is a product of matrices."""
    found = [None, None, None]
    pixels, out_pixels = pixels_of(x), pixels_of(grad)
    if wanted[0]:
        found[0] = (out_pixels @ weight.flatten(1)).view(*x.shape[:1], *x.shape[2:], -1).movedim(-1, 1)
    if wanted[1]:
        found[1] = (out_pixels.T @ pixels).view_as(weight)
    if wanted[2]:
        found[2] = out_pixels.sum(0)
    return found


def _gradients(grad, x, weight, bias_sizes, settings, wanted):
    """Return PyTorch's gradients of any convolution, calculated by oneDNN."""
    stride, padding, dilation, groups = settings
    rest = bias_sizes, stride, padding, dilation, False, [0, 0, 0], groups
    backward = torch.ops.aten.convolution_backward
    if torch.is_grad_enabled() or _takes_one_dnn(x, weight, rest):  # enabled: for gradients of gradients
        return backward(grad, x, weight, *rest, wanted)
    found = backward(grad.to_mkldnn(), x.to_mkldnn(), weight, *rest, wanted)
    dense = [value.to_dense() if value is not None and value.is_mkldnn else value for value in found]
    if wanted[0]:
        dense[0] = dense[0].contiguous(memory_format=torch.channels_last_3d)
    return dense


def _takes_one_dnn(x, weight, settings):
    """Say whether PyTorch calculates the gradients of a convolution by oneDNN without being made to."""
    select = getattr(torch._C, '_select_conv_backend', None)
    if select is None:
        return True
    bias_sizes, *rest = settings
    return select(x, weight, None, *rest, bias_sizes) == torch._C._ConvBackend.Mkldnn


def infer(x, conv, padding, activate=False, other=None):
    """Convolve a clip, add another one, cut off what is below zero; without gradients.

    Args:
        x (Tensor): As of :func:`convolve`.
        conv (nn.Conv3d): As of :func:`convolve`.
        padding (tuple[int, int, int]): As of :func:`convolve`.
        activate (bool): Whether to cut off. Default: False.
        other (Tensor, optional): What to add before that, of the result's shape; needs ``activate``. Default: None.

    Returns:
        Tensor: As of :func:`convolve`.
    """
    pointwise = getattr(torch.ops.mkldnn, '_convolution_pointwise', None)
    if pointwise is None:  # in this PyTorch
        out = convolve(x, conv, padding)
        out = out if other is None else out.add_(other)
        return out.relu_() if activate else out
    settings = list(padding), list(conv.stride), list(conv.dilation), conv.groups
    weight = _packed(conv, settings, list(x.shape))
    if other is None:
        return pointwise(x, weight, conv.bias, *settings, 'relu' if activate else 'none', [], '')
    return pointwise.binary(x, other, weight, conv.bias, *settings, 'add', 1.0, 'relu', [], '')


def _packed(conv, settings, shape):
    """Return a convolution's weight as oneDNN wants it for clips of this shape, kept where it cannot change unseen."""
    weight = conv.weight
    if weight.requires_grad or weight.is_inference():  # a hook may write to it past its version; it has none
        return weight
    key = (weight.data_ptr(), weight._version, *shape, *settings[0])
    found = _PACKED.get(conv)
    if found is None or found[0] != key:
        found = key, torch.ops.mkldnn._reorder_convolution_weight(weight, *settings, shape)
        _PACKED[conv] = found
    return found[1]
