import itertools

import golden
import pytest
import torch

from mmext.ops import involution
from mmext.ops.involution.backends import BACKENDS, ENV_VARIABLE
from mmext.ops.involution.decomposed import involution_decomposed
from mmext.ops.involution.functional import output_size

RUNNABLE = [name for name, row in BACKENDS.items() if row.reason_not(torch.device('cpu'), torch.float32) is None]


@pytest.fixture(params=RUNNABLE, autouse=True)
def backend(request, monkeypatch):
    """Every test runs on every backend that can run here."""
    monkeypatch.setenv(ENV_VARIABLE, request.param)
    return request.param


def from_definition(x, weight, stride, padding, dilation):
    """The sum of the definition, position by position, written without any library operation on windows."""
    batch, channels, height, width = x.shape
    _, groups, taps, _, rows, columns = weight.shape
    out = torch.zeros(batch, channels, rows, columns, dtype=x.dtype)
    for c, i, j, u, v in itertools.product(*(range(n) for n in (channels, rows, columns, taps, taps))):
        row, column = i * stride - padding + u * dilation, j * stride - padding + v * dilation
        if 0 <= row < height and 0 <= column < width:
            out[:, c, i, j] += weight[:, c * groups // channels, u, v, i, j] * x[:, c, row, column]
    return out


def random_case(taps, stride, dilation, shape=(2, 4, 7, 5), groups=2, dtype=torch.float64):
    size = [output_size(n, taps, stride, dilation * (taps - 1) // 2, dilation) for n in shape[2:]]
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    weight = torch.randn(shape[0], groups, taps, taps, *size, dtype=dtype, requires_grad=True)
    return x, weight


@pytest.mark.parametrize('name', golden.names('involution', 'op_*'))
def test_golden(name):
    case = golden.Case('involution', name)
    options = case['options']
    taps, groups = options['kernel_size'], options['groups']
    inputs = case.inputs()
    x = inputs['x'].requires_grad_()
    maps = inputs['weight'].requires_grad_()
    out = involution(
        x,
        maps.unflatten(1, (groups, taps, taps)),
        stride=options['stride'],
        padding=options['padding'],
        dilation=options['dilation'],
    )
    out.backward(inputs['grad_out'])
    case.check('out', out)
    case.check('grad_x', x.grad)
    case.check('grad_weight', maps.grad)
    case.check_complete('x', 'weight', 'grad_out')


@pytest.mark.parametrize(('taps', 'stride', 'dilation'), [(3, 1, 1), (3, 2, 2), (5, 2, 1), (7, 1, 2), (1, 3, 1)])
def test_equals_definition(taps, stride, dilation):
    x, weight = random_case(taps, stride, dilation)
    expected = from_definition(x, weight, stride, dilation * (taps - 1) // 2, dilation)
    torch.testing.assert_close(involution(x, weight, stride, dilation=dilation), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(('taps', 'stride', 'dilation'), itertools.product((3, 5, 7), (1, 2), (1, 2)))
def test_gradcheck(taps, stride, dilation):
    inputs = random_case(taps, stride, dilation, shape=(1, 4, 5, 7))

    def run(x, weight):
        return involution(x, weight, stride, dilation=dilation)

    assert torch.autograd.gradcheck(run, inputs)


def test_gradgradcheck():
    assert torch.autograd.gradgradcheck(lambda x, w: involution(x, w, 2), random_case(3, 2, 1, shape=(1, 2, 5, 3)))


@pytest.mark.parametrize(('size', 'stride', 'expected'), [(8, 2, 4), (7, 2, 4), (1, 2, 1), (7, 3, 3), (9, 1, 9)])
def test_default_padding_rounds_up(size, stride, expected):
    x, weight = random_case(3, stride, 1, shape=(1, 2, size, size))
    assert involution(x, weight, stride).shape == (1, 2, expected, expected)


def test_memory_formats_and_slices_agree():
    x, weight = random_case(5, 1, 1, shape=(2, 8, 6, 9), dtype=torch.float32)
    expected = involution(x, weight)
    channels_last = involution(x.detach().to(memory_format=torch.channels_last), weight)
    torch.testing.assert_close(channels_last, expected.detach(), rtol=0, atol=1e-6)
    sliced = torch.randn(2, 16, 6, 18)[:, ::2, :, ::2].copy_(x.detach())
    torch.testing.assert_close(involution(sliced, weight), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_accumulates_in_float32(dtype):
    x, weight = random_case(7, 1, 1, shape=(1, 4, 9, 9), dtype=torch.float32)
    x_half, weight_half = (t.detach().to(dtype).requires_grad_() for t in (x, weight))
    out = involution(x_half, weight_half)
    exact_x, exact_weight = (t.detach().double().requires_grad_() for t in (x_half, weight_half))
    exact = involution(exact_x, exact_weight)
    assert out.dtype == dtype
    # the only rounding allowed is the one of the result
    torch.testing.assert_close(out, exact.to(dtype))
    grad = torch.randn_like(out)
    out.backward(grad)
    exact.backward(grad.double())
    torch.testing.assert_close(x_half.grad, exact_x.grad.to(dtype))
    torch.testing.assert_close(weight_half.grad, exact_weight.grad.to(dtype))


def test_autocast_casts_both_inputs():
    x, weight = random_case(3, 1, 1, dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = involution(x, weight.bfloat16())
    assert out.dtype == torch.bfloat16


def test_in_place_layers_may_follow():
    x, weight = random_case(3, 1, 1)
    torch.relu_(involution(x, weight)).sum().backward()
    positive = (involution(x, weight) > 0).double()
    expected = torch.autograd.grad(involution(x, weight), x, positive)[0]
    torch.testing.assert_close(x.grad, expected)


def test_memory_is_proportional_to_input_and_weights(backend):
    """Of the backend itself: a dispatch mode sees nothing of what an operator of torch.library does inside."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(tensor, torch.Tensor):
                    self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
            return result

    x, weight = (t.detach() for t in random_case(7, 1, 1, (1, 64, 16, 16), groups=4, dtype=torch.float32))
    with Largest() as largest:
        BACKENDS[backend].forward(x, weight, 1, 3, 1)
        BACKENDS[backend].backward(torch.ones_like(x), x, weight, 1, 3, 1, True, True)
    padded = 64 * 22 * 22
    # an unfolded input would have 49 * x.numel() elements
    assert x.numel() < largest.elements <= max(padded, weight.numel())
    with Largest() as largest:
        involution_decomposed(x, weight, 1, 3, 1)
    assert largest.elements == 49 * x.numel()  # so this would be seen


@pytest.mark.parametrize(
    ('x_shape', 'weight_shape', 'options', 'message'),
    [
        ((1, 6, 5, 5), (1, 4, 3, 3, 5, 5), {}, r'channels=6 .* not divisible by groups=4'),
        ((1, 4, 5, 5), (1, 2, 3, 3, 5, 4), {}, r'weight has shape \[1, 2, 3, 3, 5, 4\].* needs \[1, 2, 3, 3, 5, 5\]'),
        ((2, 4, 5, 5), (1, 2, 3, 3, 5, 5), {}, r'needs \[2, 2, 3, 3, 5, 5\]'),
        ((1, 4, 5, 5), (1, 2, 3, 3, 5, 5), {'stride': 2}, r'stride=2.* needs \[1, 2, 3, 3, 3, 3\]'),
        ((1, 4, 5, 5), (1, 2, 4, 4, 5, 5), {}, r'4 x 4 taps .* odd size'),
        ((1, 4, 5, 5), (1, 2, 3, 5, 5, 5), {}, r'3 x 5 taps .* square'),
        ((1, 4, 5, 5), (1, 18, 5, 5), {}, r'weight \[1, 18, 5, 5\]; .*unflatten'),
        ((4, 5, 5), (1, 2, 3, 3, 5, 5), {}, r'x has shape \[4, 5, 5\]'),
        ((1, 4, 5, 5), (1, 2, 3, 3, 5, 5), {'stride': 0}, r'stride=0: an integer of at least 1'),
        ((1, 4, 5, 5), (1, 2, 3, 3, 5, 5), {'dilation': 1.5}, r'dilation=1.5: an integer of at least 1'),
        ((1, 4, 5, 5), (1, 2, 3, 3, 5, 5), {'padding': -1}, r'padding=-1: an integer of at least 0'),
        ((1, 4, 3, 3), (1, 2, 7, 7, 1, 1), {'padding': 0}, r'3 x 3 pixels is smaller than the window of 7 .*padding=3'),
        (
            (1, 4, 5, 5),
            (1, 2, 3, 3, 5, 5),
            {'backend': 'cudnn'},
            r"backend='cudnn' is unknown; choose one of cuda, cpu, reference",
        ),
    ],
)
def test_bad_input(x_shape, weight_shape, options, message):
    with pytest.raises(ValueError, match=message):
        involution(torch.zeros(x_shape), torch.zeros(weight_shape), **options)


def test_dtypes_must_agree():
    with pytest.raises(ValueError, match=r'x is torch\.float64 .* weight is torch\.float32'):
        involution(torch.zeros(1, 2, 3, 3).double(), torch.zeros(1, 1, 3, 3, 3, 3))


def test_compiled_backend_can_run_here():
    assert 'cpu' in RUNNABLE


def test_backend_from_the_environment(monkeypatch):
    x, weight = random_case(3, 1, 1)
    monkeypatch.setenv('MMEXT_INVOLUTION_BACKEND', 'nonesuch')
    with pytest.raises(ValueError, match='MMEXT_INVOLUTION_BACKEND=nonesuch is unknown'):
        involution(x, weight)
    assert involution(x, weight, backend='reference').shape == x.shape
