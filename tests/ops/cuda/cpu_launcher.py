"""Runs CUDA kernels on the processor: g++ compiles them against cuda_shim.h, whose threads are fibers."""

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from mmext.ops.involution.cuda import launch

WHY_NOT = None if shutil.which('g++') else 'g++ is not installed, so the kernels cannot be compiled for the processor'
KERNELS = tuple(Path(launch.__file__).with_name(name) for name in ('scalars.cuh', 'kernels.cu'))
SHIM = Path(__file__).with_name('cuda_shim.h')
CHECKS = '-fsanitize=bounds', '-fsanitize-undefined-trap-on-error'
FLAGS = '-std=c++17', '-O0', '-w', '-fmax-errors=5', '-shared', '-fPIC', *CHECKS


class CpuLauncher:
    """Takes the place of ``launch._launch``; compiles many kernels at once, as one by one takes long."""

    def __init__(self, *sources):
        self.sources = sources or KERNELS
        self.functions = {}

    def compile(self, plans, workers=2):
        """Compile the kernels of those plans that have none yet, on as many processors as there are workers."""
        keys = sorted({plan.macros for plan in plans} - set(self.functions), key=str)
        parts = [keys[n::workers] for n in range(workers) if keys[n::workers]]
        with ThreadPoolExecutor(workers) as pool:
            for part, library in zip(parts, pool.map(self._library, parts)):
                self.functions |= {key: (library, f'kernel_{n}') for n, key in enumerate(part)}

    def _library(self, keys):
        lines = [f'#include "{SHIM}"']
        for n, macros in enumerate(keys):
            values = dict(macros) | {'NAME': f'kernel_{n}'}
            lines += [f'#define {name} {value}' for name, value in values.items()]
            lines += [f'namespace space_{n} {{', *(f'#include "{source}"' for source in self.sources), '}']
            lines += [f'#undef {name}' for name in values]
        text = '\n'.join(lines)
        ingredients = text, *FLAGS, *(path.read_text() for path in (*self.sources, SHIM))
        folder = Path(tempfile.gettempdir()) / 'mmext-cpu-kernels'
        folder.mkdir(exist_ok=True)
        library = folder / f'{hashlib.sha256("".join(ingredients).encode()).hexdigest()[:16]}.so'
        if not library.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                code, built = Path(scratch) / 'kernels.cpp', Path(scratch) / 'kernels.so'
                code.write_text(text)
                subprocess.run(['g++', *FLAGS, '-o', built, code], check=True)
                built.rename(library)
        return ctypes.CDLL(library)

    def status(self, plan, tensors, sizes, at_end=True, function='launch', blocks=()):
        """Run ``launch`` or ``launch_in_place`` of cuda_shim.h and return what it returns."""
        self.compile([plan])
        library, name = self.functions[plan.macros]
        kernel = ctypes.cast(getattr(library, name), ctypes.c_void_p)
        pointers = []
        for tensor in tensors:
            assert tensor.is_contiguous()
            pointers.append(ctypes.c_void_p(tensor.data_ptr()))
            if function == 'launch':
                pointers.append(ctypes.c_size_t(tensor.numel() * tensor.element_size()))
        numbers = [ctypes.c_longlong(int(sizes[0])), *(ctypes.c_int(int(size)) for size in sizes[1:])]
        grid = [ctypes.c_uint(block) for block in (blocks or [0, plan.grid])]
        place = [ctypes.c_bool(at_end)] if function == 'launch' else []
        return getattr(library, function)(kernel, *grid, ctypes.c_int(plan.block), *place, *pointers, *numbers)

    def __call__(self, plan, image, other, result, sizes):
        results = []
        for at_end in (True, False):  # where the buffers touch the pages that must not be touched
            status = self.status(plan, (image, other, result), sizes, at_end)
            assert status == 0, f'status {status} (see cuda_shim.h) of {plan} with {sizes}'
            results.append(result.clone())
        assert not results[0].isnan().any()
        assert torch.equal(*results)
