"""Involution by the kernels of ``kernels.cu``, on PyTorch's current stream.

Deterministic: every element is summed by one thread in a fixed order. All memory comes from PyTorch's allocator and
nothing waits for the GPU, so that calls can be captured in a CUDA graph; the first call of each size compiles and loads
a kernel (a second or two; later processes find it in CuPy's cache on disk) and has to precede the capture. Tensors that
are not contiguous, such as ``channels_last`` ones, are copied first.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from .plan import Problem, make_plan

__all__ = ['involution_backward', 'involution_forward', 'options', 'source']


def involution_forward(x, weight, stride, padding, dilation):
    """Compute the output; arguments and result as of the reference's :func:`involution_forward`."""
    out = x.new_empty(*x.shape[:2], *weight.shape[4:])
    _run('FORWARD', x, weight, out, x.shape, weight.shape, stride, padding, dilation)
    return out


def involution_backward(grad_out, x, weight, stride, padding, dilation, needs_x=True, needs_weight=True):
    """Compute the gradients; arguments and result as of the reference's :func:`involution_backward`."""
    settings = x.shape, weight.shape, stride, padding, dilation
    grad_x = grad_weight = None
    if needs_x:
        grad_x = x.new_empty(x.shape)
        _run('GRAD_X', grad_out, weight, grad_x, *settings)
    if needs_weight:
        grad_weight = weight.new_empty(weight.shape)
        _run('GRAD_WEIGHT', x, grad_out, grad_weight, *settings)
    return grad_x, grad_weight


def _name(dtype):
    return str(dtype).removeprefix('torch.')


def _run(step, image, other, result, x_shape, weight_shape, stride, padding, dilation):
    if result.numel() == 0:
        return
    batch, groups, kernel_size, _, *out_size = weight_shape
    maps, channels = batch * groups, x_shape[1] // groups
    problem = Problem(step, _name(result.dtype), maps, channels, *x_shape[2:], *out_size, kernel_size, stride, dilation)
    sizes = np.int64(maps), *(np.int32(size) for size in (channels, *x_shape[2:], *out_size, padding))
    _launch(make_plan(problem), image.contiguous(), other.contiguous(), result, sizes)


def _launch(plan, image, other, result, sizes):
    import cupy

    stream = torch.cuda.current_stream(result.device)
    if hasattr(cupy.cuda.Stream, 'from_external') and hasattr(stream, '__cuda_stream__'):
        stream = cupy.cuda.Stream.from_external(stream)
    else:  # CuPy before 14 or an early PyTorch
        stream = cupy.cuda.ExternalStream(stream.cuda_stream)
    with cupy.cuda.Device(result.device.index), stream:
        kernel = _kernel(plan.name, plan.macros, result.device.index)
        pointers = image.data_ptr(), other.data_ptr(), result.data_ptr()
        kernel((plan.grid,), (plan.block,), (*pointers, *sizes))


@cache
def source():
    """Return the kernels' source, one text as run-time compilation wants it."""
    return ''.join(Path(__file__).with_name(name).read_text() for name in ('scalars.cuh', 'kernels.cu'))


def options(macros):
    """Return the compiler's options that select an instantiation.

    Macros do that, as with the names of templates (``name_expressions``) CuPy before 14 compiles anew in each process.
    """
    return '-std=c++17', *(f'-D{name}={value}' for name, value in macros)


@cache
def _kernel(name, macros, device):
    """Compile for the current device, the one given; CuPy keeps the binary on disk, by source and architecture."""
    import cupy

    return cupy.RawModule(code=source(), options=options(macros), backend='nvrtc').get_function(name)
