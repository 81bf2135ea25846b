"""The sides that the benchmark of the operator sets beside each other: one function of (x, weight, stride) each.

x is [N, C, H, W], weight [N, G, K, K, Ho, Wo], the padding K // 2 and the dilation 1; all are differentiable.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tables import OURS

from mmext.ops import involution
from mmext.ops.involution.backends import BACKENDS, pick_backend
from mmext.ops.involution.cuda import launch
from mmext.ops.involution.cuda.plan import SCALARS, Plan

__all__ = ['BASELINE', 'SIDES', 'Side', 'unfold']

BASELINE = Path(launch.__file__).with_name('scalars.cuh'), Path(__file__).with_name('involution_baseline.cu')
BLOCK = 256  # threads of a block of the baseline


def unfold(x, weight, stride=1, padding=None, dilation=1, backend=None):
    """Involution by copies: K * K shifted images times their weights, summed. Arguments as of the operator."""
    batch, groups, kernel_size, _, height, width = weight.shape
    padding = dilation * (kernel_size // 2) if padding is None else padding
    columns = F.unfold(x, kernel_size, dilation, padding, stride)
    columns = columns.view(batch, groups, x.shape[1] // groups, kernel_size**2, height, width)
    return (weight.flatten(2, 3).unsqueeze(2) * columns).sum(3).view(batch, x.shape[1], height, width)


def _why_not_unfold(x, weight, stride):
    """What the copies take in the backward pass, against what is there: a CPU would swap or end the process."""
    if x.device.type == 'cpu' and Path('/proc/meminfo').exists():
        needed = 3.5 * x[0, 0].nbytes * x.shape[0] * x.shape[1] * weight.shape[2] ** 2 / stride**2
        lines = dict(line.split(':') for line in Path('/proc/meminfo').read_text().splitlines())
        free = 1024 * int(lines['MemAvailable'].split()[0])
        if needed > free:
            return f'needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free'
    return None


def _reference(x, weight, stride):
    return involution(x, weight, stride, backend='reference')


def _ours(x, weight, stride):
    return involution(x, weight, stride)


def _name_carafe(x, weight):
    """The fast kernel numbers 32 threads per weight in 32 bits."""
    return 'carafe' if 32 * weight.numel() < 2**31 else 'carafe_naive'


def _carafe(x, weight, stride):
    """CARAFE with each group as an image of its own: the fast kernel has room for the taps of few groups only."""
    from mmcv import ops

    batch, groups, kernel_size, _, height, width = weight.shape
    images, masks = x.view(batch * groups, -1, height, width), weight.view(batch * groups, -1, height, width)
    return getattr(ops, _name_carafe(x, weight))(images, masks, kernel_size, 1, 1).view(x.shape)


def _why_not_carafe(x, weight, stride):
    if stride != 1:
        return 'CARAFE has no stride'
    try:
        import mmcv.ops  # noqa: F401
    except ImportError as error:
        return f'mmcv.ops cannot be imported ({error})'
    return None


class _OneThreadPerOutput(torch.autograd.Function):
    """The kernels of involution_baseline.cu."""

    @staticmethod
    def forward(ctx, x, weight, stride):
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        out = x.new_empty(*x.shape[:2], *weight.shape[4:])
        _run('FORWARD', x, weight, out, x.shape, weight.shape, stride)
        return out

    @staticmethod
    def backward(ctx, grad_out):
        x, weight = ctx.saved_tensors
        grad_out = grad_out.contiguous()
        grad_x, grad_weight = torch.empty_like(x), torch.empty_like(weight)
        _run('GRAD_X', grad_out, weight, grad_x, x.shape, weight.shape, ctx.stride)
        _run('GRAD_WEIGHT', x, grad_out, grad_weight, x.shape, weight.shape, ctx.stride)
        return grad_x, grad_weight, None


def _why_not_one_thread_per_output(x, weight, stride):
    if reason := BACKENDS['cuda'].reason_not(x.device, x.dtype):
        return reason
    return 'its indices have 32 bits' if max(x.numel(), weight.numel()) >= 2**31 else None


def _run(step, image, other, result, x_shape, weight_shape, stride):
    batch, groups, kernel_size, _, *out_size = weight_shape
    macros = dict(
        NAME=f'one_thread_per_output_{step.lower()}',
        PASS=step,
        SCALAR=SCALARS[str(result.dtype).removeprefix('torch.')][0],
        KERNEL_SIZE=kernel_size,
        STRIDE=stride,
        DILATION=1,
    )
    plan = Plan(macros['NAME'], tuple(macros.items()), -(-result.numel() // BLOCK), BLOCK, 0)
    sizes = x_shape[1] // groups, *x_shape[2:], *out_size, kernel_size // 2
    _launch(plan, image, other, result, (np.int64(batch * groups), *(np.int32(size) for size in sizes)))


def _launch(plan, image, other, result, sizes):
    import cupy

    stream = torch.cuda.current_stream(result.device)
    if hasattr(cupy.cuda.Stream, 'from_external') and hasattr(stream, '__cuda_stream__'):
        stream = cupy.cuda.Stream.from_external(stream)
    else:  # CuPy before 14 or an early PyTorch
        stream = cupy.cuda.ExternalStream(stream.cuda_stream)
    with cupy.cuda.Device(result.device.index), stream:
        pointers = image.data_ptr(), other.data_ptr(), result.data_ptr()
        _kernel(plan.name, plan.macros)((plan.grid,), (plan.block,), (*pointers, *sizes))


@cache
def _kernel(name, macros):
    import cupy

    code = ''.join(path.read_text() for path in BASELINE)
    return cupy.RawModule(code=code, options=launch.options(macros), backend='nvrtc').get_function(name)


@dataclass(frozen=True)
class Side:
    """One way to compute involution.

    Attributes:
        what: What it is, in words.
        function: (x, weight, stride) -> output.
        why_not: (x, weight, stride) -> why it cannot run on them, or None.
        runs: (x, weight) -> name of what runs in the end.
    """

    what: str
    function: Callable
    why_not: Callable = lambda x, weight, stride: None
    runs: Callable = lambda x, weight: None


SIDES = {
    'unfold': Side('F.unfold, times the weights, summed over the taps', unfold, _why_not_unfold),
    'reference': Side("backend='reference': plain PyTorch, tap by tap", _reference),
    'one thread per output': Side(
        'the published method, written anew in involution_baseline.cu',
        lambda x, weight, stride: _OneThreadPerOutput.apply(x, weight, stride),
        _why_not_one_thread_per_output,
    ),
    'CARAFE': Side('CARAFE of mmcv at scale 1, groups as images', _carafe, _why_not_carafe, _name_carafe),
    OURS: Side('mmext.ops.involution', _ours, runs=lambda x, weight: pick_backend(None, x.device, x.dtype)),
}
