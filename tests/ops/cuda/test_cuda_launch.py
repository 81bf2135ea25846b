"""The launch code of the CUDA backend, with a stand-in for CuPy."""

import builtins
import types

import numpy as np
import pytest
import torch
from cuda_cases import run, tensors

from mmext.ops.involution import backends
from mmext.ops.involution.cuda import launch


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy that writes down what is asked of it."""
    calls = []

    class Context:
        def __init__(self, *what):
            self.what = what

        def __enter__(self):
            calls.append(('enter', *self.what))

        def __exit__(self, *_):
            calls.append(('exit', *self.what))

    def module(code, options, backend):
        calls.append(('compile', code, options, backend))
        return types.SimpleNamespace(get_function=lambda name: lambda *args: calls.append((name, *args)))

    cuda = types.SimpleNamespace(
        Device=lambda index: Context('device', index),
        Stream=types.SimpleNamespace(),
        ExternalStream=lambda pointer: Context('stream', pointer),
        runtime=types.SimpleNamespace(getDeviceCount=lambda: 1),
        nvrtc=types.SimpleNamespace(getVersion=lambda: (12, 4)),
    )
    stand_in = types.SimpleNamespace(RawModule=module, cuda=cuda, calls=calls, __version__='13.4.0')
    monkeypatch.setitem(__import__('sys').modules, 'cupy', stand_in)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: types.SimpleNamespace(cuda_stream=77))
    monkeypatch.setattr(torch.version, 'cuda', '12.4')
    monkeypatch.setattr(np, '__version__', '2.2.6')
    for cached in (launch._kernel, backends._cupy_problem):
        cached.cache_clear()
    yield stand_in
    for cached in (launch._kernel, backends._cupy_problem):
        cached.cache_clear()


def test_kernels_run_on_the_current_stream_of_the_tensors_device(cupy):
    x, weight, grad_out = tensors((2, 6, 9, 8), 2, 3, 2, 1, 1, torch.float16)
    out, grad_x, grad_weight = run(x, weight, grad_out, 2, 1, 1)
    stages = [call[0] for call in cupy.calls]
    assert stages[:6] == ['enter', 'enter', 'compile', 'involution_forward', 'exit', 'exit']
    assert cupy.calls[:2] == [('enter', 'device', None), ('enter', 'stream', 77)]
    launches = {call[0]: call for call in cupy.calls if call[0].startswith('involution')}
    expected = {
        'involution_forward': (x, weight, out),
        'involution_grad_x': (grad_out, weight, grad_x),
        'involution_grad_weight': (x, grad_out, grad_weight),
    }
    for name, buffers in expected.items():
        _, grid, block, args = launches[name]
        assert len(grid) == len(block) == 1
        assert args[:3] == tuple(buffer.data_ptr() for buffer in buffers)
        assert args[3:] == (4, 3, 9, 8, 5, 4, 1)
        assert [type(arg) for arg in args[3:]] == [np.int64, *[np.int32] * 6]
    compiled = [call for call in cupy.calls if call[0] == 'compile']
    for name, (_, code, options, backend) in zip(expected, compiled):
        assert code == launch.source()
        assert backend == 'nvrtc'
        assert {f'-DNAME={name}', '-DSCALAR=Half', '-DKERNEL_SIZE=3', '-DSTRIDE=2', '-DDILATION=1'} <= set(options)
    run(x, weight, grad_out, 2, 1, 1)
    assert len([call for call in cupy.calls if call[0] == 'compile']) == 3


def test_the_stream_protocol_of_newer_versions_is_used(cupy, monkeypatch):
    stream = types.SimpleNamespace(__cuda_stream__=lambda: (0, 78))
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: stream)
    used = []
    cupy.cuda.Stream.from_external = lambda stream: used.append(stream) or cupy.cuda.Device('stream')
    x, weight, _ = tensors((1, 2, 4, 4), 1, 3, 1, 1, 1, torch.float32)
    launch.involution_forward(x, weight, 1, 1, 1)
    assert used == [stream]


def reason_not(device='cuda', dtype=torch.float32):
    backends._cupy_problem.cache_clear()
    return backends.BACKENDS['cuda'].reason_not(torch.device(device), dtype)


def test_reasons_not_to_run(cupy, monkeypatch):
    assert reason_not() is None
    cupy.__version__ = '12.0.0'  # the oldest that runs
    assert reason_not() is None
    cupy.__version__ = '13.4.0'
    assert reason_not('cpu') == 'x is on cpu, not on a CUDA device'
    assert reason_not('meta') == 'x is on meta, not on a CUDA device'
    assert reason_not(dtype=torch.float8_e5m2) == (
        'x is torch.float8_e5m2, not one of float64, float32, float16, bfloat16'
    )
    assert backends.pick_backend(None, torch.device('cuda', 1), torch.bfloat16) == 'cuda'

    def fails():
        raise RuntimeError('no libnvrtc.so.12')

    cupy.cuda.nvrtc.getVersion = fails
    assert reason_not() == (
        "CuPy 13.4.0 finds no GPU or no compiler (no libnvrtc.so.12); run: pip install 'mmext[cuda12]'"
    )
    cupy.__version__ = '11.6.0'
    assert reason_not() == "CuPy 11.6.0 is older than 12; run: pip install 'mmext[cuda12]'"
    assert backends.pick_backend(None, torch.device('cuda', 1), torch.bfloat16) == 'reference'
    monkeypatch.setattr(torch.version, 'cuda', None)
    assert reason_not() == 'PyTorch is not built for NVIDIA GPUs'


@pytest.mark.parametrize(
    ('error', 'numpy', 'expected'),
    [
        (
            ModuleNotFoundError("No module named 'cupy'"),
            '2.2.6',
            "CuPy cannot be imported (No module named 'cupy'); run: pip install 'mmext[cuda13]'",
        ),
        (
            ImportError('numpy.core.multiarray failed to import (auto-generated because of a long story)'),
            '1.26.4',
            'CuPy cannot be imported (numpy.core.multiarray failed to import); '
            "run: pip install 'mmext[cuda13]' 'cupy-cuda13x<14'",
        ),
    ],
)
def test_without_cupy_the_reason_names_what_to_install(error, numpy, expected, monkeypatch):
    original = builtins.__import__

    def without_cupy(name, *args, **kwargs):
        if name != 'cupy':
            return original(name, *args, **kwargs)
        if type(error) is ModuleNotFoundError:
            raise error
        raise ImportError('==========\nFailed to import CuPy.\n\nIf ...') from error

    monkeypatch.setattr(builtins, '__import__', without_cupy)
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(np, '__version__', numpy)
    assert reason_not() == expected
    backends._cupy_problem.cache_clear()


def test_nothing_runs_for_an_empty_batch_or_an_unwanted_gradient(monkeypatch):
    steps = []
    monkeypatch.setattr(launch, '_launch', lambda plan, *_: steps.append(plan.name))
    x, weight, grad_out = tensors((0, 4, 5, 5), 2, 3, 1, 1, 1, torch.float32)
    shapes = [list(result.shape) for result in run(x, weight, grad_out, 1, 1, 1)]
    assert shapes == [[0, 4, 5, 5], [0, 4, 5, 5], [0, 2, 3, 3, 5, 5]]
    assert steps == []
    x, weight, grad_out = tensors((1, 4, 5, 5), 2, 3, 1, 1, 1, torch.float32)
    assert launch.involution_backward(grad_out, x, weight, 1, 1, 1, False, True)[0] is None
    assert launch.involution_backward(grad_out, x, weight, 1, 1, 1, True, False)[1] is None
    assert steps == ['involution_grad_weight', 'involution_grad_x']
