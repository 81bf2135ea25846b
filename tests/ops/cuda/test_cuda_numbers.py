"""The CUDA kernels, run on the processor, against the reference in float64."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cpu_launcher import KERNELS, WHY_NOT, CpuLauncher
from cuda_cases import CASES, PLANS, case_id, check, run, tensors

from mmext.ops.involution.cuda import launch
from mmext.ops.involution.cuda.plan import Plan, Problem, make_plan

BASELINE = Path(__file__).parents[3] / 'tools' / 'benchmarks' / 'involution_baseline.cu'

pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


def wide(problem):
    """Return the plan with offsets of 64 bits, which only a map of 2**29 elements has of itself."""
    plan = make_plan(problem)
    return replace(plan, macros=tuple((dict(plan.macros) | {'OFFSET': 'long long'}).items()))


WIDE_CASES = [
    ((2, 6, 11, 9), 2, taps, stride, dilation, dilation * (taps - 1) // 2, torch.float32)
    for taps, stride, dilation in ((3, 1, 1), (5, 2, 1), (3, 3, 2))
]


@pytest.fixture(scope='module')
def launcher():
    """The launcher, with the kernels of all cases compiled."""
    planned = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, '_launch', lambda plan, *_: planned.append(plan))
        for case, plans in [(case[:7], PLANS[case[7]]) for case in CASES] + [(case, wide) for case in WIDE_CASES]:
            patch.setattr(launch, 'make_plan', plans)
            run(*tensors(*case), case[3], case[5], case[4])
    launcher = CpuLauncher()
    launcher.compile(planned)
    return launcher


@pytest.fixture
def on_cpu(launcher, monkeypatch):
    monkeypatch.setattr(launch, '_launch', launcher)


@pytest.mark.usefixtures('on_cpu')
@pytest.mark.parametrize('case', CASES, ids=case_id)
def test_case(case, monkeypatch):
    *sizes, plans = case
    monkeypatch.setattr(launch, 'make_plan', PLANS[plans])
    check(*tensors(*sizes), case[3], case[5], case[4])


@pytest.mark.usefixtures('on_cpu')
@pytest.mark.parametrize('case', WIDE_CASES, ids=case_id)
def test_offsets_of_64_bits(case, monkeypatch):
    monkeypatch.setattr(launch, 'make_plan', wide)
    check(*tensors(*case), case[3], case[5], case[4])


@pytest.mark.usefixtures('on_cpu')
def test_any_strides_of_the_tensors():
    x, weight, grad_out = tensors((2, 6, 8, 9), 2, 3, 1, 1, 1, torch.float32)
    check(x.to(memory_format=torch.channels_last), weight, grad_out, 1, 1, 1)
    check(x.mT.contiguous().mT, weight, grad_out[:, :, :1, :1].expand_as(grad_out), 1, 1, 1)
    pixelwise = weight.movedim((1, 2, 3), (3, 4, 5)).contiguous().movedim((3, 4, 5), (1, 2, 3))
    check(torch.stack([x, x], 4)[..., 1], pixelwise, grad_out, 1, 1, 1)


@pytest.mark.parametrize(
    ('maps', 'height', 'width', 'offset'), [(1, 70_000, 31_000, 'long long'), (300_000, 90, 90, 'int')]
)
def test_more_than_two_to_the_31_elements(maps, height, width, offset):
    """Only the last blocks run: memory that nothing touches takes no room."""
    plan = make_plan(Problem('FORWARD', 'float16', maps, 1, height, width, height, width, 1, 1, 1))
    assert dict(plan.macros)['OFFSET'] == offset
    elements = maps * height * width
    assert elements > 2**31
    arrays = [np.zeros(elements, np.float16) for _ in range(3)]
    last = 200
    for array, values in zip(arrays, np.random.default_rng(0).random((2, last), np.float32).astype(np.float16)):
        array[-last:] = values
    arguments = [torch.from_numpy(array) for array in arrays], (maps, 1, height, width, height, width, 0)
    blocks = plan.grid - 2 * -(-width // 32) * 8, plan.grid
    assert CpuLauncher().status(plan, *arguments, function='launch_in_place', blocks=blocks) == 0
    expected = arrays[0][-last:].astype(np.float32) * arrays[1][-last:]
    np.testing.assert_array_equal(arrays[2][-last:], expected.astype(np.float16))


@pytest.mark.parametrize('settings', [(3, 1, 1), (7, 2, 1), (3, 3, 2)])
def test_the_baseline_of_the_benchmarks(settings, monkeypatch):
    launcher = CpuLauncher(KERNELS[0], BASELINE)

    def one_thread_per_element(plan, image, other, result, sizes):
        launcher(replace(plan, grid=-(-result.numel() // 64), block=64), image, other, result, sizes)

    monkeypatch.setattr(launch, '_launch', one_thread_per_element)
    taps, stride, dilation = settings
    padding = dilation * (taps - 1) // 2
    check(*tensors((2, 6, 11, 9), 2, taps, stride, dilation, padding, torch.float32), stride, padding, dilation)


FAULTY = """
extern "C" __global__ void NAME(const float* image, const float* other, float* result, long long maps, int channels,
                                int, int, int, int, int) {
  __shared__ float shared[THREADS];
  int thread = threadIdx.x;
  FAULT
}
"""
EXCHANGE = 'shared[thread] = thread; {} result[thread] = shared[THREADS - 1 - thread];'


@pytest.fixture
def run_faulty(tmp_path):
    def run_it(fault):
        source = tmp_path / 'faulty.cu'
        source.write_text(FAULTY.replace('FAULT', fault))
        plan = Plan('faulty', (('NAME', 'faulty'), ('THREADS', 4)), grid=1, block=4, shared_bytes=16)
        buffers = [torch.ones(4) for _ in range(3)]
        launcher = CpuLauncher(source)
        return [launcher.status(plan, buffers, (1, 1, 1, 1, 1, 1, 0), at_end) for at_end in (False, True)], buffers[2]

    return run_it


@pytest.mark.parametrize(
    ('fault', 'expected'),
    [
        ('result[thread] = image[thread];', [0, 0]),
        ('result[thread] = image[thread + 1];', [0, 11]),  # SIGSEGV
        ('result[thread] = image[thread - 1];', [11, 0]),
        ('result[thread + 1] = 0;', [-2, 11]),
        ('const_cast<float*>(image)[thread] = 0;', [11, 11]),
        ('shared[thread + 1] = 0;', [4, 4]),  # SIGILL
        ('result[thread] = 7 / (channels - 1);', [8, 8]),  # SIGFPE
        ('if (thread) __syncthreads(); result[thread] = 0;', [-1, -1]),
    ],
)
def test_the_launcher_finds_faults(fault, expected, run_faulty):
    assert run_faulty(fault)[0] == expected


def test_the_launcher_finds_a_missing_barrier(run_faulty):
    assert run_faulty(EXCHANGE.format('__syncthreads();'))[1].tolist() == [3, 2, 1, 0]
    assert run_faulty(EXCHANGE.format(''))[1].tolist() != [3, 2, 1, 0]
