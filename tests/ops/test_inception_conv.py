import os
import subprocess
import sys
import threading

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mmext.ops.inception_conv import backends, functional, inception_conv2d

MIXED = ((1, 1, 7), (3, 2, 4), (1, 4, 5), (2, 2, 8))
UNSORTED = ((3, 1, 2), (1, 1, 4), (3, 1, 3), (2, 2, 1))
QUARTERS = ((1, 1, 4), (2, 3, 8), (1, 2, 4))

# batch, input channels, height, width, pattern, kernel size, stride, groups
CASES = {
    'square': (2, 12, 9, 9, MIXED, 3, 1, 1),
    'wide': (1, 5, 6, 70, MIXED, 3, 1, 1),
    'high': (1, 5, 30, 12, MIXED, 3, 1, 1),
    'tall, one column': (2, 3, 40, 1, MIXED, 3, 1, 1),
    'one pixel': (1, 1, 1, 1, ((6, 6, 2), (1, 1, 1)), 3, 1, 1),
    'nine narrow images': (9, 16, 7, 7, MIXED, 3, 1, 1),
    'stride 2': (2, 8, 10, 12, MIXED, 3, 2, 1),
    'stride 2, odd sizes': (3, 8, 9, 7, UNSORTED, 3, 2, 1),
    'strides 2 and 3': (2, 8, 11, 13, MIXED, 3, (2, 3), 1),
    'kernel 1': (2, 6, 5, 4, MIXED, 1, 2, 1),
    'kernel 5': (2, 6, 12, 11, MIXED, 5, 1, 1),
    'kernel 7, stride 3': (2, 3, 5, 14, UNSORTED, 7, 3, 1),
    'runs of equal dilation': (2, 4, 8, 8, UNSORTED, 3, 1, 1),
    'one run': (2, 4, 8, 8, ((2, 1, 6),), 3, 1, 1),
    'groups': (2, 8, 20, 33, QUARTERS, 3, 1, 4),
    'groups, stride 2': (3, 8, 9, 33, QUARTERS, 3, 2, 4),
    'depthwise': (2, 4, 9, 9, QUARTERS, 3, 1, 4),
    'more channels than lanes': (1, 70, 5, 6, MIXED, 3, 1, 1),
    'wide reach': (1, 6, 5, 4, ((6, 6, 2), (1, 6, 3), (5, 2, 1), (6, 1, 3)), 3, 1, 1),
}
numba_missing = backends._compiler_problem()
needs_numba = pytest.mark.skipif(numba_missing is not None, reason=str(numba_missing))
BACKENDS = [pytest.param('cpu', marks=needs_numba), 'reference']
UNGROUPED = [name for name, case in CASES.items() if case[-1] == 1]
BACKENDS_AND_CASES = [
    *(pytest.param('cpu', name, marks=needs_numba) for name in UNGROUPED),
    *(('reference', name) for name in CASES),
]


def tensors(name, dtype=torch.float32):
    batch, channels, height, width, pattern, kernel_size, stride, groups = CASES[name]
    outputs = sum(run[2] for run in pattern)
    strides = (stride, stride) if isinstance(stride, int) else stride
    x = torch.randn(batch, channels, height, width, dtype=dtype)
    weight = torch.randn(outputs, channels // groups, kernel_size, kernel_size, dtype=dtype)
    bias = torch.randn(outputs, dtype=dtype)
    grad = torch.randn(batch, outputs, -(-height // strides[0]), -(-width // strides[1]), dtype=dtype)
    return (x, weight, bias), grad, (pattern, strides, groups)


def dense_conv(x, weight, bias, pattern, strides, groups):
    """The same by one ordinary convolution, whose large kernel has the taps where they belong and zeros elsewhere."""
    outputs, inputs, kernel_size = weight.shape[:3]
    reach = kernel_size // 2
    margin = reach * max(max(run[:2]) for run in pattern)
    kernel = weight.new_zeros(outputs, x.shape[1], 2 * margin + 1, 2 * margin + 1)
    output = 0
    for dilation_h, dilation_w, channels in pattern:
        for index in range(channels):
            group = index * groups // channels
            for u in range(kernel_size):
                for v in range(kernel_size):
                    row, column = margin + (u - reach) * dilation_h, margin + (v - reach) * dilation_w
                    kernel[output, group * inputs : (group + 1) * inputs, row, column] = weight[output, :, u, v]
            output += 1
    return F.conv2d(x, kernel, bias, strides, margin)


def run(function, sources, grad, *settings):
    sources = [source.detach().requires_grad_() for source in sources]
    out = function(*sources, *settings)
    return out, *torch.autograd.grad(out, sources, grad)


def assert_close(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert one.shape == other.shape
        assert one.dtype != other.dtype or one.is_contiguous() == other.is_contiguous()
        error = (one.double() - other.double()).abs().max() / other.double().abs().max()
        assert error < tolerance


@pytest.mark.parametrize(('backend', 'name'), BACKENDS_AND_CASES)
def test_output_and_gradients(name, backend):
    sources, grad, settings = tensors(name)
    found = run(inception_conv2d, sources, grad, *settings, backend)
    expected = run(dense_conv, [s.double() for s in sources], grad.double(), *settings)
    assert_close(found, expected)


# the map, what a tile may have, how the map is cut then
TILES = {
    'some rows': ('high', dict(TILE_BYTES=4 * 9 * 8 * 12 * 8, TILE_PIXELS=48), dict(images=1, chunk=2, blocks=3)),
    'a row of phases': ('stride 2', dict(TILE_BYTES=3000, TILE_PIXELS=12), dict(images=1, chunk=1, blocks=3)),
    'some images': ('nine narrow images', dict(TILE_PIXELS=200), dict(images=4, chunk=7)),
    'all images': ('nine narrow images', dict(TILE_PIXELS=2000), dict(images=9, chunk=7)),
}


@needs_numba
@pytest.mark.parametrize('threads', [1, 2, 5])
@pytest.mark.parametrize('tiles', TILES)
def test_maps_cut_into_tiles(tiles, threads, monkeypatch):
    from mmext.ops.inception_conv import cpu, plan

    name, limits, expected_sizes = TILES[tiles]
    for limit, value in limits.items():
        monkeypatch.setattr(plan, limit, value)
    monkeypatch.setattr(plan, 'BLOCKS', (8, 16))
    plans = []
    monkeypatch.setattr(cpu, 'make_plan', spy(plan.make_plan, plans, threads))
    sources, grad, settings = tensors(name)
    found = run(inception_conv2d, sources, grad, *settings, 'cpu')
    expected = run(dense_conv, [s.double() for s in sources], grad.double(), *settings)
    assert_close(found, expected)
    sizes = plans[0].sizes._asdict()
    assert {key: sizes[key] for key in expected_sizes} == expected_sizes
    if threads == 5 and tiles == 'some rows':
        assert sizes['strips'] == 2


def spy(make_plan, plans, threads):
    """A planner that notes its plans, for a machine of so many threads."""

    def planned(*args):
        plans.append(make_plan.__wrapped__(*args[:-1], threads))
        return plans[-1]

    return planned


@pytest.mark.parametrize('backend', BACKENDS)
def test_without_bias_and_with_some_gradients(backend):
    (x, weight, _), _, settings = tensors('square')
    expected = inception_conv2d(x, weight, None, *settings, 'reference')
    for needed in (0, 1):
        sources = [x.clone(), weight.clone()]
        sources[needed].requires_grad_()
        out = inception_conv2d(*sources, None, *settings, backend)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        out.sum().backward()
        assert sources[needed].grad is not None
        assert sources[1 - needed].grad is None


def test_gradcheck():
    shapes = (1, 2, 4, 3), (4, 1, 3, 3), (4,)
    sources = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    call = lambda *args: inception_conv2d(*args, ((1, 1, 2), (2, 1, 2)), (2, 1), groups=2)  # noqa: E731
    torch.autograd.gradcheck(call, sources)
    torch.autograd.gradgradcheck(call, sources, fast_mode=True)


@pytest.mark.parametrize('backend', BACKENDS)
def test_second_derivative(backend):
    sources, grad, settings = tensors('square')
    results = []
    for dtype, function in ((torch.float32, inception_conv2d), (torch.float64, dense_conv)):
        inputs = [source.to(dtype).requires_grad_() for source in sources]
        its_grad = grad.to(dtype).requires_grad_()
        out = function(*inputs, *settings, *([backend] if function is inception_conv2d else []))
        grads = torch.autograd.grad(out, inputs, its_grad, create_graph=True)
        penalty = sum(g.square().sum() for g in grads)
        results.append(torch.autograd.grad(penalty, (*inputs[:2], its_grad)))
    assert_close(*results)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('memory', ['channels_last', 'transposed', 'sliced'])
def test_memory_formats(memory, backend):
    sources, grad, settings = tensors('square')
    expected = run(inception_conv2d, sources, grad, *settings, 'reference')
    x, weight, bias = sources
    if memory == 'channels_last':
        x, weight = (tensor.to(memory_format=torch.channels_last) for tensor in (x, weight))
    elif memory == 'transposed':
        x, weight = (tensor.transpose(2, 3).contiguous().transpose(2, 3) for tensor in (x, weight))
    else:
        x, weight = (torch.cat([tensor, tensor], 1)[:, : tensor.shape[1]] for tensor in (x, weight))
    out, *grads = run(inception_conv2d, (x, weight, bias), grad, *settings, backend)
    for one, other in zip((out, *grads), expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('memory', [torch.contiguous_format, torch.channels_last])
def test_results_have_the_memory_format_of_the_input(memory, backend):
    (x, weight, bias), grad, settings = tensors('square')
    x, grad = x.to(memory_format=memory), grad.to(memory_format=memory)
    out, grad_x, *_ = run(inception_conv2d, (x, weight, bias), grad, *settings, backend)
    for result in (out, grad_x):
        assert result.is_contiguous(memory_format=memory)


@pytest.mark.parametrize('backend', BACKENDS)
def test_no_images(backend):
    (x, weight, bias), _, settings = tensors('square')
    x = x[:0].requires_grad_()
    weight.requires_grad_()
    out = inception_conv2d(x, weight, bias, *settings, backend)
    assert out.shape == (0, 24, 9, 9)
    out.sum().backward()
    assert x.grad.shape == x.shape
    assert not weight.grad.any()


@needs_numba
def test_equal_results_from_two_threads_at_once():
    sources, grad, settings = tensors('stride 2')
    expected = run(inception_conv2d, sources, grad, *settings, 'cpu')
    results = []

    def work():
        for _ in range(20):
            results.append(run(inception_conv2d, sources, grad, *settings, 'cpu'))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 40
    for result in results:
        assert all(torch.equal(one, other) for one, other in zip(result, expected))


@needs_numba
def test_torch_keeps_its_threads():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        sources, _, settings = tensors('square')
        inception_conv2d(*sources, *settings, 'cpu')
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def picked(monkeypatch, *args, **kwargs):
    """The backend that a call runs on."""
    found = []
    for name in ('reference', 'cpu'):
        module = functional.reference if name == 'reference' else backends._cpu()
        original = module.inception_conv_forward
        note = lambda *a, name=name, original=original: (found.append(name), original(*a))[1]  # noqa: E731
        monkeypatch.setattr(module, 'inception_conv_forward', note)
    inception_conv2d(*args, **kwargs)
    monkeypatch.undo()
    return found


@needs_numba
def test_automatic_choice(monkeypatch):
    sources, _, settings = tensors('square')
    assert picked(monkeypatch, *sources, *settings) == ['cpu']
    assert picked(monkeypatch, *(s.double() for s in sources), *settings) == ['reference']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert picked(monkeypatch, *sources, *settings) == ['reference']
    single, _, its_settings = tensors('one run')
    assert picked(monkeypatch, *single, *its_settings) == ['reference']
    monkeypatch.setenv(functional.ENV_VARIABLE, 'reference')
    assert picked(monkeypatch, *sources, *settings) == ['reference']


@needs_numba
def test_works_without_numba(monkeypatch):
    sources, _, settings = tensors('square')
    monkeypatch.setattr(backends, '_compiler_problem', lambda: 'numba cannot be imported')
    assert inception_conv2d(*sources, *settings).shape == (2, 24, 9, 9)
    with pytest.raises(RuntimeError, match="backend='cpu' cannot run here: numba cannot be imported; leave it out"):
        inception_conv2d(*sources, *settings, 'cpu')


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_counters_and_tracers_meet_convolutions():
    (x, weight, bias), _, (pattern, _, _) = tensors('square')
    with FlopCounterMode(display=False) as counter:
        inception_conv2d(x, weight, bias, pattern)
    assert counter.get_total_flops() == 2 * 2 * 81 * 24 * 12 * 9
    traced = torch.jit.trace(lambda a: inception_conv2d(a, weight, bias, pattern), x)
    torch.testing.assert_close(traced(x), inception_conv2d(x, weight, bias, pattern), rtol=1e-4, atol=1e-4)
    assert inception_conv2d(x.to('meta'), weight.to('meta'), None, pattern).shape == (2, 24, 9, 9)
    gradient = torch.func.grad(lambda w: inception_conv2d(x, w, bias, pattern).sum())(weight)
    assert gradient.shape == weight.shape


def test_autocast():
    sources, grad, settings = tensors('square')
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = run(inception_conv2d, sources, grad.bfloat16(), *settings)
    assert found[0].dtype == torch.bfloat16
    assert found[1].dtype == torch.float32
    assert_close(found, run(dense_conv, [s.double() for s in sources], grad.double(), *settings), 2e-2)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(x=torch.zeros(3, 8, 8)), r'x has shape \[3, 8, 8\]'),
        (dict(weight=torch.zeros(6, 3, 3, 5)), 'a kernel of 3 x 5 taps; kernels are square with an odd size'),
        (dict(weight=torch.zeros(6, 3, 4, 4)), 'a kernel of 4 x 4 taps'),
        (dict(x=torch.zeros(1, 4, 8, 8)), r'x has 4 channels; weight of shape \[6, 3, 3, 3\] with groups=1 needs 3'),
        (dict(groups=2), r'x has 3 channels; .* with groups=2 needs 6'),
        (dict(groups=3), r'run \(1, 1, 4\); .* a multiple of groups=3'),
        (dict(groups=0), 'groups=0: an integer of at least 1'),
        (dict(pattern=[(1, 1, 4), (2, 1, 1)]), "pattern's channels add up to 5; weight has 6 filters"),
        (dict(pattern=[(1, 0, 4), (2, 1, 2)]), r'run \(1, 0, 4\)'),
        (dict(pattern=[(1, 1, 6), (2, 1, 0)]), r'run \(2, 1, 0\)'),
        (dict(pattern=[(1, 6)]), r'run \(1, 6\)'),
        (dict(pattern=[1, 1, 6]), r'pattern=\[1, 1, 6\]; a list of \(dilation_h, dilation_w, channels\)'),
        (dict(stride=0), 'stride=0: an integer of at least 1, or two'),
        (dict(stride=(1, 2, 3)), r'stride=\(1, 2, 3\)'),
        (dict(bias=torch.zeros(5)), r'bias has shape \[5\]; \[6\] is needed'),
        (dict(x=torch.zeros(1, 3, 8, 8, dtype=torch.int64)), 'x is torch.int64'),
        (dict(x=torch.zeros(1, 3, 8, 8, dtype=torch.float64)), 'dtypes are torch.float64, torch.float32'),
        (dict(x=torch.zeros(1, 3, 8, 8, device='meta')), 'x is torch.float32 on meta, weight is on cpu'),
        (dict(backend='cudnn'), "backend='cudnn' is unknown; choose one of cpu, reference"),
    ],
)
def test_bad_input(change, message):
    good = dict(x=torch.zeros(1, 3, 8, 8), weight=torch.zeros(6, 3, 3, 3), bias=None, pattern=[(1, 1, 4), (2, 1, 2)])
    with pytest.raises(ValueError, match=message):
        inception_conv2d(**{**good, **change})


def test_backend_that_cannot_run(monkeypatch):
    (x, weight, bias), _, settings = tensors('square', torch.float64)
    with pytest.raises(RuntimeError, match=r"backend='cpu' cannot run here: x is torch\.float64, not float32"):
        inception_conv2d(x, weight, bias, *settings, 'cpu')
    with pytest.raises(RuntimeError, match='x is on meta, not on the CPU'):
        inception_conv2d(x.to('meta'), weight.to('meta'), None, *settings, 'cpu')
    grouped, _, its_settings = tensors('groups')
    with pytest.raises(RuntimeError, match="backend='cpu' cannot run here: groups=4, not 1"):
        inception_conv2d(*grouped, *its_settings, 'cpu')
    monkeypatch.setenv(functional.ENV_VARIABLE, 'cpu')
    with pytest.raises(RuntimeError, match='MMEXT_INCEPTION_CONV_BACKEND=cpu cannot run here'):
        inception_conv2d(x, weight, bias, *settings)
    monkeypatch.setenv(functional.ENV_VARIABLE, 'gpu')
    with pytest.raises(ValueError, match='MMEXT_INCEPTION_CONV_BACKEND=gpu is unknown'):
        inception_conv2d(x, weight, bias, *settings)


STEPS = """
import sys
import torch
from mmext.ops.inception_conv import inception_conv2d
pattern = ((1, 1, 7), (3, 2, 4), (1, 4, 5), (2, 2, 8))
torch.manual_seed(0)
for name in sys.argv[1:]:
    results = []
    for backend in 'cpu', 'reference':
        x = torch.randn(2, 12, 9, 9, generator=torch.Generator().manual_seed(0))
        weight = torch.randn(24, 12, 3, 3, generator=torch.Generator().manual_seed(1))
        sources = dict(forward=(), grad_x=(x.requires_grad_(),), grad_weight=(weight.requires_grad_(),))[name]
        with torch.set_grad_enabled(bool(sources)):
            out = inception_conv2d(x, weight, None, pattern, backend=backend)
        results.append(torch.autograd.grad(out.square().sum(), sources)[0] if sources else out)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
"""


@needs_numba
def test_kernels_compiled_in_different_processes_do_not_mix(tmp_path):
    """Each process finds some kernels on disk and compiles another, which the next one finds."""
    command = [sys.executable, '-W', 'ignore', '-c', STEPS]
    env = {**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path)}
    names = ['forward', 'grad_x', 'grad_weight']
    for count in range(1, len(names) + 1):
        subprocess.run([*command, *names[:count]], check=True, env=env)
    subprocess.run([*command, *reversed(names)], check=True, env=env)
