"""Explicit vector code for numba: operations on runs of neighbouring elements, built with llvmlite.

LLVM cannot see that the arrays do not overlap and would leave plain loops as they are, so the vector code is given to
it as such, in numba intrinsics.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = ['Runs', 'make_intrinsic']

INTEGER = ir.IntType(64)
FLOATS = {32: ir.FloatType(), 64: ir.DoubleType()}


class Runs:
    """Code of operations on runs of ``lanes`` neighbouring elements, of any alignment, within an intrinsic.

    Attributes:
        args (list): Pointers to three arrays of floating point numbers and one of integers, then integers.
    """

    def __init__(self, builder, integers, lanes, bits):
        self.builder = builder
        values = cgutils.unpack_tuple(builder, integers)
        kinds = *[FLOATS[bits]] * 3, INTEGER
        self.args = [builder.inttoptr(value, kind.as_pointer()) for value, kind in zip(values, kinds)] + values[4:]
        self.align = bits // 8
        self.type = ir.VectorType(FLOATS[bits], lanes)

    def _pointer(self, data, index):
        return self.builder.bitcast(self.builder.gep(data, [index]), self.type.as_pointer())

    def load(self, data, index):
        """The run that starts at an index."""
        return self.builder.load(self._pointer(data, index), align=self.align)

    def broadcast(self, data, index):
        """One element in every lane."""
        element = self.builder.load(self.builder.gep(data, [index]))
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, element, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), self.type.count), None)
        )

    def store(self, value, data, index):
        """Write a run."""
        self.builder.store(value, self._pointer(data, index), align=self.align)

    def multiply_add(self, a, b, c):
        """A run of a * b + c."""
        product = self.builder.fmul(a, b, flags=('contract',))  # fused where the machine can
        return self.builder.fadd(product, c, flags=('contract',))

    def zeros(self, count):
        """That many sums, each a run in memory that becomes a register."""
        cells = [cgutils.alloca_once(self.builder, self.type) for _ in range(count)]  # LLVM puts them in registers
        for cell in cells:
            self.builder.store(ir.Constant(self.type, None), cell)
        return cells

    def add_product(self, cell, a, b):
        """Add a * b to a sum."""
        self.builder.store(self.multiply_add(a, b, self.builder.load(cell)), cell)

    def at(self, start, step, count):
        """The index ``start + step * count``."""
        count = count if isinstance(count, ir.Value) else ir.Constant(step.type, count)
        return self.builder.add(start, self.builder.mul(step, count))

    def offset(self, table, index):
        """An entry of the table of offsets."""
        return self.builder.load(self.builder.gep(table, [index]))


def make_intrinsic(lanes, block, emit, bits):
    """Make an intrinsic whose one argument is a tuple of integers: four addresses, and what else the code wants.

    Args:
        lanes (int): Elements of a run.
        block (int): Runs that are worked on at once.
        emit (Callable): ``emit(runs, block)`` builds the code.
        bits (int): 32 or 64, of an element.

    Returns:
        Callable: For use in compiled functions; it returns None.
    """

    @intrinsic
    def run(typing, integers):
        def codegen(context, builder, signature, args):
            emit(Runs(builder, args[0], lanes, bits), block)
            return context.get_dummy_value()

        return types.void(integers), codegen

    return run
