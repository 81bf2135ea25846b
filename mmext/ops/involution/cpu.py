"""Involution on the CPU, compiled by numba: runs of neighbouring columns in vector registers, weights read once.

The padded input is split by column phase (column modulo stride), so that the columns one tap meets over a row of
outputs are neighbours for every stride. Each kernel then works on a run of output columns:

===========  =================================  ============================================
kernel       in registers                       inner loop
===========  =================================  ============================================
forward      4 channels of the output           taps: load weights once, inputs 4 times
grad_weight  4 taps of the weights' gradient    channels: load gradients once, inputs 4 times
grad_x       4 channels of the output gradient  taps: load weights once, update inputs 4 times
===========  =================================  ============================================

LLVM cannot see that the arrays do not overlap and would leave plain loops as they are, so the vector code is given to
it as such, in three numba intrinsics. Every sum is made by one thread in a fixed order: repeated runs are equal.
"""

import numba
import numpy as np
import torch
import torch.nn.functional as F
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = ['involution_backward', 'involution_forward']

BLOCK = 4  # channels or taps held in registers
THREAD_PRODUCTS = 200_000  # about 20 microseconds of one thread; less is not worth waking another


class _Runs:
    """Code of operations on runs of ``lanes`` neighbouring elements, of any alignment, within an intrinsic."""

    def __init__(self, context, builder, signature, args, lanes):
        self.context, self.builder = context, builder
        self.args = [
            context.make_array(kind)(context, builder, value=value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args)
        ]
        dtype = signature.args[0].dtype
        self.align = dtype.bitwidth // 8
        self.type = ir.VectorType(context.get_value_type(dtype), lanes)

    def _pointer(self, data, index):
        return self.builder.bitcast(self.builder.gep(data, [index]), self.type.as_pointer())

    def load(self, data, index):
        return self.builder.load(self._pointer(data, index), align=self.align)

    def store(self, value, data, index):
        self.builder.store(value, self._pointer(data, index), align=self.align)

    def multiply_add(self, a, b, c):
        product = self.builder.fmul(a, b, flags=('contract',))  # fused where the machine can
        return self.builder.fadd(product, c, flags=('contract',))

    def zeros(self, count):
        cells = [cgutils.alloca_once(self.builder, self.type) for _ in range(count)]  # LLVM puts them in registers
        for cell in cells:
            self.builder.store(ir.Constant(self.type, None), cell)
        return cells

    def add_product(self, cell, a, b):
        self.builder.store(self.multiply_add(a, b, self.builder.load(cell)), cell)

    def at(self, start, step, count):
        count = count if isinstance(count, ir.Value) else ir.Constant(step.type, count)
        return self.builder.add(start, self.builder.mul(step, count))

    def offset(self, table, index):
        return self.builder.load(self.builder.gep(table, [index]))


def _intrinsic(lanes, block, emit):
    """Make an intrinsic (3 arrays of elements, 1 of offsets, 7 integers) whose code ``emit(runs, block)`` builds."""

    @intrinsic
    def run(typing, a, b, c, offsets, i0, i1, i2, i3, i4, i5, count):
        def codegen(context, builder, signature, args):
            emit(_Runs(context, builder, signature, args, lanes), block)
            return context.get_dummy_value()

        return types.void(a, b, c, offsets, *[types.int64] * 7), codegen

    return run


def _emit_forward(runs, block):
    """out[o + k so] = sum over taps t of w[iw + t sw] x[ix + offsets[t] + k sx], for k < block."""
    out, x, w, offsets, o, so, ix, sx, iw, sw, taps = runs.args
    sums = runs.zeros(block)
    with cgutils.for_range(runs.builder, taps) as loop:
        weights = runs.load(w, runs.at(iw, sw, loop.index))
        start = runs.builder.add(ix, runs.offset(offsets, loop.index))
        for k in range(block):
            runs.add_product(sums[k], weights, runs.load(x, runs.at(start, sx, k)))
    for k in range(block):
        runs.store(runs.builder.load(sums[k]), out, runs.at(o, so, k))


def _emit_grad_weight(runs, block):
    """grad_w[iw + k sw] = sum over channels c of grad[ig + c sg] x[ix + offsets[first + k] + c sx], for k < block."""
    grad_w, x, grad, offsets, iw, sw, ix, sx, ig, sg, channels = runs.args
    sums = runs.zeros(block)
    starts = [runs.builder.add(ix, runs.offset(offsets, ir.Constant(ix.type, k))) for k in range(block)]
    with cgutils.for_range(runs.builder, channels) as loop:
        gradient = runs.load(grad, runs.at(ig, sg, loop.index))
        for k in range(block):
            runs.add_product(sums[k], gradient, runs.load(x, runs.at(starts[k], sx, loop.index)))
    for k in range(block):
        runs.store(runs.builder.load(sums[k]), grad_w, runs.at(iw, sw, k))


def _emit_grad_x(runs, block):
    """grad_x[ix + offsets[t] + k sx] += w[iw + t sw] grad[ig + k sg], for k < block and all taps t."""
    grad_x, grad, w, offsets, ix, sx, ig, sg, iw, sw, taps = runs.args
    gradients = [runs.load(grad, runs.at(ig, sg, k)) for k in range(block)]
    with cgutils.for_range(runs.builder, taps) as loop:
        weights = runs.load(w, runs.at(iw, sw, loop.index))
        start = runs.builder.add(ix, runs.offset(offsets, loop.index))
        for k in range(block):
            index = runs.at(start, sx, k)
            runs.store(runs.multiply_add(weights, gradients[k], runs.load(grad_x, index)), grad_x, index)


def _rows(emit):
    """Compile a kernel over a whole row: runs of 16 columns, then what is left in runs of 8, 4, 2 and 1."""

    @numba.njit
    def rest(full, a, b, c, offsets, i0, i1, i2, i3, i4, i5, count, columns):
        pass

    for lanes in (1, 2, 4, 8, 16):
        rest = _row(lanes, _intrinsic(lanes, BLOCK, emit), _intrinsic(lanes, 1, emit), rest)
    return rest


def _row(lanes, block, single, rest):
    @numba.njit
    def row(full, a, b, c, offsets, i0, i1, i2, i3, i4, i5, count, columns):
        while columns >= lanes:
            if full:
                block(a, b, c, offsets, i0, i1, i2, i3, i4, i5, count)
            else:
                single(a, b, c, offsets, i0, i1, i2, i3, i4, i5, count)
            i0, i2, i4, columns = i0 + lanes, i2 + lanes, i4 + lanes, columns - lanes
        rest(full, a, b, c, offsets, i0, i1, i2, i3, i4, i5, count, columns)

    return row


_forward_row = _rows(_emit_forward)
_grad_weight_row = _rows(_emit_grad_weight)
_grad_x_row = _rows(_emit_grad_x)
_jit = numba.njit(parallel=True, cache=True, nogil=True)


@_jit
def _forward(out, x, w, offsets, shape):
    images, groups, channels, rows, columns, row_step, channel_step = shape
    taps, pixels = len(offsets), rows * columns
    for task in numba.prange(images * groups * rows):
        group, i = task // rows, task % rows
        iw = group * taps * pixels + i * columns
        c = 0
        while c < channels:
            full = channels - c >= BLOCK
            channel = group * channels + c
            o, ix = channel * pixels + i * columns, channel * channel_step + i * row_step
            _forward_row(full, out, x, w, offsets, o, pixels, ix, channel_step, iw, pixels, taps, columns)
            c += BLOCK if full else 1


@_jit
def _grad_weight(grad_w, x, grad, offsets, shape):
    images, groups, channels, rows, columns, row_step, channel_step = shape
    taps, pixels = len(offsets), rows * columns
    for task in numba.prange(images * groups * rows):
        group, i = task // rows, task % rows
        channel = group * channels
        ix, ig = channel * channel_step + i * row_step, channel * pixels + i * columns
        t = 0
        while t < taps:
            full = taps - t >= BLOCK
            iw = (group * taps + t) * pixels + i * columns
            table = offsets[t:]
            _grad_weight_row(full, grad_w, x, grad, table, iw, pixels, ix, channel_step, ig, pixels, channels, columns)
            t += BLOCK if full else 1


@_jit
def _grad_x(grad_x, grad, w, offsets, shape):
    images, groups, channels, rows, columns, row_step, channel_step = shape
    taps, pixels = len(offsets), rows * columns
    blocks = channels // BLOCK + channels % BLOCK
    for task in numba.prange(images * groups * blocks):
        # a task has channels of its own, so that no other adds to the same rows
        group, block = task // blocks, task % blocks
        full = block < channels // BLOCK
        channel = group * channels + (block * BLOCK if full else channels - (blocks - block))
        for i in range(rows):
            ix, ig = channel * channel_step + i * row_step, channel * pixels + i * columns
            iw = group * taps * pixels + i * columns
            _grad_x_row(full, grad_x, grad, w, offsets, ix, channel_step, ig, pixels, iw, pixels, taps, columns)


class _Layout:
    """The padded input split by column phase, [N, C, rows, stride, columns], and where each tap lies in it.

    Half precision becomes float32 here, in which sums are made.
    """

    def __init__(self, x, weight, stride, padding, dilation):
        self.images, self.groups, kernel_size, _, self.rows, self.columns = weight.shape
        self.x_shape = x.shape
        self.stride, self.padding = stride, padding
        reach = dilation * (kernel_size - 1)
        self.padded_rows = max((self.rows - 1) * stride + reach + 1, x.shape[2] + padding)
        self.phase_columns = max(self.columns + reach // stride, -(-(x.shape[3] + padding) // stride))
        self.dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        taps = dilation * np.arange(kernel_size)
        columns = taps % stride * self.phase_columns + taps // stride
        self.offsets = (taps[:, None] * stride * self.phase_columns + columns).ravel()

    @property
    def shape(self):
        """What the kernels are told: counts, and the steps from output row to row and from channel to channel."""
        row = self.stride * self.phase_columns
        channels = self.x_shape[1] // self.groups
        return self.images, self.groups, channels, self.rows, self.columns, self.stride * row, self.padded_rows * row

    def split(self, x):
        """[N, C, H, W] -> the layout of the class, flat."""
        right = self.phase_columns * self.stride - self.padding - x.shape[3]
        bottom = self.padded_rows - self.padding - x.shape[2]
        padded = F.pad(x.to(self.dtype), (self.padding, right, self.padding, bottom))
        return _flat(padded.unflatten(3, (self.phase_columns, self.stride)).transpose(3, 4))

    def join(self, flat):
        """The flat layout of the class -> [N, C, H, W], without the padding."""
        images, channels, height, width = self.x_shape
        split = torch.from_numpy(flat).view(images, channels, self.padded_rows, self.stride, self.phase_columns)
        padded = split.transpose(3, 4).flatten(3)
        return padded[:, :, self.padding : self.padding + height, self.padding : self.padding + width]

    def flat(self, tensor):
        """A tensor as the kernels take it."""
        return _flat(tensor.to(self.dtype))


def _flat(tensor):
    return tensor.detach().contiguous().view(-1).numpy()


def _run(kernel, *args):
    images, groups, channels, rows, columns = args[-1][:5]
    products = images * groups * channels * rows * columns * len(args[-2])
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS, 1 + products // THREAD_PRODUCTS)
    numba.set_num_threads(threads)
    kernel(*args)


def involution_forward(x, weight, stride, padding, dilation):
    """Compute the output.

    Args:
        x (Tensor): [N, C, H, W] on the CPU; so are the tensors below.
        weight (Tensor): [N, G, K, K, Ho, Wo].
        stride (int): Step in pixels.
        padding (int): Zeros around ``x`` in pixels.
        dilation (int): Distance of taps in pixels.

    Returns:
        Tensor: [N, C, Ho, Wo].
    """
    layout = _Layout(x, weight, stride, padding, dilation)
    out = torch.empty(*x.shape[:2], *weight.shape[4:], dtype=layout.dtype)
    _run(_forward, _flat(out), layout.split(x), layout.flat(weight), layout.offsets, layout.shape)
    return out.to(x.dtype)


def involution_backward(grad_out, x, weight, stride, padding, dilation, needs_x=True, needs_weight=True):
    """Compute the gradients of ``x`` and ``weight``.

    Args:
        grad_out (Tensor): [N, C, Ho, Wo], the gradient of the output.
        x (Tensor): As in :func:`involution_forward`; so are the settings after it.
        weight (Tensor): [N, G, K, K, Ho, Wo].
        stride (int): Step in pixels.
        padding (int): Zeros around ``x`` in pixels.
        dilation (int): Distance of taps in pixels.
        needs_x (bool): Whether the gradient of ``x`` is wanted. Default: True.
        needs_weight (bool): Whether the gradient of ``weight`` is wanted. Default: True.

    Returns:
        tuple[Tensor or None, Tensor or None]: Gradients of the shapes of ``x`` and ``weight``; None where not wanted.
    """
    layout = _Layout(x, weight, stride, padding, dilation)
    grad = layout.flat(grad_out)
    grad_x = grad_weight = None
    if needs_x:
        images, channels = x.shape[:2]
        flat = np.zeros(images * channels * layout.shape[-1], grad.dtype)
        _run(_grad_x, flat, grad, layout.flat(weight), layout.offsets, layout.shape)
        grad_x = layout.join(flat).to(x.dtype, memory_format=torch.contiguous_format, copy=True)
    if needs_weight:
        out = torch.empty(weight.shape, dtype=layout.dtype)
        _run(_grad_weight, _flat(out), layout.split(x), grad, layout.offsets, layout.shape)
        grad_weight = out.to(weight.dtype)
    return grad_x, grad_weight
