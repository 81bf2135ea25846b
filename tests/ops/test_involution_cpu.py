"""What only the compiled CPU backend has: its threads and what it keeps on disk."""

import ctypes
import os
import subprocess
import sys

import pytest
import torch

from mmext.ops import involution
from mmext.ops.compiled import threads
from mmext.ops.compiled.cache import compile_kernel
from mmext.ops.involution.cpu import pixels, rows

KERNELS = rows._forward32, rows._grad_x32, rows._grad_weight32, pixels._forward32


def run():
    """Results large enough for several threads, of all kernels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 32, 24, 25, generator=generator).requires_grad_()
    weight = torch.randn(2, 2, 7, 7, 24, 25, generator=generator).requires_grad_()
    out = involution(x, weight, backend='cpu')
    by_pixel = involution(
        x.to(memory_format=torch.channels_last),
        weight.flatten(1, 3).to(memory_format=torch.channels_last).unflatten(1, (2, 7, 7)),
        backend='cpu',
    )
    return out, by_pixel, *torch.autograd.grad(out.square().sum(), (x, weight))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures('two_threads')
def test_openmp_and_python_threads_agree(monkeypatch):
    counts = []

    def counted(threads_at_once):
        def parallel(function, data, count, flags):
            counts.append(count)
            return threads_at_once(function, data, count, flags)

        return lambda: parallel

    openmp = threads._openmp()
    assert openmp is not None  # of the PyTorch for Linux
    monkeypatch.setattr(threads, '_openmp', counted(openmp))
    expected = run()
    assert counts == [2, 2, 2, 2]
    monkeypatch.setattr(threads, '_openmp', lambda: None)
    submitted = []
    submit = threads.ThreadPoolExecutor.submit
    monkeypatch.setattr(
        threads.ThreadPoolExecutor, 'submit', lambda self, *args: submitted.append(args) or submit(self, *args)
    )
    assert all(torch.equal(a, b) for a, b in zip(expected, run()))
    assert len(submitted) == 4


@pytest.mark.usefixtures('two_threads')
def test_every_thread_gets_several_chunks(monkeypatch):
    openmp, cuts = threads._openmp(), []

    def parallel(function, data, count, flags):
        cuts.append((*(ctypes.c_int64 * threads.HEAD).from_address(data), count))
        return openmp(function, data, count, flags)

    monkeypatch.setattr(threads, '_openmp', lambda: parallel)
    run()
    assert len(cuts) == 4
    for done, tasks, chunk, count in cuts:
        assert (done, count) == (0, 2)
        assert tasks >= 16  # two images, two groups, and rows or four blocks of channels
        assert 1 <= chunk <= tasks // (4 * count)


def test_channels_last_networks_stay_in_their_format(monkeypatch):
    def refuse(*args):
        raise AssertionError('copied into the other format')

    monkeypatch.setattr(rows, 'involution_forward', refuse)
    x = torch.randn(2, 32, 9, 9).to(memory_format=torch.channels_last)
    weight = torch.randn(2, 98, 9, 9).to(memory_format=torch.channels_last).unflatten(1, (2, 7, 7))
    out = involution(x, weight, backend='cpu')
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    'kernel', KERNELS, ids=lambda kernel: f'{kernel.__module__.rpartition(".")[2]}{kernel.__name__}'
)
def test_compiled_code_is_kept_on_disk(kernel):
    threads._compiled(kernel)
    again = compile_kernel(kernel)
    assert again.cache_hits == 1


STEPS = """
import sys
import torch
from mmext.ops import involution
torch.manual_seed(0)
dtype = getattr(torch, sys.argv[1])
x = torch.randn(1, 4, 9, 8, dtype=dtype, requires_grad=True)
weight = torch.randn(1, 2, 3, 3, 9, 8, dtype=dtype, requires_grad=True)
for name in sys.argv[2:]:
    results = []
    for backend in ('cpu', 'reference'):
        if name == 'pixels':
            last = dict(memory_format=torch.channels_last)
            maps = weight.flatten(1, 3).to(**last).unflatten(1, (2, 3, 3))
            results.append(involution(x.to(**last), maps, backend=backend))
        else:
            out = involution(x, weight, backend=backend)
            wanted = dict(forward=(), grad_x=(x,), grad_weight=(weight,))[name]
            results.append(torch.autograd.grad(out.sum(), wanted)[0] if wanted else out)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
"""


def test_kernels_compiled_in_different_processes_do_not_mix(tmp_path):
    """Each process finds some kernels on disk and compiles another, which the next one finds."""
    command = [sys.executable, '-W', 'ignore', '-c', STEPS, 'float32']
    env = {**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path)}
    names = ['forward', 'grad_x', 'grad_weight', 'pixels']
    for count in range(1, len(names) + 1):
        subprocess.run([*command, *names[:count]], check=True, env=env)
    subprocess.run([*command, *reversed(names)], check=True, env=env)
