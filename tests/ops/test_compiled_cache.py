"""Compiled kernels on disk: checked before they are loaded, never out of date, no error where none can be kept."""

import ast
import ctypes
import errno
import logging
import os
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

numba = pytest.importorskip('numba')

from mmext.ops.compiled import cache, storage, why_not_numba  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
OPS = ROOT / 'mmext/ops'


def add_one(data):
    """Add one to a number: a kernel that is compiled at once."""
    numbers = numba.carray(data, 1, numba.int64)
    numbers[0] += 1


def works(function):
    number = ctypes.c_int64(41)
    function.ctypes(ctypes.addressof(number))
    return number.value == 42


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder for compiled code."""
    monkeypatch.setattr(storage, 'folders', lambda: [str(tmp_path / 'kept')])
    cache._warn_of_no_folder.cache_clear()
    return tmp_path / 'kept'


@pytest.fixture
def kept(folder):
    """The file of a compiled kernel."""
    assert cache.compile_kernel(add_one).cache_hits == 0
    (file,) = folder.iterdir()
    return file


def test_compiled_once(kept):
    function = cache.compile_kernel(add_one)
    assert function.cache_hits == 1
    assert works(function)
    assert list(kept.parent.iterdir()) == [kept]


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


DAMAGE = {
    'empty': lambda data: b'',
    'one byte': lambda data: data[:1],
    'checksum alone': lambda data: data[:32],
    'half': lambda data: data[: len(data) // 2],
    'last byte missing': lambda data: data[:-1],
    'longer': lambda data: data + b'\0',
    'zeros': lambda data: bytes(len(data)),
    'text': lambda data: b'not a kernel\n' * 100,
    'another pickle': lambda data: b'\x80\x04N.',
    **{f'byte {k} of 12': lambda data, k=k: flipped(data, k * (len(data) - 1) // 12) for k in range(13)},
}


@pytest.mark.parametrize('damage', DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_replaced(damage, kept, caplog):
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    function = cache.compile_kernel(add_one)
    assert function.cache_hits == 0
    assert works(function)
    assert f'{kept} is damaged' in caplog.text
    assert cache.compile_kernel(add_one).cache_hits == 1


def test_a_file_under_the_name_of_another_is_replaced(kept, caplog):
    name, key = 'some', b'another key'
    storage.write(name, key, b'machine code of another kernel')
    (other,) = set(kept.parent.iterdir()) - {kept}
    shutil.copy(other, kept)
    assert cache.compile_kernel(add_one).cache_hits == 0
    assert 'is damaged' in caplog.text


def test_what_is_whole_but_cannot_be_loaded_is_compiled(folder, monkeypatch, caplog):
    real = storage.read
    monkeypatch.setattr(storage, 'read', lambda name, key: b'\x80\x04N.')
    function = cache.compile_kernel(add_one)
    assert works(function)
    assert 'cannot be loaded' in caplog.text
    monkeypatch.setattr(storage, 'read', real)
    assert cache.compile_kernel(add_one).cache_hits == 1


@pytest.mark.parametrize('make', ['folder', 'full folder', 'pipe', 'dangling link', 'link to itself'])
def test_something_else_in_the_place_of_a_file(make, kept, tmp_path, monkeypatch):
    kept.unlink()
    if make.endswith('folder'):
        kept.mkdir()
        if make == 'full folder':
            (kept / 'file').write_text('')
    elif make == 'pipe':
        os.mkfifo(kept)
    else:
        kept.symlink_to(tmp_path / 'nothing' if make == 'dangling link' else kept)
    monkeypatch.setattr(storage, 'folders', lambda: [str(kept.parent), str(tmp_path / 'second')])
    function = cache.compile_kernel(add_one)
    assert function.cache_hits == 0
    assert works(function)
    assert cache.compile_kernel(add_one).cache_hits == 1
    assert not (tmp_path / 'nothing').exists()  # what a link points to is not written


def test_a_file_of_another_user_is_not_used(kept, monkeypatch, caplog):
    trusted = {os.geteuid(), 0, Path(storage.__file__).stat().st_uid}
    other = max(trusted) + 1
    stranger = os.stat_result((stat.S_IFREG | 0o644, 0, 0, 1, other, 0, 0, 0, 0, 0))
    assert not storage._is_trusted(stranger)
    assert storage._is_trusted(kept.stat())
    monkeypatch.setattr(storage.os, 'fstat', lambda descriptor: stranger)
    assert works(cache.compile_kernel(add_one))
    assert f'{kept} belongs to another user and is not used' in caplog.text
    assert 'files get another owner there' in caplog.text  # nor is one written where it would be of no use
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.parametrize('place', ['below a file', 'a file', 'cannot be made', 'nowhere'])
def test_no_folder_is_no_error(place, folder, tmp_path, monkeypatch, caplog):
    (tmp_path / 'file').write_text('')
    found = {'below a file': [str(tmp_path / 'file/below')], 'a file': [str(tmp_path / 'file')], 'nowhere': []}
    monkeypatch.setattr(storage, 'folders', lambda: found.get(place, ['/proc/mmext']))
    for _ in range(2):
        function = cache.compile_kernel(add_one)
        assert function.cache_hits == 0
        assert works(function)
    assert caplog.text.count('compiled code cannot be kept on disk') == 1
    assert 'set NUMBA_CACHE_DIR to a folder' in caplog.text


@pytest.mark.parametrize('step', ['write', 'close', 'rename'])
def test_a_full_disk_is_no_error(step, folder, monkeypatch, caplog):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    if step == 'rename':
        monkeypatch.setattr(storage.os, 'replace', full)
    else:
        real = open

        class Full:
            def __init__(self, file):
                self.file = file

            def __enter__(self):
                return self

            def __exit__(self, *args):
                self.file.close()
                full()

            def write(self, data):
                self.file.write(data[:10])
                if step == 'write':
                    full()

        monkeypatch.setattr(
            storage,
            'open',
            lambda name, mode: Full(real(name, mode)) if mode == 'wb' else real(name, mode),
            raising=False,
        )
    function = cache.compile_kernel(add_one)
    assert works(function)
    assert 'No space left on device' in caplog.text
    assert list(folder.iterdir()) == []


def test_whoever_reads_while_others_write_gets_a_whole_file(folder):
    contents = {bytes([value]) * 200_000 for value in range(4)}
    storage.write('name', b'key', bytes(200_000))
    ended = threading.Event()

    def write(content):
        while not ended.is_set():
            assert storage.write('name', b'key', content) == []

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    try:
        assert all(storage.read('name', b'key') in contents for _ in range(200))
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    assert len(list(folder.iterdir())) == 1


def test_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, 'CACHE_DIR', str(tmp_path / 'asked'))
    monkeypatch.setattr(storage.tempfile, 'gettempdir', lambda: str(tmp_path))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    package, private = str(OPS / 'compiled/__pycache__'), str(tmp_path / f'mmext-{os.geteuid()}')
    assert storage.folders() == [str(tmp_path / 'asked'), package, str(tmp_path / 'xdg/mmext'), private]
    monkeypatch.setattr(numba.config, 'CACHE_DIR', '')
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert storage.folders() == [package, str(tmp_path / 'home/.cache/mmext'), private]
    monkeypatch.setattr(os.path, 'expanduser', lambda path: path)  # HOME unset, the user unknown
    assert storage.folders() == [package, private]
    monkeypatch.setattr(storage.tempfile, 'gettempdir', lambda: (_ for _ in ()).throw(FileNotFoundError()))
    assert storage.folders() == [package]


@pytest.mark.parametrize('kind', ['open to others', 'link', 'file', 'of another user'])
def test_a_folder_among_temporary_files_is_private(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(storage.tempfile, 'gettempdir', lambda: str(tmp_path))
    private = Path(storage._private_folder())
    storage._make(str(private))
    assert private.stat().st_mode & 0o777 == 0o700
    if kind == 'open to others':
        private.chmod(0o770)
    elif kind == 'of another user':
        monkeypatch.setattr(storage.os, 'geteuid', lambda: os.getuid() + 1)
        private.rename(tmp_path / f'mmext-{os.getuid() + 1}')
    else:
        private.rmdir()
        (tmp_path / 'other').mkdir(0o700)
        if kind == 'link':
            private.symlink_to(tmp_path / 'other')
        else:
            private.write_text('')
    assert storage._private_folder() is None


def test_whatever_the_code_depends_on_is_in_the_key(monkeypatch):
    keys = {cache._key('kernel', ('x86_64', 'skylake', '+avx'))}
    keys.add(cache._key('another', ('x86_64', 'skylake', '+avx')))
    keys.add(cache._key('kernel', ('x86_64', 'skylake', '-avx')))
    for name, value in {'OPT': 1, 'BOUNDSCHECK': 1, 'SLP_VECTORIZE': 1, 'DEBUGINFO_DEFAULT': 1}.items():
        with monkeypatch.context() as patch:
            patch.setattr(numba.config, name, value)
            keys.add(cache._key('kernel', ('x86_64', 'skylake', '+avx')))
    for module in (numba, cache.llvmlite, cache.np):
        with monkeypatch.context() as patch:
            patch.setattr(module, '__version__', '99')
            keys.add(cache._key('kernel', ('x86_64', 'skylake', '+avx')))
    monkeypatch.setattr(cache, 'source_digest', lambda: 'other sources')
    keys.add(cache._key('kernel', ('x86_64', 'skylake', '+avx')))
    assert len(keys) == 11
    monkeypatch.setattr(cache, 'source_digest', lambda: None)  # of a program without sources
    assert cache._key('kernel', ()) is None


def digest(path, monkeypatch):
    monkeypatch.setattr(cache.resources, 'files', lambda package: path)
    return cache.source_digest.__wrapped__()


def test_a_change_of_any_source_is_seen(tmp_path, monkeypatch):
    copy = tmp_path / 'ops'
    shutil.copytree(OPS, copy, ignore=shutil.ignore_patterns('__pycache__'))
    before = digest(copy, monkeypatch)
    assert before == digest(OPS, monkeypatch)
    shutil.make_archive(tmp_path / 'archive', 'zip', copy)
    assert digest(zipfile.Path(tmp_path / 'archive.zip'), monkeypatch) == before
    sources = sorted(copy.rglob('*.py'))
    assert {'vectors.py', 'threads.py', 'matrix.py', 'plan.py', 'rows.py'} <= {path.name for path in sources}
    seen = {before}
    for path in sources:
        text = path.read_text()
        path.write_text(text + '\n')
        seen.add(digest(copy, monkeypatch))
        path.write_text(text)
    sources[-1].rename(sources[-1].with_name('renamed.py'))
    seen.add(digest(copy, monkeypatch))
    assert len(seen) == len(sources) + 2
    assert digest(tmp_path / 'nothing', monkeypatch) is None


@pytest.mark.parametrize('path', sorted(OPS.rglob('*.py')), ids=lambda path: str(path.relative_to(OPS)))
def test_operators_import_nothing_from_elsewhere_in_mmext(path):
    """Else the digest of the operators' sources would not be that of all sources of a kernel."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            depth = len(path.relative_to(OPS).parts)  # dots that lead out of the operators
            assert node.level <= depth
            assert node.level or not f'{node.module}.'.startswith('mmext.') or node.module.startswith('mmext.ops')
        elif isinstance(node, ast.Import):
            assert not any(f'{alias.name}.'.startswith('mmext.') for alias in node.names)


RUN = """
import sys
import torch
from mmext.ops import involution
torch.manual_seed(0)
x, weight = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 3, 3, 9, 8)
results = [involution(x, weight, backend=backend) for backend in (sys.argv[1] or None, 'reference')]
torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
print(len(getattr(sys.modules.get('mmext.ops.compiled.cache'), 'COMPILED', ())))
"""


def run(package, backend='cpu', **env):
    """Run an involution of a copy of the package; return how many kernels were compiled for it."""
    env = {**os.environ, 'PYTHONPATH': str(package), **env}
    ended = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', RUN, backend], capture_output=True, text=True, cwd=package, env=env
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return int(ended.stdout)


def test_an_update_of_a_helper_alone(tmp_path):
    """Another order of what a kernel is given: with machine code of before, the process would crash."""
    shutil.copytree(ROOT / 'mmext', tmp_path / 'mmext', ignore=shutil.ignore_patterns('__pycache__'))
    env = dict(NUMBA_CACHE_DIR=str(tmp_path / 'kept'))
    assert run(tmp_path, **env) == 1
    helper = tmp_path / 'mmext/ops/compiled/threads.py'
    text = helper.read_text()
    changed = text.replace('HEAD = 3 ', 'HEAD = 4 ').replace(
        'numbers = 0, tasks, chunk,', 'numbers = 0, tasks, chunk, 0,'
    )
    assert changed.count('4 ') == text.count('4 ') + 1
    assert len(changed) == len(text) + 3
    helper.write_text(changed)
    assert run(tmp_path, **env) == 1


def test_numba_told_not_to_compile(monkeypatch):
    assert why_not_numba() is None
    monkeypatch.setattr(numba.config, 'DISABLE_JIT', 1)
    assert why_not_numba() == 'numba is told not to compile (NUMBA_DISABLE_JIT=1); unset that variable'
    assert run(ROOT, backend='', NUMBA_DISABLE_JIT='1') == 0  # the automatic choice is another
    monkeypatch.setitem(sys.modules, 'numba', None)
    assert why_not_numba().startswith('numba cannot be imported (')


def test_a_long_compilation_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr(cache, '_said', threading.Event())
    monkeypatch.setattr(cache, 'COMPILED', [])
    timer = cache._notice()
    assert 1 < timer.interval <= 2
    timer.cancel()
    assert caplog.text == ''
    cache.COMPILED.append(('some kernel', 5.0))  # of several that take long together
    for _ in range(2):
        timer = cache._notice()
        assert timer.interval == 0
        timer.join(10)
    assert caplog.text.count("'mmext env --compile' does it ahead") == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_limit_of_threads_is_no_error(folder, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, 'start', refuse)
    assert works(cache.compile_kernel(add_one))


def test_nothing_is_said_of_what_is_short_or_asked_for(folder, monkeypatch, caplog):
    monkeypatch.setattr(cache, '_said', threading.Event())
    started = []
    notice = cache._notice
    monkeypatch.setattr(cache, '_notice', lambda: started.append(notice()) or started[0])
    monkeypatch.setattr(cache, 'SECONDS', 3600)
    cache.compile_kernel(add_one)
    assert len(started) == 1
    assert started[0].finished.is_set()  # the timer is off
    cache.expect_compilation()
    cache._say_what_takes_long()
    assert caplog.text == ''
