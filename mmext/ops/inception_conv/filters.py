"""Brings filters into the order in which the compiled passes read them, and back.

Each is a C function that gets the addresses of the packed filters, the weights [O, C, k, k] of any strides, the plan's
``filters`` and its ``numbers``, then how many numbers there are, C, k, the strides of the weights and how many elements
these span.
"""

import numba
import numpy as np

from mmext.ops.compiled.threads import make_worker

from .access import array, integers, read_plan, round_up
from .matrix import PANEL
from .plan import COLUMN, PHASE

__all__ = ['pack_columns', 'pack_rows', 'unpack']


@numba.njit
def _filter(column, numbers):
    """Return where the filter of a column begins in the weights, -1 if the column is empty."""
    filters, taps = integers(numbers[2], column + 1), numbers[6]
    if filters[column] < 0:
        return -1
    channel, tap = divmod(filters[column], taps**2)
    return channel * numbers[7] + tap // taps * numbers[9] + tap % taps * numbers[10]


@numba.njit
def _weights(numbers):
    """Return the weights, wherever they lie, and the step from an input channel to the next."""
    return array(numbers[1], numbers[11]), numbers[8]


@numba.njit
def _pack_columns(task, numbers):
    sizes, blocks, _, _ = read_plan(numbers[3], numbers[4])
    weight, step = _weights(numbers)
    block, phase = blocks[task // sizes.phases], task % sizes.phases
    start, stop = block[PHASE + phase], block[PHASE + phase + 1]
    first = block[COLUMN] + start
    packed = array(numbers[0], (block[COLUMN] + stop) * sizes.inputs)
    places = np.zeros(PANEL, np.uint64)  # numba asks of each signed index whether it is negative
    inputs, step = np.uint64(sizes.inputs), np.uint64(step)
    one = np.uint64(1)
    for left in range(0, stop - start, PANEL):
        width = min(PANEL, stop - start - left)
        used = np.uint64(0)
        for column in range(width):
            place = _filter(first + left + column, numbers)
            if place >= 0:  # empty columns are the last ones
                places[used] = place
                used += one
        o = np.uint64((first + left) * sizes.inputs)
        for c in range(inputs):
            for column in range(used):
                packed[o + column] = weight[places[column] + c * step]
            for column in range(used, np.uint64(width)):
                packed[o + column] = 0
            o += np.uint64(width)


@numba.njit
def _pack_rows(task, numbers):
    sizes, blocks, _, _ = read_plan(numbers[3], numbers[4])
    weight, step = _weights(numbers)
    block = blocks[task]
    inputs, width = round_up(sizes.inputs), block[PHASE + sizes.phases]
    packed = array(numbers[0], (block[COLUMN] + width) * inputs)
    for column in range(width):
        place = _filter(block[COLUMN] + column, numbers)
        for left in range(0, inputs, PANEL):
            size = min(PANEL, inputs - left)
            at = block[COLUMN] * inputs + left * width + column * size
            for c in range(size):
                inside = place >= 0 and left + c < sizes.inputs
                packed[at + c] = weight[place + (left + c) * step] if inside else 0


@numba.njit
def _unpack(task, numbers):
    place = _filter(task, numbers)
    inputs, size = numbers[5], round_up(numbers[5])
    weight, step = _weights(numbers)
    packed = array(numbers[0], (task + 1) * size)
    if place >= 0:
        for c in range(inputs):
            weight[place + c * step] = packed[task * size + c]


_pack_columns_worker, _pack_rows_worker, _unpack_worker = map(make_worker, (_pack_columns, _pack_rows, _unpack))


def pack_columns(data):
    """Copy the filters of a phase of a block to panels whose columns they are."""
    _pack_columns_worker(data)


def pack_rows(data):
    """Copy the filters of a block to panels whose rows they are."""
    _pack_rows_worker(data)


def unpack(data):
    """Copy filters [columns, C] to their places in the weights."""
    _unpack_worker(data)
