"""The case table of the CUDA backend and its comparison with the reference in float64."""

import itertools
from dataclasses import replace

import torch

from mmext.ops.involution.cuda import launch
from mmext.ops.involution.cuda.plan import make_plan
from mmext.ops.involution.functional import output_size
from mmext.ops.involution.reference import involution_backward, involution_forward

# units of rounding: of the result, and of the sums that lead to it
ROUNDING = {
    torch.float64: (2**-53, 2**-53),
    torch.float32: (2**-24, 2**-24),
    torch.float16: (2**-11, 2**-24),
    torch.bfloat16: (2**-8, 2**-24),
}
GROUPS = (1, 16), (2, 3), (4, 1), (3, 8), (2, 20), (1, 5), (5, 2)  # and channels of each
SIZES = (7, 7), (11, 5), (13, 17), (1, 1), (9, 23), (1, 9), (8, 12), (31, 3)


def plan_of_large_batch(problem):
    """Return the plan of 64,000 maps with the grid that the problem needs."""
    plan = make_plan(replace(problem, maps=64_000))
    per_block = dict(plan.macros)['MAPS']
    return replace(plan, grid=plan.grid // (64_000 // per_block) * -(-problem.maps // per_block))


PLANS = {'small': make_plan, 'large': plan_of_large_batch}


def _table():
    """Every kernel size, stride, dilation and dtype, with the other sizes taken in turn."""
    dtypes = tuple(ROUNDING)
    for n, (taps, stride, dilation, dtype) in enumerate(itertools.product((1, 3, 5, 7, 9), (1, 2, 3), (1, 2), dtypes)):
        n += n // 4  # so that a dtype does not always meet the same sizes
        size, (groups, channels) = SIZES[n % 8], GROUPS[n % 7]
        reach = dilation * (taps - 1)
        padding = (reach // 2, reach // 2, 0 if reach < min(size) else reach // 2, reach + 1)[n // 3 % 4]
        shape = 1 + n % 3, groups * channels, *size
        yield shape, groups, taps, stride, dilation, padding, dtype, ('small', 'large')[n // 2 % 2]


def _shapes():
    """Further shapes: those of the networks, and what is far from them."""
    for shape, groups, taps, stride, dilation in (
        ((3, 32, 7, 7), 2, 7, 1, 1),
        ((1, 32, 14, 14), 2, 7, 1, 1),
        ((1, 16, 28, 28), 1, 7, 1, 1),
        ((1, 16, 30, 34), 1, 7, 2, 1),
        ((2, 32, 14, 14), 2, 7, 2, 1),
        ((1, 32, 33, 70), 2, 3, 1, 1),
        ((1, 16, 25, 38), 1, 7, 1, 1),
        ((70, 6, 1, 1), 2, 3, 1, 1),
        ((1, 33, 9, 9), 1, 3, 1, 1),
        ((1, 80, 6, 7), 2, 5, 1, 1),
        ((1, 2, 23, 29), 1, 7, 1, 6),
        ((1, 16, 40, 40), 1, 5, 1, 12),
        ((1, 8, 12, 12), 2, 11, 1, 1),
        ((1, 4, 9, 9), 2, 15, 2, 1),
        ((1, 2, 20, 20), 1, 31, 1, 1),
        ((1, 4, 17, 19), 1, 1, 5, 1),
        ((1, 6, 20, 20), 2, 3, 5, 2),
        ((1, 6, 20, 20), 2, 3, 4, 6),
    ):
        for plans in PLANS:
            yield shape, groups, taps, stride, dilation, dilation * (taps - 1) // 2, torch.float32, plans


# (shape of x, groups, taps, stride, dilation, padding, dtype, key of PLANS)
CASES = [*_table(), *_shapes()]


def case_id(case):
    return '-'.join(str(part).replace(' ', '').replace('torch.', '') for part in case)


def tensors(shape, groups, taps, stride, dilation, padding, dtype):
    """Return x, weight and the gradient of the output."""
    out = [output_size(size, taps, stride, padding, dilation) for size in shape[2:]]
    shapes = shape, (shape[0], groups, taps, taps, *out), (*shape[:2], *out)
    return [torch.randn(shape, dtype=torch.float64).to(dtype) for shape in shapes]


def run(x, weight, grad_out, *settings):
    out = launch.involution_forward(x, weight, *settings)
    return out, *launch.involution_backward(grad_out, x, weight, *settings)


def _reference(x, weight, grad_out, *settings):
    return involution_forward(x, weight, *settings), *involution_backward(grad_out, x, weight, *settings)


def check(x, weight, grad_out, *settings):
    """Compare with the reference; what may differ is the result's rounding and a little of that of its summands."""
    results = run(x, weight, grad_out, *settings)
    exact = [tensor.cpu().double() for tensor in (x, weight, grad_out)]
    expected = _reference(*exact, *settings)
    magnitudes = _reference(*(tensor.abs() for tensor in exact), *settings)
    unit, sum_unit = ROUNDING[x.dtype]
    for name, result, value, magnitude in zip(('out', 'grad_x', 'grad_weight'), results, expected, magnitudes):
        assert result.dtype == x.dtype
        allowed = unit * value.abs() + 8 * sum_unit * magnitude + 2**-25  # the last is float16's smallest step
        excess = ((result.cpu().double() - value).abs() / allowed).max()
        assert excess <= 1, f'{name}: {excess:.3f} times the error allowed'
