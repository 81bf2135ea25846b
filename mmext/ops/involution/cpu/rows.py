"""Involution of contiguous tensors: runs of neighbouring columns in vector registers, weights read once.

The padded input is split by column phase (column modulo stride), so that the columns one tap meets over a row of
outputs are neighbours for every stride. Each kernel then works on a run of output columns:

===========  =================================  ============================================
kernel       in registers                       inner loop
===========  =================================  ============================================
forward      4 channels of the output           taps: load weights once, inputs 4 times
grad_weight  4 taps of the weights' gradient    channels: load gradients once, inputs 4 times
grad_x       4 channels of the output gradient  taps: load weights once, update inputs 4 times
===========  =================================  ============================================

Every sum is made by one thread in a fixed order: repeated runs are equal.
"""

import math
from functools import lru_cache

import numba
import torch
from llvmlite import ir
from numba.core import cgutils

from mmext.ops.compiled.threads import compiled_as, make_worker, run_kernel
from mmext.ops.compiled.vectors import make_intrinsic

__all__ = ['involution_backward', 'involution_forward']

BLOCK = 4  # channels or taps held in registers


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


def _rows(emit, bits):
    """Make a function for a whole row: runs of 16 columns, then what is left in runs of 8, 4, 2 and 1."""
    name = f'rows{emit.__name__}{bits}'

    @compiled_as(f'{name}_0')
    def rest(full, a, b, c, offsets, i0, i1, i2, i3, i4, i5, count, columns):
        pass

    for lanes in (1, 2, 4, 8, 16):
        block, single = (make_intrinsic(lanes, size, emit, bits) for size in (BLOCK, 1))
        rest = _row(f'{name}_{lanes}', lanes, block, single, rest)
    return rest


def _row(name, lanes, block, single, rest):
    @compiled_as(name)
    def row(full, a, b, c, offsets, i0, i1, i2, i3, i4, i5, count, columns):
        while columns >= lanes:
            if full:
                block((a, b, c, offsets, i0, i1, i2, i3, i4, i5, count))
            else:
                single((a, b, c, offsets, i0, i1, i2, i3, i4, i5, count))
            i0, i2, i4, columns = i0 + lanes, i2 + lanes, i4 + lanes, columns - lanes
        rest(full, a, b, c, offsets, i0, i1, i2, i3, i4, i5, count, columns)

    return row


@numba.njit
def _geometry(numbers):
    return numbers[4], numbers[5], numbers[6], numbers[7], numbers[8], numbers[9]


@numba.njit
def _blocks(channels):
    return channels // BLOCK + channels % BLOCK


def _forward_worker(bits):
    row = _rows(_emit_forward, bits)

    @compiled_as(f'rows_forward{bits}')
    def task(n, numbers):
        out, x, w, offsets = numbers[0], numbers[1], numbers[2], numbers[3]
        channels, rows, columns, taps, row_step, channel_step = _geometry(numbers)
        pixels = rows * columns
        group, i = n // rows, n % rows
        iw = group * taps * pixels + i * columns
        c = 0
        while c < channels:
            full = channels - c >= BLOCK
            channel = group * channels + c
            o, ix = channel * pixels + i * columns, channel * channel_step + i * row_step
            row(full, out, x, w, offsets, o, pixels, ix, channel_step, iw, pixels, taps, columns)
            c += BLOCK if full else 1

    return make_worker(task)


def _grad_weight_worker(bits):
    row = _rows(_emit_grad_weight, bits)

    @compiled_as(f'rows_grad_weight{bits}')
    def task(n, numbers):
        grad_w, x, grad, offsets = numbers[0], numbers[1], numbers[2], numbers[3]
        channels, rows, columns, taps, row_step, channel_step = _geometry(numbers)
        pixels = rows * columns
        group, i = n // rows, n % rows
        channel = group * channels
        ix, ig = channel * channel_step + i * row_step, channel * pixels + i * columns
        t = 0
        while t < taps:
            full = taps - t >= BLOCK
            iw = (group * taps + t) * pixels + i * columns
            table = offsets + 8 * t  # bytes
            row(full, grad_w, x, grad, table, iw, pixels, ix, channel_step, ig, pixels, channels, columns)
            t += BLOCK if full else 1

    return make_worker(task)


def _grad_x_worker(bits):
    row = _rows(_emit_grad_x, bits)

    @compiled_as(f'rows_grad_x{bits}')
    def task(n, numbers):
        grad_x, grad, w, offsets = numbers[0], numbers[1], numbers[2], numbers[3]
        channels, rows, columns, taps, row_step, channel_step = _geometry(numbers)
        pixels, blocks = rows * columns, _blocks(channels)
        # a task has channels of its own, so that no other adds to the same rows
        group, block = n // blocks, n % blocks
        full = block < channels // BLOCK
        channel = group * channels + (block * BLOCK if full else channels - (blocks - block))
        for i in range(rows):
            ix, ig = channel * channel_step + i * row_step, channel * pixels + i * columns
            iw = group * taps * pixels + i * columns
            row(full, grad_x, grad, w, offsets, ix, channel_step, ig, pixels, iw, pixels, taps, columns)

    return make_worker(task)


# numba keeps on disk what is at the top of a file
_forward_worker32, _forward_worker64 = _forward_worker(32), _forward_worker(64)
_grad_weight_worker32, _grad_weight_worker64 = _grad_weight_worker(32), _grad_weight_worker(64)
_grad_x_worker32, _grad_x_worker64 = _grad_x_worker(32), _grad_x_worker(64)


def _forward32(data):
    _forward_worker32(data)


def _forward64(data):
    _forward_worker64(data)


def _grad_weight32(data):
    _grad_weight_worker32(data)


def _grad_weight64(data):
    _grad_weight_worker64(data)


def _grad_x32(data):
    _grad_x_worker32(data)


def _grad_x64(data):
    _grad_x_worker64(data)


@lru_cache(maxsize=256)
def _offsets(kernel_size, stride, dilation, phase_columns):
    taps = dilation * torch.arange(kernel_size, device='cpu')
    return taps[:, None] * stride * phase_columns + taps % stride * phase_columns + taps // stride


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
        self.row_step = stride * self.phase_columns
        self.channel_step = self.padded_rows * self.row_step
        self.offsets = _offsets(kernel_size, stride, dilation, self.phase_columns)

    def _phases(self, flat):
        """Yield, for each column phase, its first column of x and where its columns lie in the flat layout."""
        split = flat.view(*self.x_shape[:2], self.padded_rows, self.stride, self.phase_columns)
        height, width = self.x_shape[2:]
        for phase in range(self.stride):
            first = (phase - self.padding) % self.stride
            columns = len(range(first, width, self.stride))
            start = (first + self.padding) // self.stride
            yield first, split[:, :, self.padding : self.padding + height, phase, start : start + columns]

    def zeros(self):
        """Zeros in the layout of the class, flat."""
        return torch.zeros(math.prod(self.x_shape[:2]) * self.channel_step, dtype=self.dtype, device='cpu')

    def split(self, x):
        """[N, C, H, W] -> the layout of the class, flat."""
        flat = self.zeros()
        for first, columns in self._phases(flat):
            columns.copy_(x[..., first :: self.stride])
        return flat

    def join(self, flat, dtype):
        """The flat layout of the class -> [N, C, H, W], without the padding."""
        x = torch.empty(self.x_shape, dtype=dtype, device='cpu')
        for first, columns in self._phases(flat):
            x[..., first :: self.stride] = columns
        return x

    def whole(self, tensor):
        """A tensor as the kernels take it."""
        return tensor.to(self.dtype).contiguous()

    def run(self, kernel, tasks, *arrays):
        """Run a kernel on arrays of the dtype and then the offsets."""
        channels, taps = self.x_shape[1] // self.groups, self.offsets.numel()
        maps = self.images * self.groups
        products = maps * channels * self.rows * self.columns * taps
        sizes = channels, self.rows, self.columns, taps, self.stride * self.row_step, self.channel_step
        run_kernel(kernel, maps * tasks, products, (*arrays, self.offsets), sizes)


def involution_forward(x, weight, stride, padding, dilation):
    """Compute the output; arguments as of the package's.

    Returns:
        Tensor: [N, C, Ho, Wo], contiguous.
    """
    layout = _Layout(x, weight, stride, padding, dilation)
    out = torch.empty(*x.shape[:2], *weight.shape[4:], dtype=layout.dtype, device='cpu')
    kernel = _forward64 if layout.dtype == torch.float64 else _forward32
    layout.run(kernel, layout.rows, out, layout.split(x), layout.whole(weight))
    return out.to(x.dtype)


def involution_backward(grad_out, x, weight, stride, padding, dilation, needs_x=True, needs_weight=True):
    """Compute the gradients of ``x`` and ``weight``.

    Args:
        grad_out (Tensor): [N, C, Ho, Wo], the gradient of the output.
        x (Tensor): As in the package's ``involution_forward``; so are the settings after it.
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
    grad = layout.whole(grad_out)
    # one after the other, so that only one of them holds a padded map at a time
    grad_x = _grad_x(layout, grad, layout.whole(weight), x.dtype) if needs_x else None
    return grad_x, _grad_weight(layout, grad, x, weight) if needs_weight else None


def _grad_x(layout, grad, weight, dtype):
    flat = layout.zeros()
    blocks = _blocks.py_func(layout.x_shape[1] // layout.groups)
    layout.run(_grad_x64 if layout.dtype == torch.float64 else _grad_x32, blocks, flat, grad, weight)
    return layout.join(flat, dtype)


def _grad_weight(layout, grad, x, weight):
    out = torch.empty(weight.shape, dtype=layout.dtype, device='cpu')
    kernel = _grad_weight64 if layout.dtype == torch.float64 else _grad_weight32
    layout.run(kernel, layout.rows, out, layout.split(x), grad)
    return out.to(weight.dtype)
