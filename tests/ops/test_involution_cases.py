"""The case table: every backend that can run here against an unfolded form in float64, output and both gradients."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from mmext.ops import involution
from mmext.ops.involution.backends import BACKENDS

RUNNABLE = [name for name, row in BACKENDS.items() if row.reason_not(torch.device('cpu'), torch.float32) is None]
# largest error, relative to the largest value; for half precision little more than the rounding of the result
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}
GROUPS = ((6, 1), (6, 2), (6, 6), (20, 4), (16, 1))  # channels and groups: 6, 3, 1, 5 and 16 channels a kernel
SIZES = ((1, 1), (7, 11), (16, 37), (5, 2))


def unfolded(x, weight, stride, padding, dilation):
    batch, channels = x.shape[:2]
    groups, taps = weight.shape[1:3]
    windows = F.unfold(x, taps, dilation, padding, stride)
    windows = windows.view(batch, groups, channels // groups, taps**2, *weight.shape[4:])
    return (windows * weight.flatten(2, 3).unsqueeze(2)).sum(3).flatten(1, 2)


def arranged(tensor, layout):
    """The same values in another memory layout; the gradient of a sum, or of a sliced output, comes in such."""
    if layout == 'channels_last':  # of a weight: one position's taps are neighbours, as a convolution leaves them
        return tensor.flatten(1, -3).to(memory_format=torch.channels_last).view_as(tensor)
    if layout == 'sliced':
        return torch.stack((tensor, tensor), -1).flip(-1)[..., 1]
    if layout == 'transposed':
        return tensor.mT.contiguous().mT
    return tensor


LAYOUTS = ('contiguous', 'channels_last', 'sliced', 'transposed')


def cases(taps):
    for stride, dilation, (channels, groups), size in itertools.product((1, 2, 3), (1, 2), GROUPS, SIZES):
        x = torch.randn(2, channels, *size, dtype=torch.float64)
        rows, columns = (-(-side // stride) for side in size)
        weight = torch.randn(2, groups, taps, taps, rows, columns, dtype=torch.float64)
        yield x, weight, stride, dilation, torch.randn(2, channels, rows, columns, dtype=torch.float64)


def check(found, expected, dtype):
    assert found.dtype == dtype
    scale = expected.abs().max().clamp(min=1)
    assert (found.double() - expected).abs().max() <= TOLERANCE[dtype] * scale


@pytest.mark.parametrize('dtype', TOLERANCE, ids=lambda dtype: str(dtype).partition('.')[2])
@pytest.mark.parametrize('taps', [1, 3, 5, 7, 9])
@pytest.mark.parametrize('backend', RUNNABLE)
def test_case_table(backend, taps, dtype):
    for n, (x, weight, stride, dilation, grad) in enumerate(cases(taps)):
        layout = n + n // len(SIZES)  # so that every size comes in every layout, x and weight often in the same
        layouts = [LAYOUTS[step % len(LAYOUTS)] for step in (layout, layout + n // 40, n // 5)]
        x, weight, grad = (arranged(tensor.to(dtype), layout) for tensor, layout in zip((x, weight, grad), layouts))
        inputs = x.requires_grad_(), weight.requires_grad_()
        out = involution(*inputs, stride, dilation=dilation, backend=backend)
        grads = torch.autograd.grad(out, inputs, grad)

        exact_inputs = [tensor.detach().double().requires_grad_() for tensor in inputs]
        exact = unfolded(*exact_inputs, stride, dilation * (taps - 1) // 2, dilation)
        exact_grads = torch.autograd.grad(exact, exact_inputs, grad.double())
        for found, expected in zip((out, *grads), (exact, *exact_grads)):
            check(found, expected, dtype)


@pytest.mark.parametrize('backend', RUNNABLE)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast(backend, dtype):
    x = torch.randn(2, 6, 9, 7, requires_grad=True)
    weight = torch.randn(2, 2, 7, 7, 9, 7, requires_grad=True)
    with torch.autocast('cpu', dtype=dtype):
        out = involution(x, weight, backend=backend)
    grads = torch.autograd.grad(out, (x, weight), torch.ones_like(out))
    exact_inputs = [tensor.detach().to(dtype).double().requires_grad_() for tensor in (x, weight)]
    exact = unfolded(*exact_inputs, 1, 3, 1)
    exact_grads = torch.autograd.grad(exact, exact_inputs, torch.ones_like(exact))
    assert (out.dtype, grads[0].dtype, grads[1].dtype) == (dtype, torch.float32, torch.float32)
    for found, expected in zip((out, *grads), (exact, *exact_grads)):
        check(found.to(dtype), expected, dtype)


@pytest.mark.parametrize('backend', RUNNABLE)
@pytest.mark.parametrize('stride', [1, 2])
def test_empty_batch(backend, stride):
    x = torch.zeros(0, 4, 5, 5, requires_grad=True)
    side = -(-5 // stride)
    weight = torch.zeros(0, 2, 3, 3, side, side, requires_grad=True)
    out = involution(x, weight, stride, backend=backend)
    assert out.shape == (0, 4, side, side)
    assert [grad.shape for grad in torch.autograd.grad(out.sum(), (x, weight))] == [x.shape, weight.shape]


@pytest.mark.parametrize('padding', [0, 1, 5])
@pytest.mark.parametrize('backend', RUNNABLE)
def test_padding(backend, padding):
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64, requires_grad=True)
    rows, columns = (9 + 2 * padding - 3) // 2 + 1, (8 + 2 * padding - 3) // 2 + 1
    weight = torch.randn(2, 2, 3, 3, rows, columns, dtype=torch.float64, requires_grad=True)
    out = involution(x, weight, 2, padding, backend=backend)
    exact = unfolded(x, weight, 2, padding, 1)
    grad = torch.randn_like(out)
    check(out, exact, torch.float64)
    for found, expected in zip(*(torch.autograd.grad(o, (x, weight), grad) for o in (out, exact))):
        check(found, expected, torch.float64)


@pytest.mark.parametrize('stride', [3, 4, 5])
@pytest.mark.parametrize('backend', RUNNABLE)
def test_sizes_that_the_stride_divides(backend, stride):
    """The last columns are met by no window's first tap."""
    for taps, padding in ((3, 1), (3, 2), (5, 2), (1, 0)):
        x = torch.randn(2, 4, 2 * stride, 3 * stride, dtype=torch.float64, requires_grad=True)
        rows, columns = ((size + 2 * padding - taps) // stride + 1 for size in x.shape[2:])
        weight = torch.randn(2, 2, taps, taps, rows, columns, dtype=torch.float64, requires_grad=True)
        out = involution(x, weight, stride, padding, backend=backend)
        exact = unfolded(x, weight, stride, padding, 1)
        grad = torch.randn_like(out)
        check(out, exact, torch.float64)
        for found, expected in zip(*(torch.autograd.grad(o, (x, weight), grad) for o in (out, exact))):
            check(found, expected, torch.float64)


@pytest.mark.parametrize('backend', RUNNABLE)
def test_repeated_runs_are_bitwise_equal(backend):
    x = torch.randn(3, 32, 13, 17, requires_grad=True)
    weight = torch.randn(3, 2, 7, 7, 13, 17, requires_grad=True)

    def run():
        out = involution(x, weight, backend=backend)
        return out, *torch.autograd.grad(out.square().sum(), (x, weight))

    first = run()
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(first, run()))


@pytest.mark.parametrize('backend', RUNNABLE)
def test_any_number_of_threads(backend):
    x, weight = torch.randn(1, 32, 9, 9), torch.randn(1, 2, 5, 5, 9, 9)
    before = torch.get_num_threads()
    try:
        outs = []
        for threads in (1, 2, 64):
            torch.set_num_threads(threads)
            outs.append(involution(x, weight, backend=backend))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


@pytest.mark.parametrize('backend', RUNNABLE)
def test_opcheck(backend):
    for stride in (1, 2):
        x = torch.randn(2, 4, 6, 5, requires_grad=True)
        weight = torch.randn(2, 2, 3, 3, 6 // stride, -(-5 // stride), requires_grad=True)
        torch.library.opcheck(torch.ops.mmext.involution.default, (x, weight, stride, 1, 1, backend))
        grad = torch.randn(2, 4, *weight.shape[4:])
        for needs in ((True, True), (True, False), (False, True)):
            args = (grad, x.detach(), weight.detach(), stride, 1, 1, backend, *needs)
            torch.library.opcheck(torch.ops.mmext.involution_backward.default, args)


def test_a_named_backend_that_cannot_run_says_why():
    x, weight = torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3, 3, 3)
    message = (
        r"backend='cuda' cannot run here: x is on cpu, not on a CUDA device; leave it out for the automatic choice"
    )
    with pytest.raises(RuntimeError, match=message):
        involution(x, weight, backend='cuda')
    assert involution(x.to('meta'), weight.to('meta'), backend='cuda').device.type == 'meta'  # only shapes are wanted


def test_without_numba_the_reference_runs(monkeypatch, caplog):
    from mmext.ops.involution import backends

    monkeypatch.setattr(backends, '_numba_problem', lambda: 'numba cannot be imported')
    with caplog.at_level('DEBUG', logger=backends.__name__):
        assert backends.pick_backend(None, torch.device('cpu'), torch.float32) == 'reference'
    assert 'involution backend cpu not used: numba cannot be imported' in caplog.text
