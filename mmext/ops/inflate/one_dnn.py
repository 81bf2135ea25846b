"""oneDNN's convolution of clips on the CPU, called by its own names.

``F.conv3d`` takes oneDNN for large clips only and hands on another layout where it does not. For inference, what
follows a convolution (a sum, a ReLU) is done while its result is still in cache, and weights are packed once.
"""

import weakref

import torch

__all__ = ['convolve', 'convolve_and_activate', 'runs_here']

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
        x.device.type == weight.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last_3d)
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
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
    return torch.ops.aten.mkldnn_convolution(
        x, conv.weight, conv.bias, padding, conv.stride, conv.dilation, conv.groups
    )


def convolve_and_activate(x, conv, padding, other=None):
    """Convolve a clip, add another one, and cut off what is below zero; without gradients.

    Args:
        x (Tensor): As of :func:`convolve`.
        conv (nn.Conv3d): As of :func:`convolve`.
        padding (tuple[int, int, int]): As of :func:`convolve`.
        other (Tensor, optional): What to add, of the result's shape. Default: None.

    Returns:
        Tensor or None: As of :func:`convolve`; None if this PyTorch lacks the operators.
    """
    pointwise = getattr(torch.ops.mkldnn, '_convolution_pointwise', None)
    if pointwise is None:
        return None
    settings = list(padding), list(conv.stride), list(conv.dilation), conv.groups
    weight = _packed(conv, settings, list(x.shape))
    if other is None:
        return pointwise(x, weight, conv.bias, *settings, 'relu', [], '')
    return pointwise.binary(x, other, weight, conv.bias, *settings, 'add', 1.0, 'relu', [], '')


def _packed(conv, settings, shape):
    """Return a convolution's weight as oneDNN wants it for clips of this shape, kept where it cannot change unseen."""
    weight = conv.weight
    if weight.requires_grad:  # a hook may write to it past its version
        return weight
    key = (weight.data_ptr(), weight._version, *shape, *settings[0])
    found = _PACKED.get(conv)
    if found is None or found[0] != key:
        found = key, torch.ops.mkldnn._reorder_convolution_weight(weight, *settings, shape)
        _PACKED[conv] = found
    return found[1]
