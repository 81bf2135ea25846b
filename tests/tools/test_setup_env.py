"""What `make setup` says where it cannot work. The set-up itself is tested by being what runs these tests."""

import ast
import collections
import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'tools' / 'setup_env.py'


@pytest.fixture
def setup_env(monkeypatch, tmp_path):
    """The script as a module, with an empty cache of built wheels."""
    spec = importlib.util.spec_from_file_location('setup_env', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv('MMEXT_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setattr(module, 'VENV', str(tmp_path / '.venv'))
    return module


def test_no_compiler(setup_env, monkeypatch):
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    with pytest.raises(setup_env.SetupError, match=r'`c\+\+` is not found; install it .*apt install g\+\+'):
        setup_env.check_machine()


def test_old_compiler(setup_env, monkeypatch, tmp_path):
    compiler = tmp_path / 'old-c++'
    compiler.write_text('#!/bin/sh\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv('CXX', str(compiler))
    with pytest.raises(setup_env.SetupError, match=r'knows no C\+\+20.*GCC 11 or newer'):
        setup_env.check_machine()


def test_no_headers(setup_env, monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env.sysconfig, 'get_paths', lambda: {'include': str(tmp_path)})
    with pytest.raises(setup_env.SetupError, match=r'Python\.h is missing; install it .*python3-dev'):
        setup_env.check_machine()


def test_no_disk_space(setup_env, monkeypatch):
    usage = collections.namedtuple('usage', 'free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(10**9))
    with pytest.raises(setup_env.SetupError, match=r'1\.0 GB are free .* needs 9 GB'):
        setup_env.check_machine()


def test_a_cached_wheel_needs_no_compiler(setup_env, monkeypatch):
    folder = Path(setup_env.wheel_folder(setup_env.pinned('torch'), cuda=False))
    folder.mkdir(parents=True)
    (folder / f'mmcv-{setup_env.pinned("mmcv")}-cp311-cp311-linux_x86_64.whl').touch()
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    setup_env.check_machine()


def test_a_wheel_belongs_to_one_torch_one_python_and_one_kind(setup_env, monkeypatch):
    folders = {setup_env.wheel_folder(torch, cuda) for torch in ('2.14.1', '2.15.0') for cuda in (False, True)}
    monkeypatch.setattr(setup_env.sys, 'version_info', (3, 12))
    folders.add(setup_env.wheel_folder('2.14.1', False))
    assert len(folders) == 5


def test_wrong_python(setup_env):
    assert setup_env.python_problem((3, 9, 2)).startswith('Python 3.9 is too old, mmext needs 3.10 or newer; install')
    assert setup_env.python_problem((3, 13, 0)).startswith('Python 3.13 is too new')
    assert setup_env.python_problem((3, 10, 0)) is None
    ast.parse(SCRIPT.read_text(), feature_version=(3, 7))  # an old Python must get as far as the message


def test_stamp_of_other_files_is_not_taken(setup_env, monkeypatch, tmp_path):
    stamp = tmp_path / 'stamp.json'
    monkeypatch.setattr(setup_env, 'STAMP', str(stamp))
    monkeypatch.setattr(setup_env, 'VENV_PYTHON', sys.executable)
    assert not setup_env.is_finished()
    stamp.write_text('{"fingerprint": "of other files"}')
    assert not setup_env.is_finished()
    stamp.write_text(f'{{"fingerprint": "{setup_env.fingerprint()}"}}')
    assert setup_env.is_finished()
