"""Inception convolution on the CPU: products of matrices, added up where the dilations say, compiled by numba.

An inception convolution has the multiply-adds of an ordinary one. All filters are multiplied with all pixels at once,
whatever their dilations, a tile at a time; the products are added up while they are in the processor's cache. Backward,
gradients are first brought to where the products were. Every sum is made by one thread in a fixed order: repeated runs
are equal.
"""

import threading

import torch
import torch.nn.functional as F

from mmext.ops.compiled.threads import run_kernel

from .filters import pack_columns, pack_rows, unpack
from .kernels import forward, grad_input, grad_weight
from .matrix import LANES, PANEL
from .plan import TILE_PIXELS, make_plan, padded

__all__ = ['inception_conv_backward', 'inception_conv_forward']

_kept = threading.local()


def inception_conv_forward(x, weight, bias, pattern, strides):
    """Compute the output.

    Args:
        x (Tensor): [N, C, H, W], float32 on the CPU, not empty; so are the tensors below.
        weight (Tensor): [O, C, k, k].
        bias (Tensor, optional): [O].
        pattern (tuple): (dilation_h, dilation_w, channels) of each run.
        strides (tuple[int, int]): In pixels.

    Returns:
        Tensor: [N, O, ceil(H / stride), ceil(W / stride)], in the memory format of ``x``.
    """
    plan = make_plan(tuple(x.shape), weight.shape[2], pattern, strides, torch.get_num_threads())
    sizes = plan.sizes
    out = x.new_empty(sizes.batch, sizes.rows, sizes.columns, sizes.outputs)
    added = x.new_zeros(sizes.outputs + LANES)  # kernels read on behind the last channels
    if bias is not None:
        added[: sizes.outputs] = bias
    packed = _move_filters(pack_columns, sizes.blocks * sizes.phases, weight, plan)
    arrays = out, _phases(x, strides), packed, added, plan.numbers
    tasks = -(-sizes.batch // sizes.images) * sizes.strips * sizes.blocks
    run_kernel(forward, tasks, _products(sizes), arrays, (plan.numbers.numel(),))
    return _as(out.movedim(-1, 1), x)


def inception_conv_backward(grad_out, x, weight, pattern, strides, needs_x=True, needs_weight=True):
    """Compute the gradients of ``x`` and ``weight``.

    Args:
        grad_out (Tensor): Gradient of the output.
        x (Tensor): As in :func:`inception_conv_forward`; so are the settings after it.
        weight (Tensor): [O, C, k, k].
        pattern (tuple): (dilation_h, dilation_w, channels) of each run.
        strides (tuple[int, int]): In pixels.
        needs_x (bool): Whether the gradient of ``x`` is wanted. Default: True.
        needs_weight (bool): Whether the gradient of ``weight`` is wanted. Default: True.

    Returns:
        tuple[Tensor or None, Tensor or None]: Gradients of the shapes of ``x`` and ``weight``; None where not wanted.
    """
    threads = torch.get_num_threads()
    plan = make_plan(tuple(x.shape), weight.shape[2], pattern, strides, threads)
    sizes, numbers, products = plan.sizes, plan.numbers, _products(plan.sizes)
    chunk = sizes.rows if sizes.images > 1 else min(sizes.rows, max(1, -(-TILE_PIXELS // sizes.columns)))
    grad = grad_out.movedim(1, -1).contiguous()
    grad_x = grad_w = None
    if needs_x:
        packed = _move_filters(pack_rows, sizes.blocks, weight, plan)
        phases = x.new_empty(sizes.phases, sizes.batch, sizes.rows, sizes.columns, padded(sizes.inputs))
        tasks = -(-sizes.batch // sizes.images) * -(-sizes.rows // chunk)
        parts = min(-(-threads // tasks), -(-sizes.inputs // PANEL))
        integers = numbers.numel(), chunk, parts
        run_kernel(grad_input, tasks * parts, products, (phases, packed, grad, numbers), integers)
        grad_x = _as(_joined(phases[..., : sizes.inputs], x.shape, strides), x)
    if needs_weight:
        grad_w = torch.empty_like(weight)
        rows = _workspace(plan)
        integers = numbers.numel(), chunk
        run_kernel(grad_weight, sizes.blocks, products, (rows, _phases(x, strides), grad, numbers), integers)
        _move_filters(unpack, len(plan.filters), grad_w, plan)
    return grad_x, grad_w


def _products(sizes):
    return sizes.batch * sizes.rows * sizes.columns * sizes.outputs * sizes.taps * sizes.inputs


def _move_filters(kernel, tasks, weight, plan):
    """Copy filters between the weights and the workspace, which is returned."""
    rows, sizes = _workspace(plan), plan.sizes
    size = 1 + sum((length - 1) * step for length, step in zip(weight.shape, weight.stride()))
    integers = plan.numbers.numel(), sizes.inputs, weight.shape[2], *weight.stride(), size
    run_kernel(kernel, tasks, weight.numel(), (rows, weight, plan.filters, plan.numbers), integers)
    return rows


def _workspace(plan):
    """Memory for packed filters, kept by each thread: it may be large, and new memory from the system is slow."""
    size = len(plan.filters) * padded(plan.sizes.inputs)
    buffer = getattr(_kept, 'buffer', None)
    if buffer is None or buffer.numel() < size:
        with torch.inference_mode(False):
            # whatever the defaults are
            _kept.buffer = buffer = torch.empty(size, dtype=torch.float32, device='cpu')
    return buffer


def _phases(x, strides):
    """[N, C, H, W] -> [phases, N, ceil(H / stride), ceil(W / stride), C]."""
    pixels = x.movedim(1, -1)
    if strides == (1, 1):
        return pixels.contiguous()[None]
    step_h, step_w = strides
    rest = -x.shape[2] % step_h, -x.shape[3] % step_w
    if any(rest):
        pixels = F.pad(pixels, (0, 0, 0, rest[1], 0, rest[0]))
    grids = pixels.unflatten(2, (-1, step_w)).unflatten(1, (-1, step_h))  # [N, rows, step, columns, step, C]
    return grids.permute(2, 4, 0, 1, 3, 5).flatten(0, 1).contiguous()


def _joined(phases, shape, strides):
    """Undo :func:`_phases`."""
    grids = phases.unflatten(0, strides).permute(2, 3, 0, 4, 1, 5)
    return grids.flatten(3, 4).flatten(1, 2)[:, : shape[2], : shape[3]].movedim(-1, 1)


def _as(result, tensor):
    """Give a result the memory format of a tensor."""
    last = tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
    return result.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
