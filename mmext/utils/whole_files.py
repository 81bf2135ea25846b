"""Writing of files: whole, under their name, or not at all."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

__all__ = ['write_whole']


def write_whole(path, content, overwrite=True):
    """Write a file so that it appears whole, with all its content, or not at all.

    The content goes to a new file of a random name in the same folder, which is then renamed. That name is created
    exclusively: no file and no symbolic link that is there already is opened. Two threads or processes that write the
    same name do not meet, the last one's file stays. Permissions are those that the umask leaves. Whatever ends the
    writing early (an error, Ctrl-C) leaves nothing behind, and a file that was there before as it was.

    Args:
        path (str or Path): The file, in an existing folder. One that exists is replaced; a symbolic link is not
            followed.
        content (bytes, str or Callable[[BinaryIO], Path or None]): What to write, text as UTF-8. A function gets the
            binary file, which can be read as well, and may return another path in the same folder to use instead.
        overwrite (bool): Replace a file that exists. Default: True.

    Returns:
        Path: The file written.

    Raises:
        FileNotFoundError: If the folder does not exist.
        FileExistsError: If the path is a symbolic link, or is there and ``overwrite`` is False.
        OSError: If the path is a folder, a FIFO, a socket or a device, or the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f'the folder {path.parent} does not exist; make it first')
    if not callable(content):  # else it may choose another name
        _check(path, overwrite)
    temporary = path.parent / f'.mmext-{secrets.token_hex(8)}.tmp'
    try:
        file = open(temporary, 'x+b')  # O_EXCL  # noqa: SIM115
    except OSError as error:
        raise _named(error, path) from error
    try:
        with file:
            target = path
            if callable(content):
                target = content(file) or path
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        _check(target, overwrite)
        if overwrite:
            os.replace(temporary, target)
        else:
            _link(temporary, target)
    except OSError as error:
        raise _named(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return target


def _check(path, overwrite):
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f'{path} is a folder; give the name of a file in it')
    if stat.S_ISLNK(mode):
        raise FileExistsError(f'{path} is a symbolic link, which is not followed; delete it or choose another name')
    if not stat.S_ISREG(mode):
        raise OSError(f'{path} is no file but a FIFO, a socket or a device; choose another name')
    if not overwrite:
        raise _exists(path)


def _exists(path):
    return FileExistsError(f'{path} exists and is left as it is; delete it or choose another destination')


def _link(temporary, path):
    """Give a file its name unless that exists, without a moment between the look and the deed where links exist."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without hard links
        _check(path, overwrite=False)
        os.replace(temporary, path)


def _named(error, path):
    """Return an error of the system with the name that the caller knows."""
    if error.errno is None:
        return error
    return OSError(error.errno, error.strerror, str(path))
