#!/usr/bin/env python3
"""Make ``.venv`` with the tested stack and mmext in it: what ``make setup`` runs.

Uses only the standard library, so that a bare Python can run it. Safe to interrupt and to run again: each step does
only what is missing, and a finished set-up is recognised in well under a second by a stamp that holds a digest of
everything the result depends on.

The one slow step is building mmcv's compiled operators. The wheel is kept outside the checkout, in
``$MMEXT_CACHE_DIR`` (default ``$XDG_CACHE_HOME/mmext`` or ``~/.cache/mmext``), in a folder named after the torch
version, the Python version, the platform and whether CUDA operators are in it: another checkout reuses it, another
torch does not.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, '.venv')
STAMP = os.path.join(VENV, '.mmext-setup.json')
VENV_PYTHON = os.path.join(VENV, 'bin', 'python')
LOG = os.path.join(VENV, 'setup.log')
CONSTRAINTS = os.path.join(ROOT, 'constraints.txt')

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 12)
DISK_VENV_GB = 9  # torch with its CUDA libraries takes 6 of them
DISK_CACHE_GB = 2  # mmcv's build folder

BUILD_TOOLS = ['pip', 'setuptools', 'wheel', 'ninja', 'psutil', 'cython']
TOOLBOXES = ['mmengine', 'mmdet', 'mmsegmentation', 'mmpose', 'mmpretrain', 'mmaction2', 'ftfy', 'regex', 'decord']
NO_ISOLATION = ['chumpy']  # its setup.py imports pip


class SetupError(Exception):
    """Something the user has to change first; the message is one line that says what."""


def run(*command, env=None):
    """Run a command, keeping its output in the log; return it, or show its end if the command fails."""
    env = {**os.environ, **(env or {})}
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    with open(LOG, 'a') as log:
        log.write(f'$ {" ".join(command)}\n{result.stdout}\n')
    if result.returncode:
        print('\n' + '\n'.join(result.stdout.splitlines()[-15:]))
        raise SetupError(f'`{" ".join(command)}` failed; all it printed is in {LOG}')
    return result.stdout


def pip(*args, env=None):
    """Run the environment's pip under the constraints, which also reach isolated builds."""
    env = {'PIP_CONSTRAINT': CONSTRAINTS, 'PIP_DISABLE_PIP_VERSION_CHECK': '1', **(env or {})}
    return run(VENV_PYTHON, '-m', 'pip', *args, env=env)


def pinned(name):
    """Return the exact version that the constraints give to a package."""
    with open(CONSTRAINTS) as file:
        for line in file:
            if line.startswith(name + '=='):
                return line.strip().partition('==')[2]
    raise SetupError(f'{CONSTRAINTS} has no line {name}==VERSION')


def fingerprint():
    """Digest what a finished set-up depends on."""
    digest = hashlib.sha256(f'{ROOT} {sys.version} {platform.platform()}'.encode())
    for name in ('constraints.txt', 'pyproject.toml', 'tools/setup_env.py'):
        with open(os.path.join(ROOT, name), 'rb') as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_finished():
    """Say whether the stamp in .venv is that of the present files."""
    try:
        with open(STAMP) as file:
            return os.path.exists(VENV_PYTHON) and json.load(file)['fingerprint'] == fingerprint()
    except (OSError, ValueError, KeyError):
        return False


def cache_dir():
    """Return the folder for built wheels."""
    base = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    return os.environ.get('MMEXT_CACHE_DIR') or os.path.join(base, 'mmext')


def wheel_folder(torch_version, cuda):
    """Return the cache folder for the mmcv wheel that fits one torch and one Python."""
    tag = f'cp{sys.version_info[0]}{sys.version_info[1]}'
    kind = 'cuda' if cuda else 'cpu'
    return os.path.join(cache_dir(), 'wheels', f'torch-{torch_version}-{tag}-{sysconfig.get_platform()}-{kind}')


def find_wheel(folder):
    """Return the path of the mmcv wheel in a cache folder, or None."""
    version = pinned('mmcv')
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return next(
        (os.path.join(folder, n) for n in names if n.startswith(f'mmcv-{version}-') and n.endswith('.whl')), None
    )


def cached_for_pinned_torch():
    """Say whether some wheel for the pinned torch is there, so that no compiler will be needed."""
    return any(find_wheel(wheel_folder(pinned('torch'), cuda)) for cuda in (False, True))


def free_gb(path):
    """Return the free space at the first existing parent of a path, in GB (1e9 bytes)."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free / 1e9


def python_problem(version):
    """Return one line that says what to install where a Python version does not fit, else None."""
    if OLDEST_PYTHON <= tuple(version[:2]) <= NEWEST_PYTHON:
        return None
    why = 'too old, mmext needs 3.10 or newer'
    if tuple(version[:2]) > NEWEST_PYTHON:
        why = 'too new, the tested stack has numpy 1.26, whose wheels end at 3.12'
    return (
        f'Python {version[0]}.{version[1]} is {why}; install another (Debian, Ubuntu: apt install python3.11 '
        'python3.11-venv) and run: make setup PYTHON=python3.11'
    )


def check_machine():
    """Stop early, with one line that says what to install, where the set-up could only fail later."""
    if sys.platform != 'linux':
        raise SetupError(
            f'`make setup` knows Linux; this is {sys.platform}. See README.md for an installation by hand.'
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise SetupError(
            f'{sys.executable} has no venv module; install it (Debian, Ubuntu: apt install python3-venv)'
        ) from None
    need = 0.5 if os.path.isdir(os.path.join(VENV, 'lib')) else DISK_VENV_GB
    if free_gb(VENV) < need:
        raise SetupError(f'{free_gb(VENV):.1f} GB are free at {ROOT}; the environment needs {need} GB. Make room.')
    if cached_for_pinned_torch():
        return
    if free_gb(cache_dir()) < DISK_CACHE_GB:
        raise SetupError(
            f'{free_gb(cache_dir()):.1f} GB are free at {cache_dir()}; building mmcv needs {DISK_CACHE_GB} GB. '
            'Make room, or set MMEXT_CACHE_DIR to a folder on a larger disk.'
        )
    compiler = os.environ.get('CXX', 'c++')
    if not shutil.which(compiler):
        raise SetupError(
            f'mmcv is compiled here and `{compiler}` is not found; install it (Debian, Ubuntu: apt install g++)'
        )
    probe = [compiler, '-std=c++20', '-fsyntax-only', '-x', 'c++', '-']
    if subprocess.run(probe, input='#include <compare>\n', text=True, capture_output=True).returncode:
        raise SetupError(
            f'`{compiler}` knows no C++20, which torch needs; install GCC 11 or newer (apt install g++) and set CXX'
        )
    if not os.path.exists(os.path.join(sysconfig.get_paths()['include'], 'Python.h')):
        raise SetupError(
            'mmcv is compiled here and Python.h is missing; install it (Debian, Ubuntu: apt install python3-dev)'
        )


def make_venv():
    """Make .venv, anew where the one that is there belongs to another Python."""
    os.makedirs(VENV, exist_ok=True)
    if os.path.exists(VENV_PYTHON):
        probe = subprocess.run([VENV_PYTHON, '-c', 'import sys; print(sys.version)'], capture_output=True, text=True)
        if probe.stdout.strip() == sys.version:
            return
    run(sys.executable, '-m', 'venv', '--clear', VENV)


def install_torch():
    """Install the build tools, torch and torchvision."""
    pip('install', '-U', *BUILD_TOOLS)
    pip('install', 'torch', 'torchvision', 'numpy')


def install_mmcv():
    """Install mmcv with compiled operators: from the cache, else built here and put there."""
    probe = (
        'import os, torch; from torch.utils.cpp_extension import CUDA_HOME; '
        'print(int(torch.cuda.is_available() or os.getenv("FORCE_CUDA") == "1"), int(CUDA_HOME is not None))'
    )
    cuda, toolkit = run(VENV_PYTHON, '-c', probe).split()[-2:]
    folder = wheel_folder(pinned('torch'), cuda == '1')
    wheel = find_wheel(folder)
    if wheel is None:
        if cuda == '1' and toolkit == '0':
            raise SetupError(
                'there is a GPU but no CUDA toolkit to build mmcv with (nvcc); install it and set CUDA_HOME, or do '
                'without the GPU: CUDA_VISIBLE_DEVICES= make setup'
            )
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temp:
            env = {'MMCV_WITH_OPS': '1', 'MAX_JOBS': os.environ.get('MAX_JOBS', str(os.cpu_count() or 1))}
            env['PATH'] = os.path.dirname(VENV_PYTHON) + os.pathsep + os.environ.get('PATH', '')
            # --no-cache-dir: pip's own cache would hand out this wheel under any other torch as well
            pip('wheel', unpack_mmcv(temp), '--no-deps', '--no-build-isolation', '--no-cache-dir', '-w', temp, env=env)
            built = find_wheel(temp)
            if built is None:
                raise SetupError(f'pip built no wheel of mmcv {pinned("mmcv")}; see {LOG}')
            wheel = os.path.join(folder, os.path.basename(built))
            os.replace(built, wheel)
    pip('install', '--force-reinstall', '--no-deps', wheel)
    pip('install', 'mmcv')


def unpack_mmcv(folder):
    """Unpack mmcv's source distribution into a folder and return its path, ready to be built with this torch."""
    requirement = f'mmcv=={pinned("mmcv")}'
    pip('download', requirement, '--no-deps', '--no-build-isolation', '--no-binary', 'mmcv', '-d', folder)
    with tarfile.open(os.path.join(folder, f'mmcv-{pinned("mmcv")}.tar.gz')) as archive:
        archive.extractall(folder)
    source = os.path.join(folder, f'mmcv-{pinned("mmcv")}')
    setup_py = os.path.join(source, 'setup.py')
    with open(setup_py) as file:
        text = file.read()
    # mmcv asks for C++17; the headers of this torch refuse everything below C++20
    with open(setup_py, 'w') as file:
        file.write(text.replace('-std=c++17', '-std=c++20'))
    return source


def install_toolboxes():
    """Install the five toolboxes and what they forget to ask for."""
    pip('install', '--no-build-isolation', *NO_ISOLATION)
    pip('install', *TOOLBOXES)


def install_mmext():
    """Install mmext in place, with the tools that test it."""
    pip('install', '-e', f'{ROOT}[dev,cpu]')


def check_result():
    """Import what was installed; run one compiled operator."""
    code = (
        'import torch, mmdet, mmseg, mmpose, mmpretrain, mmaction, mmext\n'
        'from mmcv.ops import nms\n'
        'box = torch.tensor([[0., 0., 9., 9.], [0., 0., 8., 9.], [20., 20., 29., 29.]])\n'
        'kept = nms(box, torch.tensor([.9, .8, .7]), 0.5)[1].tolist()\n'
        'raise SystemExit(kept != [0, 2])\n'
    )
    run(VENV_PYTHON, '-c', code)


def steps():
    """Return the steps: (what it does, about how long, function)."""
    minutes = 'seconds' if cached_for_pinned_torch() else f'about {max(3, 30 // (os.cpu_count() or 1))} minutes, once'
    return [
        ('virtual environment in .venv', 'seconds', make_venv),
        (f'torch {pinned("torch")} with its CUDA libraries', '2 to 6 minutes', install_torch),
        (f'mmcv {pinned("mmcv")} with compiled operators', minutes, install_mmcv),
        ('mmdet, mmseg, mmpose, mmpretrain, mmaction2', '1 to 3 minutes', install_toolboxes),
        ('mmext, editable, and its test tools', 'under a minute', install_mmext),
        ('check: import all of it, run one operator', 'under a minute', check_result),
    ]


def main():
    """Set up, or find that nothing is to be done."""
    if is_finished():
        print('set-up: .venv is up to date')
        return
    check_machine()
    if os.path.exists(STAMP):
        os.remove(STAMP)
    start = time.time()
    todo = steps()
    for number, (what, duration, function) in enumerate(todo, 1):
        print(f'set-up {number}/{len(todo)}: {what} ({duration}) ...', end=' ', flush=True)
        begin = time.time()
        try:
            function()
        except SetupError:
            print()
            raise
        print(f'{time.time() - begin:.0f} s', flush=True)
    with open(STAMP + '.tmp', 'w') as file:
        json.dump({'fingerprint': fingerprint()}, file)
    os.replace(STAMP + '.tmp', STAMP)
    print(f'set-up: done in {(time.time() - start) / 60:.1f} minutes; `source .venv/bin/activate` to use it')


if __name__ == '__main__':
    problem = python_problem(sys.version_info)
    if problem:
        sys.exit('set-up: ' + problem)
    try:
        main()
    except SetupError as error:
        sys.exit(f'set-up: {error}')
    except KeyboardInterrupt:
        sys.exit('\nset-up: interrupted; run it again to go on')
