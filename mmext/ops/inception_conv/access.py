"""How compiled code gets at arrays that it is given as addresses, and at a plan."""

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.unsafe.ndarray import to_fixed_tuple

from .plan import PHASE, Sizes, padded

__all__ = ['array', 'integers', 'read_plan', 'round_up']

_SIZES = len(Sizes._fields)

round_up = numba.njit(padded)


@intrinsic
def _pointer(typing, address):
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), codegen


@numba.njit
def array(address, size):
    """Return ``size`` float32 numbers."""
    return numba.carray(_pointer(address), (size,), numba.float32)


@numba.njit
def integers(address, size):
    """Return ``size`` int64 numbers."""
    return numba.carray(_pointer(address), (size,), numba.int64)


@numba.njit
def read_plan(address, size):
    """Return the sizes and the three tables of a plan."""
    numbers = integers(address, size)
    sizes = Sizes(*to_fixed_tuple(numbers, _SIZES))
    width = PHASE + 1 + sizes.phases
    first, second = _SIZES, _SIZES + sizes.blocks * width
    third = second + sizes.segments * (2 + 3 * sizes.taps)
    blocks = numbers[first:second].reshape(sizes.blocks, width)
    segments = numbers[second:third].reshape(sizes.segments, 2 + 3 * sizes.taps)
    copies = numbers[third : third + 5 * sizes.copies].reshape(sizes.copies, 5)
    return sizes, blocks, segments, copies
