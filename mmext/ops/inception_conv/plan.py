"""What the compiled backend looks up: how it cuts a map and its channels, and which column has which product.

The input pixels that one tap of one dilation meets lie, with a stride, on one of ``stride_h * stride_w`` grids of the
output's size; such a grid is called a phase. A block is a few neighbouring output channels. Its columns are the
products of every pixel with every tap of every channel: sorted by phase, then tap, then channel, so that a phase's
columns are one product of matrices, and the channels of a run are neighbours. Each phase ends with empty columns up to
a multiple of ``LANES``.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch

from .matrix import LANES

__all__ = ['Plan', 'Sizes', 'make_plan', 'padded']  # and the names of the columns of a table

TILE_BYTES = 2**20  # of columns that a thread has at a time; they have to stay in a core's own cache
TILE_PIXELS = 224  # that a product of matrices should have, about
RING_COLUMNS = 1152  # of a block at most where only some rows are kept
OUTSIDE = 2**31  # rows from any map
CHANNEL, CHANNELS, SEGMENT, SEGMENTS, COPY, COPIES, COLUMN, PHASE = range(8)  # columns of the blocks' table
BLOCKS = 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512  # channels of a block


class Sizes(NamedTuple):
    """What the kernels are told first, all int.

    Attributes:
        batch: Images.
        inputs: Input channels.
        rows: Rows of the output and of each phase of the input.
        columns: Likewise.
        outputs: Output channels.
        taps: Of a filter.
        phases: See the module.
        images: Whole images in a tile; where that is 1, a tile may be some rows of an image.
        strips: Parts of an image, in rows, that are tasks of their own.
        above: Rows that the taps reach above a pixel of the output.
        below: Rows that they reach below it.
        chunk: Rows that are multiplied at a time.
        ring: Rows whose products are kept: the chunk and those that the taps reach.
        blocks: Rows of the first table.
        segments: Rows of the second.
        copies: Rows of the third.
        most: Columns of the widest block.
    """

    batch: int
    inputs: int
    rows: int
    columns: int
    outputs: int
    taps: int
    phases: int
    images: int
    strips: int
    above: int
    below: int
    chunk: int
    ring: int
    blocks: int
    segments: int
    copies: int
    most: int


class Plan(NamedTuple):
    """How to compute one inception convolution on maps of one size.

    Attributes:
        sizes: :class:`Sizes`.
        filters: Column, of all blocks -> index of the filter ``channel * taps + tap`` that it belongs to, -1 if it is
            empty, int64.
        numbers: ``sizes`` and three tables, int64. The first has the blocks: first channel, channels, first row in the
            second table, rows there, first row in the third, rows there, columns of the blocks before it, then the
            first column of each phase, and the number of columns. The second has each run of equal dilation within a
            block: first channel in the block, channels, then of each tap its row, its column and the first column of
            its products. The third has the same in the order of the columns, for each tap of a run: first column,
            first channel in the block, channels, row and column of the tap.
    """

    sizes: Sizes
    filters: torch.Tensor
    numbers: torch.Tensor


@functools.lru_cache(maxsize=1024)
def make_plan(shape, kernel_size, pattern, strides, threads):
    """Make the plan of a forward and backward pass.

    Args:
        shape (tuple): Of the input, [N, C, H, W].
        kernel_size (int): Taps per side.
        pattern (tuple): (dilation_h, dilation_w, channels) of each run.
        strides (tuple[int, int]): In pixels.
        threads (int): Threads that will work.

    Returns:
        Plan: The plan.
    """
    batch, inputs, height, width = shape
    rows, columns = -(-height // strides[0]), -(-width // strides[1])
    taps, outputs = kernel_size**2, sum(run[2] for run in pattern)
    reach = max(run[0] for run in pattern) * (kernel_size // 2)
    above, below = -(-reach // strides[0]), reach // strides[0]
    images, block, chunk = _tiles(batch, rows, columns, above + below, taps, strides[0] * strides[1], outputs, threads)
    tables = blocks, segments, copies = [], [], []
    filters = []
    for start in range(0, outputs, block):
        channels = min(block, outputs - start)
        its_segments, its_copies, ranges, its_filters = _block(start, channels, kernel_size, pattern, strides)
        counts = len(segments), len(its_segments), len(copies), len(its_copies), len(filters)
        blocks.append((start, channels, *counts, *ranges))
        segments += its_segments
        copies += its_copies
        filters += its_filters
    tasks = len(blocks) * -(-batch // images)
    strips = min(-(-threads // tasks), max(1, rows // (2 * max(1, above + below)))) if images == 1 else 1
    ring = rows if chunk == rows else chunk * -(-(chunk + above + below) // chunk)
    sizes = Sizes(
        batch, inputs, rows, columns, outputs, taps, strides[0] * strides[1], images, strips, above, below, chunk,
        min(ring, chunk * -(-rows // chunk)), *map(len, tables), max(its[-1] for its in blocks),
    )  # fmt: skip
    arrays = [np.ravel(np.array(part, np.int64)) for part in (sizes, *tables)]
    return Plan(sizes, torch.tensor(filters, dtype=torch.int64, device='cpu'), torch.from_numpy(np.concatenate(arrays)))


def padded(count):
    """Round up to a multiple of ``LANES``."""
    return -(-count // LANES) * LANES


def _tiles(batch, rows, columns, reach, taps, phases, outputs, threads):
    """Return the images of a tile, the channels of a block, and the rows that are multiplied at a time."""
    widths = [width for width in BLOCKS if width < outputs] + [outputs]
    pixels = rows * columns
    if pixels <= TILE_PIXELS or (phases == 1 and 4 * taps * pixels * min(outputs, 32) <= TILE_BYTES):
        images = max(1, min(batch, TILE_PIXELS // pixels))
        share = -(-outputs * -(-batch // images) // threads)  # as many tasks as there are threads
        most = min(TILE_BYTES // (4 * taps * images * pixels), share)
        return images, max(width for width in widths if width == widths[0] or width <= most), rows
    chunk = -(-TILE_PIXELS // 2 // columns)
    most = TILE_BYTES // (4 * taps * (chunk + reach) * columns)
    most = min(most * phases // 2, RING_COLUMNS // taps) if phases > 1 else min(most, RING_COLUMNS // taps // 2)
    return 1, max(width for width in widths if width == widths[0] or width <= most), min(rows, chunk)


def _block(start, channels, kernel_size, pattern, strides):
    """Return the tables of one block of channels: segments, copies, ranges of columns and filters."""
    pieces, first = [], 0
    for dilation_h, dilation_w, count in pattern:
        begin, end = max(first, start), min(first + count, start + channels)
        if begin < end:
            pieces.append((begin, end - begin, dilation_h, dilation_w))
        first += count
    reach = kernel_size // 2
    segments = np.zeros((len(pieces), 2 + 3 * kernel_size**2), np.int64)
    copies, ranges, filters = [], [0], []
    for phase in np.ndindex(*strides):
        for tap, (u, v) in enumerate(np.ndindex(kernel_size, kernel_size)):
            for index, (begin, count, dilation_h, dilation_w) in enumerate(pieces):
                segments[index, :2] = begin - start, count
                place = (u - reach) * dilation_h, (v - reach) * dilation_w
                if all(p % s == its for p, s, its in zip(place, strides, phase)):
                    row, column = (p // s for p, s in zip(place, strides))
                    segments[index, 2 + 3 * tap : 5 + 3 * tap] = row, column, len(filters)
                    copies.append((len(filters), begin - start, count, row, column))
                    filters += [channel * kernel_size**2 + tap for channel in range(begin, begin + count)]
        empty = padded(len(filters)) - len(filters)
        if empty:
            copies.append((len(filters), 0, empty, OUTSIDE, 0))
            filters += [-1] * empty
        ranges.append(len(filters))
    return segments.tolist(), copies, ranges, filters
