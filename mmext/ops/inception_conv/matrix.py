"""Products of small matrices in compiled code, as fast as the processor multiplies.

``ROWS x RUNS`` sums of ``LANES`` neighbours stay in vector registers. LLVM cannot see that the arrays do not overlap
and would leave plain loops as they are, so it is given vector code as such. The right matrix comes in panels of
``PANEL`` columns, each with its rows one after the other, the last one narrower.
"""

from llvmlite import binding, ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from mmext.ops.compiled.threads import compiled_as

__all__ = ['LANES', 'PANEL', 'multiply']

_features = config.CPU_FEATURES  # what the user tells numba to compile for
if _features is None:
    _features = binding.get_host_cpu_features().flatten()
if '+avx512f' in _features:  # 32 registers of 16 elements
    LANES, ROWS, RUNS = 16, 8, 3
elif '+avx' in _features:  # 16 registers of 8
    LANES, ROWS, RUNS = 8, 4, 2
else:  # as on ARM: 32 registers of 4
    LANES, ROWS, RUNS = 4, 8, 3
PANEL = LANES * RUNS
_UNROLLED = 2  # steps of the sum at once

_INTEGER, _FLOAT = ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)


class _Block:
    """Code of C[m, v] (+)= sum over k of A[m, k] B[k, v] for ``rows`` numbers m and ``runs`` vectors v."""

    def __init__(self, builder, numbers, rows, runs):
        self.builder, self.rows, self.runs = builder, rows, runs
        c, a, b, self.c_row, a_row, self.a_step, self.b_step, self.count, self.add = numbers
        self.b = self.pointer(b)
        self.a = [self.at(self.pointer(a), a_row, m) for m in range(rows)]
        self.c = [self.at(self.pointer(c), self.c_row, m) for m in range(rows)]

    def pointer(self, address):
        return self.builder.inttoptr(address, _FLOAT.as_pointer())

    def at(self, data, step, count):
        count = count if isinstance(count, ir.Value) else ir.Constant(_INTEGER, count)
        return self.builder.gep(data, [self.builder.mul(step, count)])

    def vector(self, data, index):
        return self.builder.bitcast(
            self.builder.gep(data, [ir.Constant(_INTEGER, index * LANES)]), _VECTOR.as_pointer()
        )

    def emit(self):
        sums = [ir.Constant(_VECTOR, None)] * (self.rows * self.runs)
        whole = self.builder.and_(self.count, ir.Constant(_INTEGER, -_UNROLLED))
        sums = self.loop(ir.Constant(_INTEGER, 0), whole, _UNROLLED, sums)
        sums = self.loop(whole, self.count, 1, sums)
        cells = [cgutils.alloca_once_value(self.builder, value) for value in sums]
        targets = [self.vector(row, v) for row in self.c for v in range(self.runs)]
        with self.builder.if_then(self.builder.icmp_signed('!=', self.add, ir.Constant(_INTEGER, 0))):
            for cell, value, target in zip(cells, sums, targets):
                self.builder.store(self.builder.fadd(value, self.builder.load(target, align=4)), cell)
        for cell, target in zip(cells, targets):
            self.builder.store(self.builder.load(cell), target, align=4)

    def loop(self, start, end, step, sums):
        """Add the products from ``start`` to ``end``."""
        before = self.builder.block
        check, body, behind = (self.builder.append_basic_block(name) for name in ('check', 'body', 'behind'))
        self.builder.branch(check)
        self.builder.position_at_end(check)
        k, *totals = (self.builder.phi(kind) for kind in (_INTEGER, *[_VECTOR] * len(sums)))
        for value, first in zip((k, *totals), (start, *sums)):
            value.add_incoming(first, before)
        self.builder.cbranch(self.builder.icmp_signed('<', k, end), body, behind)
        self.builder.position_at_end(body)
        added = list(totals)
        for number in range(step):
            added = self.step(self.builder.add(k, ir.Constant(_INTEGER, number)), added)
        following = self.builder.add(k, ir.Constant(_INTEGER, step))
        for value, result in zip((k, *totals), (following, *added)):
            value.add_incoming(result, body)
        self.builder.branch(check)
        self.builder.position_at_end(behind)
        return totals

    def step(self, k, sums):
        row = self.at(self.b, self.b_step, k)
        vectors = [self.builder.load(self.vector(row, v), align=4) for v in range(self.runs)]
        undefined, zeros = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
        results = []
        for m, data in enumerate(self.a):
            number = self.builder.load(self.at(data, self.a_step, k))
            number = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
            number = self.builder.shuffle_vector(number, undefined, zeros)
            for vector, total in zip(vectors, sums[m * self.runs :]):
                product = self.builder.fmul(number, vector, flags=('contract',))  # fused where the machine can
                results.append(self.builder.fadd(product, total, flags=('contract',)))
        return results


def _make_block(rows, runs):
    @intrinsic
    def block(typing, numbers):
        def codegen(context, builder, signature, args):
            _Block(builder, cgutils.unpack_tuple(builder, args[0]), rows, runs).emit()
            return context.get_dummy_value()

        return types.void(numbers), codegen

    return block


def _rows_of(runs):
    """Make a function for any number of rows: blocks of ``ROWS``, then what is left in blocks of half as many."""

    @compiled_as(f'inception_conv_rows_0x{runs}')
    def rest(c, c_row, a, a_row, a_step, b, b_step, rows, count, add):
        pass

    size = 1
    while size <= ROWS:
        rest = _in_blocks(f'inception_conv_rows_{size}x{runs}', size, _make_block(size, runs), rest)
        size *= 2
    return rest


def _in_blocks(name, size, block, rest):
    @compiled_as(name)
    def in_blocks(c, c_row, a, a_row, a_step, b, b_step, rows, count, add):
        while rows >= size:
            block((c, a, b, c_row, a_row, a_step, b_step, count, add))
            c, a, rows = c + 4 * size * c_row, a + 4 * size * a_row, rows - size
        rest(c, c_row, a, a_row, a_step, b, b_step, rows, count, add)

    return in_blocks


def _panel_of(runs, others):
    rows_of = _rows_of(runs)

    @compiled_as(f'inception_conv_panel_{runs}')
    def panel(c, c_row, a, a_row, a_step, b, rows, count, width, add):
        if width == runs * LANES:
            rows_of(c, c_row, a, a_row, a_step, b, width, rows, count, add)
        else:
            others(c, c_row, a, a_row, a_step, b, rows, count, width, add)

    return panel


@compiled_as('inception_conv_panel_0')
def _any_panel(c, c_row, a, a_row, a_step, b, rows, count, width, add):
    pass


for _runs in range(1, RUNS + 1):
    _any_panel = _panel_of(_runs, _any_panel)


@compiled_as('inception_conv_multiply')
def multiply(c, c_row, a, a_row, a_step, b, rows, count, width, add):
    """C[m, n] = sum over k of A[m, k] B[k, n], or added to what C has.

    Args:
        c (int): Address of C[0, 0], float32; so is ``a``.
        c_row (int): From an element of C to that of the next row; the columns are neighbours.
        a (int): Address of A[0, 0].
        a_row (int): From an element of A to that of the next row.
        a_step (int): From an element of A to that of the next column.
        b (int): Address of the panels of B.
        rows (int): Of C and A.
        count (int): Columns of A, rows of B.
        width (int): Columns of C and B, a multiple of ``LANES``.
        add (int): 1 to add, 0 to overwrite.
    """
    for first in range(0, width, PANEL):
        columns = min(PANEL, width - first)
        _any_panel(c + 4 * first, c_row, a, a_row, a_step, b + 4 * first * count, rows, count, columns, add)
