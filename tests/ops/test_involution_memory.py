"""The memory that the operator takes, as PyTorch's allocator counts it.

The allocator sees what happens inside of a custom operator; a dispatch mode does not.
"""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from mmext.ops import involution
from mmext.ops.involution import backends
from mmext.ops.involution.decomposed import involution_decomposed
from mmext.ops.involution.reference import involution_backward

RUNNABLE = [
    name for name, row in backends.BACKENDS.items() if row.reason_not(torch.device('cpu'), torch.float32) is None
]
IMAGES, CHANNELS, GROUPS, TAPS, SIDE = 2, 64, 4, 7, 16
SHAPE, MAPS = (IMAGES, CHANNELS, SIDE, SIDE), (IMAGES, GROUPS, TAPS, TAPS, SIDE, SIDE)
INPUT, WEIGHT = (4 * math.prod(shape) for shape in (SHAPE, MAPS))  # bytes of float32
PADDED = 4 * IMAGES * CHANNELS * (SIDE + TAPS - 1) ** 2
UNFOLDED = TAPS**2 * INPUT
SMALL = INPUT // 8  # tables of offsets, flags and the like


@pytest.fixture
def peak(tmp_path):
    """A function that runs another and returns the most bytes that were allocated at once in it."""

    def measure(function):
        function()  # compiles, and fills caches
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
            kept = function()
        profiler.export_chrome_trace(str(tmp_path / 'trace.json'))
        events = json.loads((tmp_path / 'trace.json').read_text())['traceEvents']
        steps = sorted((e['ts'], e['args']['Bytes']) for e in events if e.get('name') == '[memory]')
        del kept
        assert steps
        live = most = 0
        for _, change in steps:
            live += change
            most = max(most, live)
        return most

    return measure


def inputs():
    return torch.randn(SHAPE, requires_grad=True), torch.randn(MAPS, requires_grad=True)


# beside the output, as large as the input: the padded copy; in plain PyTorch, which adds up out of place, one more map
FORWARD = {'cpu': PADDED, 'reference': PADDED + INPUT}


@pytest.mark.parametrize('backend', RUNNABLE)
def test_forward_takes_a_padded_copy(backend, peak):
    x, weight = inputs()
    with torch.no_grad():
        most = peak(lambda: involution(x, weight, backend=backend))
    assert INPUT <= most <= INPUT + FORWARD[backend] + SMALL


# beside both gradients: the compiled backend holds one padded copy at a time, the other two and a map of products
BACKWARD = {'cpu': PADDED, 'reference': 2 * PADDED + INPUT}


@pytest.mark.parametrize('backend', RUNNABLE)
def test_backward_takes_gradients_and_padded_copies(backend, peak):
    x, weight = inputs()
    grad = torch.randn(SHAPE)
    out = involution(x, weight, backend=backend)
    most = peak(lambda: torch.autograd.grad(out, (x, weight), grad, retain_graph=True))
    assert INPUT + WEIGHT <= most <= INPUT + WEIGHT + BACKWARD[backend] + SMALL


@pytest.mark.parametrize('backend', RUNNABLE)
def test_nothing_but_the_inputs_is_kept_for_the_backward_pass(backend):
    x, weight = inputs()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        involution(x, weight, backend=backend)
    assert sorted(tensor.data_ptr() for tensor in kept) == sorted((x.data_ptr(), weight.data_ptr()))


def test_an_unfolded_form_would_be_seen(peak, monkeypatch):
    class Unfolded(backends.Backend):
        def forward(self, *args):
            return involution_decomposed(*args)

        def backward(self, grad_out, x, weight, stride, padding, dilation, *needs):
            windows = F.unfold(x, TAPS, dilation, padding, stride)
            grads = involution_backward(grad_out, x, weight, stride, padding, dilation, *needs)
            del windows
            return grads

    monkeypatch.setitem(backends.BACKENDS, 'reference', Unfolded('reference', '.reference', lambda *args: None))
    x, weight = inputs()
    with torch.no_grad():
        assert peak(lambda: involution(x, weight, backend='reference')) >= UNFOLDED
    out = involution(x, weight, backend='reference')
    assert peak(lambda: torch.autograd.grad(out.sum(), (x, weight), retain_graph=True)) >= UNFOLDED
