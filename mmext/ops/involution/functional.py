"""The public involution function: checks, autocast, choice of backend."""

import torch

from .decomposed import involution_decomposed
from .library import involution_op

__all__ = ['involution', 'output_size']


def output_size(size, kernel_size, stride, padding, dilation):
    """Return the number of output rows (or columns) of a sliding window.

    Args:
        size (int): Input rows, in pixels.
        kernel_size (int): Window size in taps.
        stride (int): Step of the window in pixels.
        padding (int): Zeros added at each end, in pixels.
        dilation (int): Distance of neighbouring taps in pixels.

    Returns:
        int: Output rows; with ``padding = dilation * (kernel_size - 1) // 2`` that is ``ceil(size / stride)``.
    """
    return (size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1


def involution(x, weight, stride=1, padding=None, dilation=1, backend=None):
    r"""Aggregate a neighbourhood with a kernel of its own at every output position.

    .. math:: out[n, c, i, j] = \sum_{u,v} weight[n, g, u, v, i, j] \cdot x[n, c, i s - p + u d, j s - p + v d]

    with stride s, padding p, dilation d and group ``g = c // (C / G)``; pixels outside of ``x`` count as zero.
    Source: "Involution: Inverting the Inherence of Convolution for Visual Recognition" (CVPR 2021), section 3.

    Shapes: N images, C channels, G groups, K x K taps, H x W input pixels, Ho x Wo output pixels.

    Args:
        x (Tensor): Input [N, C, H, W], floating point, any device and memory format. N may be 0.
        weight (Tensor): Kernels [N, G, K, K, Ho, Wo] of the dtype and device of ``x``. K is odd and G divides C.
            Channel maps [N, G*K*K, Ho, Wo] are brought into this shape by ``maps.unflatten(1, (G, K, K))``.
        stride (int): Step of the window in pixels, at least 1. Default: 1.
        padding (int, optional): Zeros around ``x`` in pixels, at least 0. Default: None, that is
            ``dilation * (K - 1) // 2``, which gives ``Ho = ceil(H / stride)``.
        dilation (int): Distance of neighbouring taps in pixels, at least 1. Default: 1.
        backend (str, optional): Implementation to use; one that cannot run here raises. Default: None, that is
            the environment variable ``MMEXT_INVOLUTION_BACKEND``, else the first that can run.

    Returns:
        Tensor: [N, C, Ho, Wo]. Half precision is accumulated in float32. Differentiable in ``x`` and ``weight``.
        Under autocast both inputs are first cast to the autocast dtype. The backend is chosen when the operator runs,
        so that a compiled or exported program runs with what it finds then; ONNX gets standard operators.

    Raises:
        ValueError: If a shape, dtype, device or setting is not as above; the message gives the value seen and the
            values allowed. Also if ``backend`` or the environment variable names no backend.
        RuntimeError: If the named backend cannot run here; the message says why.

    Examples:
        >>> x = torch.rand(2, 32, 7, 7)
        >>> weight = torch.rand(2, 4, 3, 3, 7, 7)
        >>> involution(x, weight).shape
        torch.Size([2, 32, 7, 7])
    """
    for name, value, low in (('stride', stride, 1), ('dilation', dilation, 1), ('padding', padding, 0)):
        if name == 'padding' and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f'{name}={value!r}: an integer of at least {low} is needed')
    if x.dim() != 4 or weight.dim() != 6:
        raise ValueError(
            f'x has shape {list(x.shape)} and weight {list(weight.shape)}; x must be [N, C, H, W] and weight '
            '[N, G, K, K, Ho, Wo] (channel maps [N, G*K*K, Ho, Wo] by `.unflatten(1, (G, K, K))`)'
        )
    batch, channels, height, width = x.shape
    groups, kernel_size = weight.shape[1:3]
    if weight.shape[3] != kernel_size or kernel_size % 2 == 0:
        raise ValueError(
            f'weight has a kernel of {kernel_size} x {weight.shape[3]} taps in shape {list(weight.shape)}; kernels are '
            'square with an odd size (1, 3, 5, 7, ...)'
        )
    if groups == 0 or channels % groups:
        raise ValueError(f'channels={channels} of x are not divisible by groups={groups} of weight; choose a divisor')
    if padding is None:
        padding = dilation * (kernel_size - 1) // 2
    out = [output_size(size, kernel_size, stride, padding, dilation) for size in (height, width)]
    if min(out) < 1:
        raise ValueError(
            f'x of {height} x {width} pixels is smaller than the window of {dilation * (kernel_size - 1) + 1} pixels '
            f'with padding={padding}; use padding={dilation * (kernel_size - 1) // 2} or a larger input'
        )
    if list(weight.shape[4:]) != out or weight.shape[0] != batch:
        raise ValueError(
            f'weight has shape {list(weight.shape)}; x of shape {list(x.shape)} with stride={stride}, '
            f'padding={padding}, dilation={dilation} needs {[batch, groups, kernel_size, kernel_size, *out]}'
        )
    if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):  # meta has none
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    if not x.is_floating_point() or x.dtype != weight.dtype or x.device != weight.device:
        raise ValueError(
            f'x is {x.dtype} on {x.device}, weight is {weight.dtype} on {weight.device}; both must be of one floating '
            'point dtype on one device'
        )
    if torch.onnx.is_in_onnx_export():  # whose TorchScript form knows no decompositions of operators
        return involution_decomposed(x, weight, stride, padding, dilation)
    return involution_op(x, weight, stride, padding, dilation, backend or '')
