"""Involution of channels_last tensors: runs of neighbouring channels in vector registers, nothing copied.

A run of channels of one output pixel is the sum of such runs of x, each times one weight. Four groups are worked on at
once, as the sum of one would wait for itself. Taps outside of x are left out, so that x needs no padding.
"""

from functools import lru_cache

import numba
import torch
from llvmlite import ir
from numba.core import cgutils

from mmext.ops.compiled.threads import compiled_as, make_worker, run_kernel
from mmext.ops.compiled.vectors import make_intrinsic

__all__ = ['involution_forward', 'pixel_major']

BLOCK = 4  # groups at once


def _emit_pixel(runs, block):
    """out[o + k s] = sum over taps t of w[iw + t + k sw] x[ix + offsets[t] + k s], for k < block.

    The taps are u, v with t = u taps + v, u from u0 to u1 and v from v0 to v1.
    """
    out, x, w, offsets, o, ix, s, iw, sw, u0, u1, v0, v1, taps = runs.args
    sums = runs.zeros(block)
    one = ir.Constant(u0.type, 1)
    rows = cgutils.for_range_slice(runs.builder, u0, u1, one)
    columns = cgutils.for_range_slice(runs.builder, v0, v1, one)
    with rows as (u, _), columns as (v, _):
        t = runs.at(v, u, taps)
        start = runs.builder.add(ix, runs.offset(offsets, t))
        weight = runs.builder.add(iw, t)
        for k in range(block):
            value = runs.load(x, runs.at(start, s, k))
            runs.add_product(sums[k], runs.broadcast(w, runs.at(weight, sw, k)), value)
    for k in range(block):
        runs.store(runs.builder.load(sums[k]), out, runs.at(o, s, k))


def _channels(bits):
    """Make a function for the channels of a group: runs of 16, then what is left in runs of 8, 4, 2 and 1."""

    @compiled_as(f'channels{bits}_0')
    def rest(full, out, x, w, offsets, o, ix, s, iw, sw, u0, u1, v0, v1, taps, channels):
        pass

    for lanes in (1, 2, 4, 8, 16):
        block, single = (make_intrinsic(lanes, size, _emit_pixel, bits) for size in (BLOCK, 1))
        rest = _channels_in_runs(f'channels{bits}_{lanes}', lanes, block, single, rest)
    return rest


def _channels_in_runs(name, lanes, block, single, rest):
    @compiled_as(name)
    def channels_in_runs(full, out, x, w, offsets, o, ix, s, iw, sw, u0, u1, v0, v1, taps, channels):
        while channels >= lanes:
            if full:
                block((out, x, w, offsets, o, ix, s, iw, sw, u0, u1, v0, v1, taps))
            else:
                single((out, x, w, offsets, o, ix, s, iw, sw, u0, u1, v0, v1, taps))
            o, ix, channels = o + lanes, ix + lanes, channels - lanes
        rest(full, out, x, w, offsets, o, ix, s, iw, sw, u0, u1, v0, v1, taps, channels)

    return channels_in_runs


@numba.njit
def _taps_inside(start, size, dilation, taps):
    """The first tap at or after pixel 0, and the first behind the last pixel."""
    first = max(0, (-start + dilation - 1) // dilation)
    return first, max(first, min(taps, (size - 1 - start) // dilation + 1))


def _forward_worker(bits):
    group_channels = _channels(bits)

    @compiled_as(f'pixels_forward{bits}')
    def forward(task, numbers):
        out, x, w, offsets = numbers[0], numbers[1], numbers[2], numbers[3]
        height, width, groups, channels = numbers[4], numbers[5], numbers[6], numbers[7]
        rows, columns, taps = numbers[8], numbers[9], numbers[10]
        stride, padding, dilation = numbers[11], numbers[12], numbers[13]
        image, i = task // rows, task % rows
        top = i * stride - padding
        u0, u1 = _taps_inside(top, height, dilation, taps)
        for j in range(columns):
            left = j * stride - padding
            v0, v1 = _taps_inside(left, width, dilation, taps)
            o = (task * columns + j) * groups * channels
            ix = ((image * height + top) * width + left) * groups * channels
            iw = (task * columns + j) * groups * taps**2
            g = 0
            while g < groups:
                full = groups - g >= BLOCK
                c, t = o + g * channels, ix + g * channels
                taps_inside = u0, u1, v0, v1, taps, channels
                group_channels(full, out, x, w, offsets, c, t, channels, iw + g * taps**2, taps**2, *taps_inside)
                g += BLOCK if full else 1

    return make_worker(forward)


# numba keeps on disk what is at the top of a file
_forward_worker32, _forward_worker64 = _forward_worker(32), _forward_worker(64)


def _forward32(data):
    _forward_worker32(data)


def _forward64(data):
    _forward_worker64(data)


def pixel_major(weight):
    """[N, G, K, K, Ho, Wo] -> [N, Ho, Wo, G, K, K]: how the maps of a channels_last convolution lie in memory."""
    return weight.permute(0, 4, 5, 1, 2, 3)


@lru_cache(maxsize=256)
def _offsets(taps, step, width):
    steps = step * torch.arange(taps, device='cpu')
    return steps[:, None] * width + steps


def involution_forward(x, weight, stride, padding, dilation):
    """Compute the output; arguments as of the package's, x and the weights best as a channels_last network has them.

    Returns:
        Tensor: [N, C, Ho, Wo], channels_last.
    """
    (batch, channels, height, width), (_, groups, taps, _, rows, columns) = x.shape, weight.shape
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    pixels, weights = (tensor.to(dtype).contiguous() for tensor in (x.movedim(1, -1), pixel_major(weight)))
    out = torch.empty(batch, rows, columns, channels, dtype=dtype, device='cpu')
    offsets = _offsets(taps, dilation * channels, width)
    sizes = height, width, groups, channels // groups, rows, columns, taps, stride, padding, dilation
    kernel = _forward64 if dtype == torch.float64 else _forward32
    run_kernel(kernel, batch * rows, out.numel() * taps**2, (out, pixels, weights, offsets), sizes)
    return out.movedim(-1, 1).to(x.dtype)
