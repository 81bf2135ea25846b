"""The CUDA kernels through NVIDIA's compilers, which need no GPU: no spills, registers and shared memory as planned."""

import ctypes
import itertools
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mmext.ops.involution.cuda import launch
from mmext.ops.involution.cuda.plan import PASSES, PROCESSORS, SCALARS, SHARED_BYTES, Problem, make_plan

FOLDER = Path(launch.__file__).parent
ARCHITECTURES = 'sm_75', 'sm_80', 'sm_90'
REGISTERS = 64 * 1024  # of a multiprocessor of each of these


def _instantiations():
    """Yield (plan, architecture): those that the networks need for each architecture, others for one in turn."""

    def plan(step, dtype, maps, channels, size, taps, stride=1, dilation=1):
        out = -(-size // stride)
        return make_plan(Problem(step, dtype, maps, channels, size, size, out, out, taps, stride, dilation))

    for step, dtype, arch in itertools.product(PASSES, SCALARS, ARCHITECTURES):
        yield plan(step, dtype, 512, 16, 56, 7), arch
    archs, dtypes = itertools.cycle(ARCHITECTURES), itertools.cycle(SCALARS)
    for step, dtype in itertools.product(PASSES, SCALARS):
        for sizes in ((4096, 16, 7, 7), (1024, 16, 56, 7, 2), (256, 16, 112, 3)):
            yield plan(step, dtype, *sizes), next(archs)
    sizes = itertools.cycle(
        [(512, 16, 40, 1, 2), (512, 24, 40, 3, 1), (512, 40, 40, 2, 2), (9, 8, 80, 1, 12), (32, 16, 7, 1, 1)]
    )
    for step, taps, _ in itertools.product(PASSES, (1, 3, 5, 9, 11), range(2)):
        maps, channels, size, *settings = next(sizes)
        yield plan(step, next(dtypes), maps, channels, size, taps, *settings), next(archs)


INSTANTIATIONS = list(_instantiations())


def _nvrtc():
    folders = Path(torch.__file__).parents[1] / 'nvidia'
    names = [*folders.glob('*/lib/libnvrtc.so.[0-9]*'), 'libnvrtc.so.13', 'libnvrtc.so.12']
    for name in names:
        try:
            return ctypes.CDLL(str(name))
        except OSError:
            continue
    return None


def _compile(library, plan, arch):
    """Return the log of the compilation as CuPy asks for it, with the assembler's report."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), launch.source().encode(), b'kernels.cu', 0, None, None)
    options = [f'-arch={arch}', '-ftz=true', '--device-as-default-execution-space', '--ptxas-options=-v']
    options = [option.encode() for option in (*options, *launch.options(plan.macros))]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return f'failed\n{log.value.decode()}' if failed else log.value.decode()


@pytest.fixture(scope='module')
def logs():
    library = _nvrtc()
    if library is None:
        pytest.skip('libnvrtc, which comes with PyTorch for CUDA, is not installed')
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda instantiation: _compile(library, *instantiation), INSTANTIATIONS))


def test_nvrtc_compiles_every_instantiation_without_spills(logs):
    used = set()
    for (plan, arch), log in zip(INSTANTIATIONS, logs):
        what = f'{arch} {plan}\n{log}'
        assert '0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads' in log, what
        assert 'warning' not in log, what
        registers = int(re.search(r'Used (\d+) registers', log)[1])
        assert registers * -(-plan.block // 32) * 32 <= REGISTERS, what
        shared = re.search(r'(\d+) bytes smem', log)
        assert plan.shared_bytes == (int(shared[1]) if shared else 0), what
        used.add(dict(plan.macros)['TILED'])
    assert used == {0, 1}


@pytest.mark.skipif(shutil.which('nvcc') is None, reason='nvcc is not installed')
@pytest.mark.parametrize('step', PASSES)
def test_nvcc_compiles_without_warnings(step, tmp_path):
    plan = make_plan(Problem(step, 'bfloat16', 512, 16, 56, 56, 56, 56, 7, 1, 1))
    codes = [f'-gencode=arch=compute_{arch[3:]},code={arch}' for arch in ARCHITECTURES]
    options = *launch.options(plan.macros), *codes, '-Werror', 'all-warnings', '-fatbin', '-o', tmp_path / 'out'
    subprocess.run(['nvcc', *options, '-include', FOLDER / 'scalars.cuh', FOLDER / 'kernels.cu'], check=True)


def test_every_plan_can_be_launched():
    generator = torch.Generator().manual_seed(0)

    def pick(*values):
        return values[torch.randint(len(values), (), generator=generator)]

    for _ in range(300):
        taps, stride, dilation = pick(1, 3, 5, 7, 9, 13, 31), pick(1, 2, 3, 5), pick(1, 2, 3, 12)
        out = pick(1, 2, 7, 14, 25, 56, 113, 800), pick(1, 3, 7, 14, 38, 56, 304)
        size = [(n - 1) * stride + pick(*range(1, stride + 1)) for n in out]
        sizes = pick(1, 2, 32, 512, 100_000), pick(1, 3, 8, 16, 17, 64), *size, *out
        plan = make_plan(Problem(pick(*PASSES), pick(*SCALARS), *sizes, taps, stride, dilation))
        assert 1 <= plan.block <= 256
        assert 1 <= plan.grid < 2**31
        assert plan.shared_bytes <= SHARED_BYTES


@pytest.mark.parametrize('step', PASSES)
def test_plans_of_the_networks(step):
    """Tiles that whole maps are made of, all channels in a block where there are many maps, many blocks where few."""

    def plan(maps, size):
        plan = make_plan(Problem(step, 'float32', maps, 16, size, size, size, size, 7, 1, 1))
        return plan, dict(plan.macros)

    large, macros = plan(512, 56)
    rows, columns = 4 * macros['TILE_ROWS'], macros['TILE_COLUMNS']
    assert (macros['TILED'], macros['CHANNELS'], macros['MAPS']) == (1, 16, 1)
    assert 56 % rows == 56 % columns == 0
    assert large.grid == 512 * (56 // rows) * (56 // columns)
    assert large.block >= 32

    few, macros = plan(8, 56)
    assert few.grid >= PROCESSORS
    assert 56 % (4 * macros['TILE_ROWS']) == 56 % macros['TILE_COLUMNS'] == 0
    assert macros['CHANNELS'] == 16 if step == 'GRAD_WEIGHT' else macros['CHANNELS'] < 16

    small, macros = plan(32, 7)
    assert 0.9 * PROCESSORS <= small.grid <= 4 * PROCESSORS
    assert macros['TILED'] == 1
