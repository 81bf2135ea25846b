"""The public inception convolution: checks, choice of backend, derivative."""

import functools
import logging
import os
from importlib import import_module

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from mmext.ops.compiled import why_not_compiled

from . import reference

__all__ = ['BACKENDS', 'ENV_VARIABLE', 'inception_conv2d', 'why_not_cpu']

ENV_VARIABLE = 'MMEXT_INCEPTION_CONV_BACKEND'
BACKENDS = 'cpu', 'reference'

logger = logging.getLogger(__name__)


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
            ``MMEXT_INCEPTION_CONV_BACKEND``, else 'cpu' where it can run and there is more than one run.

    Returns:
        Tensor: [N, O, ceil(H / stride), ceil(W / stride)]. Differentiable in the three tensors, also twice.
        Compilers, exporters, autocast and counters of multiply-adds meet ordinary convolutions.

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
    strides = _strides(stride)
    pattern = _checked_pattern(_hashable(pattern), groups)
    _check_tensors(x, weight, bias, pattern, groups)
    if _pick(backend, x, weight, pattern, groups) == 'reference':
        return reference.inception_conv_forward(x, weight, bias, pattern, strides, groups)
    return _Compiled.apply(x, weight, bias, pattern, strides)


class _Compiled(torch.autograd.Function):
    """The compiled backend with its derivative; a second derivative is that of ordinary convolutions."""

    @staticmethod
    def forward(ctx, x, weight, bias, pattern, strides):
        ctx.save_for_backward(x, weight)
        ctx.settings = pattern, strides
        return _cpu().inception_conv_forward(x, weight, bias, pattern, strides)

    @staticmethod
    def backward(ctx, grad_out):
        x, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        backend = reference if torch.is_grad_enabled() else _cpu()
        grads = backend.inception_conv_backward(grad_out, x, weight, *ctx.settings, *needs[:2])
        return *grads, grad_out.sum((0, 2, 3)) if needs[2] else None, None, None


def _cpu():
    return import_module('.cpu', __package__)


@functools.cache
def _compiler_problem():
    return why_not_compiled()


def why_not_cpu(x, weight, groups=1):
    """Say why the compiled backend cannot run.

    Args:
        x (Tensor): The input.
        weight (Tensor): The filters.
        groups (int): Groups of each run. Default: 1.

    Returns:
        str or None: The reason; None where it can.
    """
    if x.device.type != 'cpu':
        return f'x is on {x.device}, not on the CPU'
    if groups > 1:
        return f'groups={groups}, not 1'
    if _autocast(x):
        return 'autocast is on, and what it casts to is not float32'
    if x.dtype != torch.float32:
        return f'x is {x.dtype}, not float32'
    plain = all(type(tensor) in (torch.Tensor, torch.nn.Parameter) for tensor in (x, weight))
    looked_at = torch.compiler.is_compiling() or torch.jit.is_tracing() or _get_current_dispatch_mode() is not None
    # private, as is what autograd.Function itself asks to know
    transformed = getattr(torch._C, '_are_functorch_transforms_active', bool)()
    if not plain or looked_at or transformed:
        return 'the call is traced, counted or transformed'
    return _compiler_problem()


def _pick(backend, x, weight, pattern, groups):
    source = f'backend={backend!r}'
    if backend is None and os.environ.get(ENV_VARIABLE):
        backend = os.environ[ENV_VARIABLE]
        source = f'{ENV_VARIABLE}={backend}'
    if backend not in (None, *BACKENDS):
        raise ValueError(f'{source} is unknown; choose one of {", ".join(BACKENDS)}, or leave it out')
    if backend == 'reference' or x.numel() == 0 or (backend is None and len(pattern) == 1):
        return 'reference'
    reason = why_not_cpu(x, weight, groups)
    if reason is None:
        return 'cpu'
    if backend is not None:
        raise RuntimeError(f'{source} cannot run here: {reason}; leave it out for the automatic choice')
    logger.debug('inception convolution backend cpu not used: %s', reason)
    return 'reference'


def _autocast(x):
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)  # meta has none


def _strides(stride):
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    if len(strides) != 2 or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in strides):
        raise ValueError(f'stride={stride!r}: an integer of at least 1, or two of them, is needed')
    return strides


def _hashable(pattern):
    try:
        return tuple(map(tuple, pattern))
    except TypeError:
        raise ValueError(f'pattern={pattern!r}; a list of (dilation_h, dilation_w, channels) is needed') from None


@functools.lru_cache(maxsize=1024)
def _checked_pattern(pattern, groups):
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(f'groups={groups!r}: an integer of at least 1 is needed')
    for run in pattern:
        integers = len(run) == 3 and all(isinstance(value, int) and value >= 1 for value in run)
        if not integers or run[2] % groups:
            raise ValueError(
                f'pattern has the run {run}; (dilation_h, dilation_w, channels) is needed, all at least 1, channels a '
                f'multiple of groups={groups}'
            )
    return pattern


def _check_tensors(x, weight, bias, pattern, groups):
    if x.dim() != 4 or weight.dim() != 4:
        raise ValueError(
            f'x has shape {list(x.shape)} and weight {list(weight.shape)}; x must be [N, C, H, W] and weight '
            '[O, C / groups, k, k]'
        )
    outputs, inputs, kernel_size = weight.shape[:3]
    if weight.shape[3] != kernel_size or kernel_size % 2 == 0:
        raise ValueError(
            f'weight has a kernel of {kernel_size} x {weight.shape[3]} taps; kernels are square with an odd size '
            '(1, 3, 5, 7, ...)'
        )
    if x.shape[1] != inputs * groups:
        raise ValueError(
            f'x has {x.shape[1]} channels; weight of shape {list(weight.shape)} with groups={groups} needs '
            f'{inputs * groups}'
        )
    channels = sum(run[2] for run in pattern)
    if channels != outputs:
        raise ValueError(f"the pattern's channels add up to {channels}; weight has {outputs} filters")
    if bias is not None and tuple(bias.shape) != (outputs,):
        raise ValueError(f'bias has shape {list(bias.shape)}; [{outputs}] is needed')
    tensors = [tensor for tensor in (x, weight, bias) if tensor is not None]
    if not x.is_floating_point() or len({tensor.device for tensor in tensors}) > 1:
        raise ValueError(
            f'x is {x.dtype} on {x.device}, weight is on {weight.device}; use floating point on one device'
        )
    # autocast makes the dtypes equal
    if len({tensor.dtype for tensor in tensors}) > 1 and not _autocast(x):
        raise ValueError(f'the dtypes are {", ".join(str(tensor.dtype) for tensor in tensors)}; they must be equal')
