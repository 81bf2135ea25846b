"""The compiled passes of an inception convolution: C functions that get addresses and run on PyTorch's threads.

They differ from an ordinary convolution by products of matrices in one thing: the products of a tap are added where the
dilation of their channel says. :mod:`.plan` explains the columns.
"""

import numba
import numpy as np
from numba.core import cgutils

from mmext.ops.compiled.threads import make_worker
from mmext.ops.compiled.vectors import make_intrinsic

from .access import array, read_plan, round_up
from .matrix import LANES, PANEL, multiply
from .plan import CHANNEL, CHANNELS, COLUMN, COPIES, COPY, PHASE, SEGMENT, SEGMENTS

__all__ = ['forward', 'grad_input', 'grad_weight']

_AT_ONCE = 4  # pixels


def _emit_sum(runs, block):
    """out[o + k so] = w[iw] + sum over t < count of a[i + offsets[t] + k si], for k < block."""
    out, a, w, offsets, o, so, iw, i, si, count = runs.args
    sums = runs.zeros(block)
    start = runs.load(w, iw)
    for cell in sums:
        runs.builder.store(start, cell)
    with cgutils.for_range(runs.builder, count) as loop:
        start = runs.builder.add(i, runs.offset(offsets, loop.index))
        for k in range(block):
            value = runs.load(a, runs.at(start, si, k))
            runs.builder.store(runs.builder.fadd(value, runs.builder.load(sums[k])), sums[k])
    for k in range(block):
        runs.store(runs.builder.load(sums[k]), out, runs.at(o, so, k))


def _emit_copy(runs, block):
    """out[o] = a[i]."""
    out, a, _, _, o, i = runs.args
    runs.store(runs.load(a, i), out, o)


_sum_some, _sum_one = (make_intrinsic(LANES, block, _emit_sum, 32) for block in (_AT_ONCE, 1))
_copy = make_intrinsic(LANES, 1, _emit_copy, 32)


@numba.njit
def _multiply_rows(columns, pitch, source, packed, image, images, begin, end, slot, block, sizes):
    """Fill columns with the products of some rows of the input and the filters of a block."""
    inputs, pixels = sizes.inputs, images * (end - begin) * sizes.columns
    plane = sizes.batch * sizes.rows * sizes.columns
    first = (image * sizes.rows + begin) * sizes.columns
    for phase in range(sizes.phases):
        start, stop = block[PHASE + phase], block[PHASE + phase + 1]
        a = source + 4 * (phase * plane + first) * inputs
        b = packed + 4 * (block[COLUMN] + start) * inputs
        c = columns + 4 * (slot * sizes.columns * pitch + start)
        multiply(c, pitch, a, inputs, 1, b, pixels, inputs, stop - start, 0)


@numba.njit
def _sum_row(scratch, columns, bias, pitch, line, first, i, top, segments, taps, places, inside, sizes):
    """Sum up one output row of a block; ``columns`` has the input's rows from ``top`` on, in a ring, from ``first``."""
    width = sizes.columns
    middle = (i - top) % sizes.ring
    for segment in segments:
        channel, size = segment[0], segment[1]
        count = 0
        for tap in range(sizes.taps):
            row, column = segment[2 + 3 * tap], segment[3 + 3 * tap]
            if 0 <= i + row < sizes.rows:
                slot = middle + row
                slot += sizes.ring if slot < 0 else -sizes.ring if slot >= sizes.ring else 0
                taps[count] = (slot * width + column) * pitch + segment[4 + 3 * tap]
                places[count] = column
                count += 1
        begin = 0
        while begin < width:  # pixels for which the same taps are inside of the map
            end, number = width, 0
            for tap in range(count):
                column = begin + places[tap]
                if column < 0:
                    end = min(end, begin - column)
                elif column < width:
                    end = min(end, begin + width - column)
                    inside[number] = taps[tap]
                    number += 1
            offsets = inside.ctypes.data
            blocks = end - (end - begin) % _AT_ONCE
            for v in range(0, size, LANES):  # what is written behind a segment is the next one's, which comes later
                c = channel + v
                for j in range(begin, blocks, _AT_ONCE):
                    o, a = j * line + c, first + j * pitch + v
                    _sum_some((scratch, columns, bias, offsets, o, line, c, a, pitch, number))
                for j in range(blocks, end):
                    o, a = j * line + c, first + j * pitch + v
                    _sum_one((scratch, columns, bias, offsets, o, line, c, a, pitch, number))
            begin = end


@numba.njit
def _copy_row(out, start, step, scratch, line, width, channels):
    """Copy the channels of a block, of one row of pixels."""
    target, source = out.ctypes.data, scratch.ctypes.data
    whole = channels - channels % LANES
    for j in range(width):
        o, a = start + j * step, j * line
        for c in range(0, whole, LANES):
            _copy((target, source, 0, 0, o + c, a + c))
        for c in range(whole, channels):
            out[o + c] = scratch[a + c]


@numba.njit
def _forward(task, numbers):
    source, packed, bias = numbers[1], numbers[2], numbers[3]
    sizes, blocks, segments, _ = read_plan(numbers[4], numbers[5])
    out = array(numbers[0], sizes.batch * sizes.rows * sizes.columns * sizes.outputs)
    block, task = blocks[task % sizes.blocks], task // sizes.blocks
    strip, image = task % sizes.strips, task // sizes.strips * sizes.images
    images = min(sizes.images, sizes.batch - image)
    channel, channels = block[CHANNEL], block[CHANNELS]
    its_segments = segments[block[SEGMENT] : block[SEGMENT] + block[SEGMENTS]]
    begin, end = strip * sizes.rows // sizes.strips, (strip + 1) * sizes.rows // sizes.strips
    top, bottom = max(0, begin - sizes.above), min(sizes.rows, end + sizes.below)
    pitch, line = block[PHASE + sizes.phases], channels + LANES
    columns = np.empty(images * sizes.ring * sizes.columns * pitch + LANES, np.float32)
    scratch = np.empty(sizes.columns * line, np.float32)
    lists = np.empty((3, sizes.taps), np.int64)
    i = begin
    for y in range(top, bottom, sizes.chunk):
        behind = min(y + sizes.chunk, bottom)
        slot = (y - top) % sizes.ring
        _multiply_rows(columns.ctypes.data, pitch, source, packed, image, images, y, behind, slot, block, sizes)
        while i < end and (behind == bottom or i + sizes.below < behind):
            for n in range(images):
                first = n * sizes.rows * sizes.columns * pitch
                _sum_row(
                    scratch.ctypes.data, columns.ctypes.data, bias + 4 * channel, pitch, line, first, i, top,
                    its_segments, lists[0], lists[1], lists[2], sizes,
                )  # fmt: skip
                pixel = ((image + n) * sizes.rows + i) * sizes.columns
                _copy_row(out, pixel * sizes.outputs + channel, sizes.outputs, scratch, line, sizes.columns, channels)
            i += 1


@numba.njit
def _spread(columns, pitch, grad, block, copies, image, images, begin, end, sizes):
    """Fill columns, for some rows of the input, with the gradient of the output that each product goes to."""
    total = len(grad)
    target, source = columns.ctypes.data, grad.ctypes.data
    for n in range(images):
        for y in range(begin, end):
            row = (n * (end - begin) + y - begin) * sizes.columns * pitch
            for copy in copies[block[COPY] : block[COPY] + block[COPIES]]:
                i = y - copy[3]
                first, last = max(0, copy[4]), min(sizes.columns, sizes.columns + copy[4])
                if i < 0 or i >= sizes.rows or first >= last:
                    first = last = sizes.columns
                for x in range(sizes.columns):
                    o = row + x * pitch + copy[0]
                    if x < first or x >= last:
                        for c in range(copy[2]):
                            columns[o + c] = 0
                        continue
                    pixel = ((image + n) * sizes.rows + i) * sizes.columns + x - copy[4]
                    a = pixel * sizes.outputs + block[CHANNEL] + copy[1]
                    # what is written behind these channels is overwritten by the next ones
                    for v in range(0, copy[2], LANES):
                        if a + v + LANES <= total:
                            _copy((target, source, 0, 0, o + v, a + v))
                        else:
                            for c in range(v, copy[2]):
                                columns[o + c] = grad[a + c]


@numba.njit
def _grad_input(task, numbers):
    out, packed = numbers[0], numbers[1]
    sizes, blocks, _, copies = read_plan(numbers[3], numbers[4])
    chunk, parts = numbers[5], numbers[6]
    size = sizes.batch * sizes.rows * sizes.columns * sizes.outputs
    grad = array(numbers[2], size)
    inputs, chunks = round_up(sizes.inputs), -(-sizes.rows // chunk)
    part, task = task % parts, task // parts
    panels = -(-inputs // PANEL)
    left, right = part * panels // parts * PANEL, min(inputs, (part + 1) * panels // parts * PANEL)
    begin, image = task % chunks * chunk, task // chunks * sizes.images
    end, images = min(sizes.rows, begin + chunk), min(sizes.images, sizes.batch - image)
    pixels = images * (end - begin) * sizes.columns
    plane = sizes.batch * sizes.rows * sizes.columns
    columns = np.empty(pixels * (sizes.most + LANES), np.float32)
    for index in range(sizes.blocks):
        block = blocks[index]
        width = block[PHASE + sizes.phases]
        pitch = width + LANES
        _spread(columns, pitch, grad, block, copies, image, images, begin, end, sizes)
        for phase in range(sizes.phases):
            start, stop = block[PHASE + phase], block[PHASE + phase + 1]
            pixel = phase * plane + (image * sizes.rows + begin) * sizes.columns
            for panel in range(left, right, PANEL):
                its_width = min(PANEL, inputs - panel)
                b = packed + 4 * (block[COLUMN] * inputs + panel * width + start * its_width)
                c = out + 4 * (pixel * inputs + panel)
                a = columns.ctypes.data + 4 * start
                multiply(c, inputs, a, pitch, 1, b, pixels, stop - start, its_width, index > 0)


@numba.njit
def _grad_weight(task, numbers):
    out, source = numbers[0], numbers[1]
    sizes, blocks, _, copies = read_plan(numbers[3], numbers[4])
    chunk = numbers[5]
    size = sizes.batch * sizes.rows * sizes.columns
    grad = array(numbers[2], size * sizes.outputs)
    pixels_of = array(source, sizes.phases * size * sizes.inputs).reshape(-1, sizes.inputs)
    block = blocks[task]
    pitch = block[PHASE + sizes.phases] + LANES
    most = sizes.images * chunk * sizes.columns
    columns, panel = np.empty(most * pitch, np.float32), np.zeros(most * PANEL, np.float32)
    inputs = round_up(sizes.inputs)
    add = 0
    for image in range(0, sizes.batch, sizes.images):
        images = min(sizes.images, sizes.batch - image)
        for begin in range(0, sizes.rows, chunk):
            end = min(sizes.rows, begin + chunk)
            pixels = images * (end - begin) * sizes.columns
            _spread(columns, pitch, grad, block, copies, image, images, begin, end, sizes)
            for phase in range(sizes.phases):
                start, stop = block[PHASE + phase], block[PHASE + phase + 1]
                first = phase * size + (image * sizes.rows + begin) * sizes.columns
                for left in range(0, inputs, PANEL):
                    width = min(PANEL, inputs - left)
                    for pixel in range(pixels):
                        for c in range(left, min(left + width, sizes.inputs)):
                            panel[pixel * width + c - left] = pixels_of[first + pixel, c]
                        for c in range(max(left, sizes.inputs), left + width):
                            panel[pixel * width + c - left] = 0
                    c = out + 4 * ((block[COLUMN] + start) * inputs + left)
                    a = columns.ctypes.data + 4 * start
                    multiply(c, inputs, a, 1, pitch, panel.ctypes.data, stop - start, pixels, width, add)
            add = 1


_forward_worker, _grad_input_worker, _grad_weight_worker = map(make_worker, (_forward, _grad_input, _grad_weight))


def forward(data):
    """Compute the output [N, H, W, O] from the phases [phases, N, H, W, C], packed filters and a bias."""
    _forward_worker(data)


def grad_input(data):
    """Compute the gradient of the phases from packed filters and the gradient of the output."""
    _grad_input_worker(data)


def grad_weight(data):
    """Compute the gradient of the filters [columns, C] from the phases and the gradient of the output."""
    _grad_weight_worker(data)
