"""The zoo works from an installed wheel, which carries the configs."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from mmext.patterns import PUBLISHED

ROOT = Path(__file__).parent.parent
PARTS = ('pyproject.toml', 'setup.py', 'MANIFEST.in', 'README.md', 'LICENSE', 'model-index.yml', 'mmext', 'configs')
USE = """
import sys, mmext
from pathlib import Path
folder = Path(sys.argv[1])
assert Path(mmext.__file__).parent == folder / 'mmext', mmext.__file__
assert len(mmext.list_models()) == 54
name = 'rednet26_64xb32-130e_in1k'
assert mmext.get_config(name).filename == str(folder / 'mmext/.mim/configs/involution' / (name + '.py'))
model = mmext.get_model(name, device='meta')
from mmext.ops.involution.cuda import launch
from mmext.patterns import load_pattern
assert len(load_pattern('pose_r50_k13')) == 16
assert '__global__' in launch.source()
assert sum(p.numel() for p in model.parameters()) == 9233886
"""


OFFLINE = {'PIP_NO_INDEX': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1'}


def run(*command, cwd, **env):
    env = {**os.environ, **OFFLINE, **env}
    result = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, cwd=cwd, env=env)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """A folder with a source distribution and the wheel built from it; of a copy, as a build writes to its source."""
    folder = tmp_path_factory.mktemp('build')
    source = folder / 'source'
    source.mkdir()
    for part in map(ROOT.joinpath, PARTS):
        (shutil.copytree if part.is_dir() else shutil.copy)(part, source / part.name)
    sdist = 'import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])'
    run('-c', sdist, folder, cwd=source)
    (archive,) = folder.glob('*.tar.gz')
    run('-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-w', folder, archive, cwd=folder)
    return folder


def configs():
    """Every file under configs that is part of the project."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / 'configs').rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


def test_source_distribution_has_the_configs(built):
    (archive,) = built.glob('*.tar.gz')
    with tarfile.open(archive) as file:
        names = {name.partition('/')[2] for name in file.getnames()}
    assert configs() | {'model-index.yml', 'setup.py', 'LICENSE'} <= names


def test_wheel_has_the_configs_and_nothing_else_besides_the_package(built):
    (wheel,) = built.glob('*.whl')
    assert wheel.name.endswith('-py3-none-any.whl')
    names = set(zipfile.ZipFile(wheel).namelist())
    extra = {name for name in names if name.startswith('mmext/') and not name.endswith('.py')}
    carried = {f'mmext/.mim/{name}' for name in configs() | {'model-index.yml'}}
    carried |= {f'mmext/ops/involution/cuda/{name}' for name in ('kernels.cu', 'scalars.cuh')}
    carried |= {f'mmext/patterns/data/{name}.json' for name in PUBLISHED}
    assert carried <= names
    assert extra <= carried
    assert {name.partition('/')[0].partition('-')[0] for name in names} == {'mmext'}


def test_installed_wheel(built, tmp_path):
    (wheel,) = built.glob('*.whl')
    target = tmp_path / 'installed'
    run('-m', 'pip', 'install', '--no-deps', '--target', target, wheel, cwd=tmp_path)
    run('-W', 'ignore', '-c', USE, target, cwd=tmp_path, PYTHONPATH=str(target))
    path = run('-m', 'mmext', 'models', '--path', 'rednet50_64xb32-130e_in1k', cwd=tmp_path, PYTHONPATH=str(target))
    assert path.strip() == str(target / 'mmext/.mim/configs/involution/rednet50_64xb32-130e_in1k.py')
