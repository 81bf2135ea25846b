"""The public inception convolution: checks, choice between the compiled operator and ordinary convolutions."""

import itertools

import torch
from torch.overrides import handle_torch_function, has_torch_function

from mmext.ops.guard import asked_for, why_not_compiled

from . import library, reference
from .backends import BACKENDS, ENV_VARIABLE, pick_backend, why_not_cpu
from .checks import check_pattern, check_strides, check_tensors, hashable

__all__ = ['BACKENDS', 'ENV_VARIABLE', 'inception_conv2d', 'why_not_cpu']


def inception_conv2d(x, weight, bias, pattern, stride=1, groups=1, backend=None):
    r"""Convolve, with a dilation of its own for every output channel.

    .. math:: out[n, o, i, j] = bias[o] + \sum_{c,u,v} weight[o, c, u, v] \cdot x[n, c, i s - r + u d, j s - r' + v d']

    with stride s, where output channel o has dilation (d, d') by its run in ``pattern``; the margins r = d (k - 1) / 2
    keep the size for every odd k, and pixels outside of ``x`` count as zero.
    Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), section 3.

    Shapes: N images, C input and O output channels, k x k taps, H x W input pixels.

    Args:
        x (Tensor): Input [N, C, H, W], floating point, any device and memory format. N may be 0.
        weight (Tensor): Filters [O, C / groups, k, k] of the dtype and device of ``x``, k odd.
        bias (Tensor, optional): [O], or None.
        pattern (Sequence): Runs of output channels, ``(dilation_h, dilation_w, channels)`` each, that add up to O;
            dilations in pixels, at least 1. Two runs may have the same dilation.
        stride (int or tuple[int, int]): Step in pixels, at least 1. Default: 1.
        groups (int): Divides C and the channels of each run. A run is a grouped convolution of its own: its channels
            are cut into ``groups`` parts, each of which sees its part of the input. Default: 1.
        backend (str, optional): Implementation to use, 'cpu' (compiled; float32, groups=1) or 'reference' (an ordinary
            convolution for each run); one that cannot run here raises. Default: None, that is the environment variable
            ``MMEXT_INCEPTION_CONV_BACKEND``, else 'reference' under ``MMEXT_BACKEND=reference``, else 'cpu' where it
            can run and there is more than one run.

    Returns:
        Tensor: [N, O, ceil(H / stride), ceil(W / stride)]. Differentiable in the three tensors, any number of times, in
        forward mode and under every transform of ``torch.func``. There, and for compilers, exporters, dispatch modes
        such as counters of multiply-adds, and autocast, it is ordinary convolutions. Compilers and dispatch modes meet
        one operator, ``mmext::inception_conv2d``, if 'cpu' is asked for.

    Raises:
        ValueError: If a shape, dtype, device, setting or the pattern is not as above; the message gives the value seen
            and the values allowed. Also if ``backend`` or the environment variable names no backend.
        RuntimeError: If the named backend cannot run here; the message says why.

    Examples:
        >>> x = torch.rand(2, 3, 7, 7)
        >>> weight = torch.rand(8, 3, 3, 3)
        >>> inception_conv2d(x, weight, None, [(1, 1, 6), (1, 2, 2)], stride=2).shape
        torch.Size([2, 8, 4, 4])
    """
    if has_torch_function((x, weight, bias)):  # of a subclass, a mode, or a Proxy, for which this is one function
        return handle_torch_function(
            inception_conv2d,
            (x, weight, bias),
            x,
            weight,
            bias,
            pattern,
            stride=stride,
            groups=groups,
            backend=backend,
        )
    strides = check_strides(stride)
    # Dynamo warns of caches, and sees through to what they hold
    check = check_pattern.__wrapped__ if torch.compiler.is_compiling() else check_pattern
    pattern = check(hashable(pattern), groups)
    if not torch.jit.is_tracing():  # whose sizes are tensors
        check_tensors(x, weight, bias, pattern, groups)
    named = asked_for(backend, ENV_VARIABLE)[0] == 'cpu'
    reason = why_not_compiled(x, weight, bias, one_operator=named)
    if pick_backend(backend, x, weight, pattern, groups, reason) == 'reference':
        return reference.inception_conv_forward(x, weight, bias, pattern, strides, groups)
    return library.inception_conv2d_op(x, weight, bias, list(itertools.chain(*pattern)), list(strides), groups)
