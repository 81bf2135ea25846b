"""Files of compiled code: where they may lie, how they are written whole and checked before anything uses them.

Damaged machine code can end the process, so that no file is used whose checksum does not fit. Nothing here raises where
a folder cannot be used or a disk is full: compiled code is only kept to save time.
"""

import contextlib
import hashlib
import logging
import os
import stat
import tempfile
import uuid

import numba

__all__ = ['folders', 'is_writable', 'read', 'write']

SUFFIX = '.kernel'
MOST_BYTES = 1 << 26  # no kernel comes near 64 MiB

logger = logging.getLogger(__name__)


def folders():
    """List the folders in which compiled code may lie; what is written goes to the first that can be written.

    Returns:
        list[str]: ``NUMBA_CACHE_DIR`` if set, ``__pycache__`` of this package, the user's cache folder
            (``XDG_CACHE_HOME`` or ``~/.cache``) and a folder of this user's own among the temporary files. They need
            not exist.
    """
    found = [os.path.abspath(numba.config.CACHE_DIR)] if numba.config.CACHE_DIR else []
    found.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '__pycache__'))
    for base in (os.environ.get('XDG_CACHE_HOME', ''), os.path.join(os.path.expanduser('~'), '.cache')):
        if os.path.isabs(base):  # neither is where HOME is unset and the user unknown
            found.append(os.path.join(base, 'mmext'))
            break
    private = _private_folder()
    return found if private is None else [*found, private]


def is_writable(folder):
    """Say whether a file can be written to a folder, which is made if it does not exist."""
    try:
        _make(folder)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def read(name, key):
    """Return the content of a file.

    Args:
        name (str): As given to :func:`write`.
        key (bytes): As given to :func:`write`. A file that was written with another one counts as damaged.

    Returns:
        bytes or None: None if no folder has such a file that is whole and belongs to someone who is trusted.
    """
    for folder in folders():
        path = os.path.join(folder, _file_name(name, key))
        try:
            data = _read_file(path)
        except OSError:  # not there, may not be read, is a folder
            continue
        if data is None:
            logger.warning('%s belongs to another user and is not used', path)
        elif len(data) > 32 and hashlib.sha256(key + data[32:]).digest() == data[:32]:
            return data[32:]
        else:
            logger.warning('%s is damaged; what it held is compiled again and the file replaced', path)
    return None


def write(name, key, content):
    """Write a file, as a whole or not at all, to the first folder where that is possible.

    Args:
        name (str): What the content is; part of the file's name.
        key (bytes): All that the content depends on.
        content (bytes): What to write.

    Returns:
        list[str]: Why it could not be written, one reason a folder; empty if it was.
    """
    reasons = []
    for folder in folders():
        path = os.path.join(folder, _file_name(name, key))
        try:
            _make(folder)
            _write_file(path, hashlib.sha256(key + content).digest() + content)
            return []
        except OSError as error:
            reasons.append(f'{folder} ({error.strerror or error})')
    return reasons or ['no folder is known']


def _file_name(name, key):
    return f'{name}-{hashlib.sha256(key).hexdigest()[:24]}{SUFFIX}'


def _is_trusted(status):
    """Say whether a file is of this user, of root, or of who owns this package, whose code runs anyway."""
    if not hasattr(os, 'geteuid'):
        return True
    owners = {os.geteuid(), 0}
    with contextlib.suppress(OSError):  # the package may be in an archive
        owners.add(os.stat(__file__).st_uid)
    return status.st_uid in owners


def _read_file(path):
    """Return the bytes of a file, None if it belongs to someone who is not trusted."""
    # a pipe would be waited for without O_NONBLOCK
    descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0))
    with open(descriptor, 'rb') as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f'{path} is not a file')
        if not _is_trusted(status):
            return None
        return file.read(MOST_BYTES)


def _write_file(path, data):
    temporary = f'{path}.{uuid.uuid4().hex}.tmp'
    try:
        # nobody else may write machine code that this user runs
        mode = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, 'O_BINARY', 0)
        with open(os.open(temporary, mode, 0o644), 'wb') as file:
            file.write(data)
            if not _is_trusted(os.fstat(file.fileno())):  # a storage that gives files to another user
                raise PermissionError('files get another owner there')
        os.replace(temporary, path)  # other processes find the old file or the new one, both whole
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _make(folder):
    if folder == _private_folder():
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        if not _is_private(folder):
            raise PermissionError(f'{folder} is not a folder of this user alone')
    else:
        os.makedirs(folder, exist_ok=True)


def _private_folder():
    """A folder of this user's own among the temporary files; None where that cannot be told or someone else has it."""
    if not hasattr(os, 'geteuid'):
        return None
    try:
        folder = os.path.join(tempfile.gettempdir(), f'mmext-{os.geteuid()}')
    except OSError:  # there is no folder for temporary files
        return None
    return None if os.path.lexists(folder) and not _is_private(folder) else folder


def _is_private(folder):
    status = os.lstat(folder)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
