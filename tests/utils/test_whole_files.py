import os
import resource
import stat
import subprocess
import sys
import threading

import pytest

from mmext.utils.whole_files import write_whole


def test_content_of_every_kind(tmp_path):
    path = tmp_path / 'a.bin'
    assert write_whole(path, b'\x00\xff') == path
    assert path.read_bytes() == b'\x00\xff'
    write_whole(str(path), 'grün\n')
    assert path.read_bytes() == 'grün\n'.encode()

    def write(file):
        file.write(b'abc')
        file.seek(1)
        return path.with_name(f'{file.read().decode()}.bin')

    assert write_whole(path, write) == tmp_path / 'bc.bin'
    assert (tmp_path / 'bc.bin').read_bytes() == b'abc'
    assert sorted(os.listdir(tmp_path)) == ['a.bin', 'bc.bin']


@pytest.mark.parametrize('mask', [0o022, 0o077, 0o002])
@pytest.mark.parametrize('overwrite', [True, False])
def test_permissions_are_those_of_the_umask(mask, overwrite, tmp_path):
    before = os.umask(mask)
    try:
        path = write_whole(tmp_path / 'file', 'x', overwrite)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize('error', [OSError('full'), RuntimeError('bug'), KeyboardInterrupt()])
@pytest.mark.parametrize('overwrite', [True, False])
def test_nothing_is_left_of_a_write_that_fails(error, overwrite, tmp_path):
    def write(file):
        file.write(b'half')
        raise error

    (tmp_path / 'old').write_text('kept')
    for name in ('old', 'new'):
        with pytest.raises(type(error)):
            write_whole(tmp_path / name, write, overwrite)
    assert os.listdir(tmp_path) == ['old']
    assert (tmp_path / 'old').read_text() == 'kept'


def test_no_overwriting(tmp_path):
    path = write_whole(tmp_path / 'file', 'first', overwrite=False)
    with pytest.raises(FileExistsError, match='file exists and is left as it is; delete it or choose another'):
        write_whole(path, 'second', overwrite=False)
    assert os.listdir(tmp_path) == ['file']
    assert path.read_text() == 'first'


def test_one_of_many_threads_creates_a_file(tmp_path):
    results, start = [], threading.Barrier(8)

    def work(number):
        start.wait()
        try:
            write_whole(tmp_path / 'file', str(number) * 10_000, overwrite=False)
            results.append(number)
        except FileExistsError:
            results.append(None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number in results if number is not None]
    assert len(results) == 8
    assert (tmp_path / 'file').read_text() == str(winner) * 10_000
    assert os.listdir(tmp_path) == ['file']


def test_no_overwriting_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'link', lambda *args: (_ for _ in ()).throw(PermissionError(1, 'not permitted')))
    path = write_whole(tmp_path / 'file', 'first', overwrite=False)
    with pytest.raises(FileExistsError, match='exists and is left as it is'):
        write_whole(path, lambda file: file.write(b'second') and None, overwrite=False)
    assert path.read_text() == 'first'
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('overwrite', [True, False])
@pytest.mark.parametrize('victim', ['victim', 'absent'])
def test_a_link_is_not_followed(victim, overwrite, tmp_path):
    (tmp_path / 'victim').write_text('kept')
    (tmp_path / 'link').symlink_to(tmp_path / victim)
    for content in ('x', lambda file: file.write(b'x') and None):
        with pytest.raises(FileExistsError, match='link is a symbolic link, which is not followed; delete it'):
            write_whole(tmp_path / 'link', content, overwrite)
    assert sorted(os.listdir(tmp_path)) == ['link', 'victim']
    assert (tmp_path / 'victim').read_text() == 'kept'


def test_what_is_no_file(tmp_path):
    (tmp_path / 'folder').mkdir()
    os.mkfifo(tmp_path / 'fifo')
    with pytest.raises(IsADirectoryError, match='folder is a folder; give the name of a file in it'):
        write_whole(tmp_path / 'folder', 'x')
    with pytest.raises(OSError, match='fifo is no file but a FIFO, a socket or a device; choose another name'):
        write_whole(tmp_path / 'fifo', 'x')
    with pytest.raises(OSError, match='null is no file but'):
        write_whole('/dev/null', 'x')
    with pytest.raises(FileNotFoundError, match=r'the folder .*absent does not exist; make it first'):
        write_whole(tmp_path / 'absent' / 'file', 'x')
    with pytest.raises(OSError, match='File name too long'):
        write_whole(tmp_path / ('n' * 300), 'x')
    assert sorted(os.listdir(tmp_path)) == ['fifo', 'folder']


def test_the_temporary_name_is_not_predictable(tmp_path):
    names = []
    for _ in range(3):
        write_whole(tmp_path / 'file', lambda file: names.append(os.path.basename(file.name)))
    assert len(set(names)) == 3
    assert all(len(name) >= 16 and str(os.getpid()) not in name.split('.') for name in names)


def test_a_file_in_the_place_of_the_temporary_one_is_not_opened(tmp_path, monkeypatch):
    (tmp_path / 'victim').write_text('kept')
    monkeypatch.setattr('secrets.token_hex', lambda size: 'guessed')
    (tmp_path / '.mmext-guessed.tmp').symlink_to(tmp_path / 'victim')
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / 'file', 'x')
    assert (tmp_path / 'victim').read_text() == 'kept'
    assert not (tmp_path / 'file').exists()


def test_a_full_disk(tmp_path):
    code = (
        'import resource, sys\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n'
        'from mmext.utils.whole_files import write_whole\n'
        'try: write_whole(sys.argv[1], b"x" * 100_000)\n'
        'except OSError as error: print(error)\n'
    )
    assert hasattr(resource, 'RLIMIT_FSIZE')
    path = tmp_path / 'file'
    found = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, path], capture_output=True, text=True)
    assert found.stdout == f"[Errno 27] File too large: '{path}'\n", found.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=f'{tmp_path / "file"}'):
        write_whole(tmp_path / 'file', 'x')
