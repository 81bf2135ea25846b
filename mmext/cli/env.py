"""Say what is installed, which backends of the operators run on this machine, and why the others do not.

Exits with 1 if an environment variable asks for a backend that does not run here. With ``--compile`` the CPU operators
are compiled ahead, so that no later process of this installation on this kind of machine waits for that (about half a
minute); exits with 1 if the compiled code cannot be kept.

    mmext env
    mmext env --compile
"""

import importlib.util
import os
import platform
import time
from importlib import metadata

from .table import format_table

HELP = 'show versions, and which operator backends run here'
PACKAGES = 'mmengine', 'mmcv', 'mmdet', 'mmsegmentation', 'mmpose', 'mmpretrain', 'mmaction2', 'numba', 'cupy'


def add_arguments(parser):
    """Declare the arguments."""
    parser.add_argument('--compile', action='store_true', help='compile the CPU operators now, not at their first use')


def run(args):
    """Print the report; return 1 if the environment asks for a backend that does not run."""
    import torch

    from mmext.ops.guard import asked_for, describe_switch
    from mmext.ops.involution.backends import ENV_VARIABLE, pick_backend
    from mmext.version import __version__

    print(f'mmext {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}')
    print(f'torch {torch.__version__}, {torch.get_num_threads()} CPU threads, {_gpus()}')
    versions = {name: _version(name) for name in PACKAGES}
    print(', '.join(f'{name} {version}' for name, version in versions.items() if version))
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        print(f'not installed: {", ".join(missing)}')
    folder = _folder_of_compiled_code()
    print(describe_switch())
    print()
    print(format_table(('involution', 'runs here', ''), backend_rows(), 'lll'))
    devices = ['cpu', *['cuda'] * torch.cuda.is_available()]
    try:
        chosen = {device: pick_backend(None, torch.device(device), torch.float32) for device in devices}
    except (ValueError, RuntimeError) as error:
        raise ValueError(str(error)) from error
    source = asked_for(None, ENV_VARIABLE)[1]
    print(f'{source}: {", ".join(f"{name} for tensors on {device}" for device, name in chosen.items())}')
    print()
    _inception_convolution()
    if args.compile:
        print()
        _compile(folder)


def _folder_of_compiled_code():
    """Print where compiled code is kept and return that folder; None if there is none."""
    from mmext.ops.compiled import why_not_numba

    if why_not_numba():  # the tables say so
        return None
    from mmext.ops.compiled import storage

    folders = storage.folders()
    folder = next(filter(storage.is_writable, folders), None)
    if folder is None:
        print(f'compiled code of the CPU operators is not kept: cannot write to {", ".join(folders)}')
    else:
        asked = os.environ.get('NUMBA_CACHE_DIR')
        instead = asked and folder != folders[0]
        reason = f'NUMBA_CACHE_DIR={asked} cannot be written' if instead else 'can be written'
        print(f'compiled code of the CPU operators is kept in {folder} ({reason})')
    return folder


def _compile(folder):
    """Compile every kernel, by use of every operator in every dtype and memory format that has kernels of its own."""
    import torch

    from mmext.ops import inception_conv2d, involution
    from mmext.ops.compiled import why_not_numba

    reason = why_not_numba()
    if reason:
        raise ValueError(f'nothing can be compiled: {reason}')
    if folder is None:
        raise ValueError('compiled code cannot be kept; set NUMBA_CACHE_DIR to a folder that can be written')
    from mmext.ops.compiled.cache import COMPILED, expect_compilation

    def involutions():
        for dtype in (torch.float32, torch.float64):
            for layout in (torch.contiguous_format, torch.channels_last):
                x = torch.ones(1, 2, 4, 4, dtype=dtype).to(memory_format=layout).requires_grad_()
                weight = torch.ones(1, 9, 4, 4, dtype=dtype).to(memory_format=layout).requires_grad_()
                involution(x, weight.unflatten(1, (1, 3, 3)), backend='cpu').sum().backward()

    def inception_convolutions():
        x, weight = torch.ones(1, 2, 4, 4, requires_grad=True), torch.ones(2, 2, 3, 3, requires_grad=True)
        inception_conv2d(x, weight, None, [(1, 1, 1), (1, 2, 1)], backend='cpu').sum().backward()

    expect_compilation()
    for name, use in (('involution', involutions), ('inception convolution', inception_convolutions)):
        print(f'compiling {name} ...', flush=True)
        before, start = len(COMPILED), time.perf_counter()
        with torch.inference_mode(False), torch.enable_grad():
            use()
        count, seconds = len(COMPILED) - before, time.perf_counter() - start
        print(f'{name}: {count} kernels compiled in {seconds:.1f} s' if count else f'{name}: compiled already')


def _inception_convolution():
    import torch

    from mmext.ops.guard import asked_for
    from mmext.ops.inception_conv.functional import ENV_VARIABLE, inception_conv2d, why_not_cpu

    x, weight = torch.zeros(1, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    reason = why_not_cpu(x, weight)
    rows = [('cpu', 'no' if reason else 'yes', reason or ''), ('reference', 'yes', '')]
    print(format_table(('inception convolution', 'runs here', ''), rows, 'lll'))
    setting, source = asked_for(None, ENV_VARIABLE)
    if setting is None:
        print(f'{source}: {"reference" if reason else "cpu"} for tensors on cpu')
        return
    try:
        inception_conv2d(x, weight, None, [(1, 1, 1), (1, 2, 1)])
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    print(source)


def backend_rows():
    """List the backends of involution.

    Returns:
        list[tuple[str, str, str]]: (name, 'yes' or 'no', why not), in the order of the automatic choice.
    """
    import torch

    from mmext.ops.involution.backends import BACKENDS

    rows = []
    for name, backend in BACKENDS.items():
        if name == 'cuda' and torch.version.cuda is not None and not torch.cuda.is_available():
            reason = 'PyTorch finds no GPU'  # what is said of CuPy would not help
        else:
            reason = backend.reason_not(torch.device('cuda' if name == 'cuda' else 'cpu'), torch.float32)
        rows.append((name, 'no' if reason else 'yes', reason or ''))
    return rows


def _gpus():
    import torch

    if not torch.cuda.is_available():
        return 'no GPU'
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f'CUDA {torch.version.cuda}: {", ".join(names)}'


def _version(package):
    """Find a version without an import; CuPy's wheels are named after their CUDA, mmcv-lite has no operators."""
    names = {'cupy': ('cupy-cuda12x', 'cupy-cuda13x', 'cupy-cuda11x', 'cupy'), 'mmcv': ('mmcv', 'mmcv-lite')}
    for name in names.get(package, (package,)):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        without = package == 'mmcv' and importlib.util.find_spec('mmcv._ext') is None
        return f'{version} (without operators)' if without else version
    return None
