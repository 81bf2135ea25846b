"""A training that is killed while it saves leaves half a checkpoint, an empty ``last_checkpoint``, or no checkpoint.

mmengine writes ``.pth`` files and ``last_checkpoint`` in place (``LocalBackend.put``, ``CheckpointHook``), and its hook
removes the checkpoint that ``max_keep_ckpts`` no longer allows *before* it writes the new one (no upstream issue is
known to us). Here files are written beside their place and renamed, and an old checkpoint is removed when the new one
and ``last_checkpoint`` are there; while both are, the disk holds one more, and where it has no room for that, the old
one goes first as before. What a killed training left of a file is removed when the next one starts in that folder.
"""

import contextlib
import functools
import io
import os
import secrets
import shutil
import stat
from pathlib import Path

from .after_import import after_import

__all__ = ['apply', 'write_whole']

SUFFIX = '.mmext-part'


def write_whole(path, data):
    """Write a file so that whoever looks finds what was there before or all of the new content.

    Args:
        path (str or Path): Where to; a symbolic link is followed.
        data (bytes): The content.
    """
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device, which cannot be replaced
        Path(path).write_bytes(data)
        return
    folder, name = os.path.split(path)
    part = os.path.join(folder, f'.{name[:200]}.{secrets.token_hex(8)}{SUFFIX}')
    try:
        file = open(part, 'xb')  # noqa: SIM115 - it is closed before it is renamed
    except PermissionError:  # of the folder; the file itself may be open to writing
        Path(path).write_bytes(data)
        return
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power failure may leave the name without the content
        with contextlib.suppress(FileNotFoundError):
            os.chmod(part, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def _put(self, obj, filepath):
    """Write bytes to a file; its folder is made if it does not exist."""
    os.makedirs(os.path.dirname(os.path.abspath(filepath)), exist_ok=True)
    write_whole(filepath, obj)


def _cure_backend(module):
    module.LocalBackend.put = _put


@contextlib.contextmanager
def _open_whole(path, mode):
    text = io.StringIO()
    yield text
    write_whole(path, text.getvalue().encode())


def _open(path, mode='r', *args, **kwargs):
    return _open_whole(path, mode) if (mode, args, kwargs) == ('w', (), {}) else open(path, mode, *args, **kwargs)


class _RemovingLater:
    """A storage that puts off the removal of files while its disk has room for one more of their size."""

    def __init__(self, backend):
        self._backend = backend
        self.later = []

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def remove(self, path):
        if os.path.isfile(path) and shutil.disk_usage(os.path.dirname(path)).free > 2 * os.path.getsize(path):
            self.later.append(path)
        else:
            self._backend.remove(path)


def _remove_last(method):
    """Let a method of the hook remove files when it has saved others."""

    @functools.wraps(method)
    def save(self, *args, **kwargs):
        backend = self.file_backend
        self.file_backend = storage = _RemovingLater(backend)
        try:
            method(self, *args, **kwargs)
        finally:
            self.file_backend = backend
        saved = {self.last_ckpt, getattr(self, 'best_ckpt_path', None)}
        saved.update(getattr(self, 'best_ckpt_path_dict', {}).values())
        for path in storage.later:
            if path not in saved:  # by the same name as before
                backend.remove(path)

    return save


def _remove_parts(method):
    """Remove, before training, what a killed process left of files."""

    @functools.wraps(method)
    def before_train(self, runner):
        method(self, runner)
        if getattr(runner, 'rank', 0) == 0:
            for folder in {str(runner.work_dir), str(self.out_dir)}:
                for part in Path(folder).glob(f'.*{SUFFIX}'):
                    with contextlib.suppress(OSError):
                        part.unlink()

    return before_train


def _cure_hook(module):
    if getattr(module, 'open', None) is _open:  # cured already
        return
    module.open = _open  # the module writes nothing but last_checkpoint
    hook = module.CheckpointHook
    hook._save_checkpoint_with_step = _remove_last(hook._save_checkpoint_with_step)
    hook._save_best_checkpoint = _remove_last(hook._save_best_checkpoint)
    hook.before_train = _remove_parts(hook.before_train)


def apply():
    """Let mmengine write checkpoints whole, and remove old ones last."""
    after_import('mmengine.fileio.backends.local_backend', _cure_backend)
    after_import('mmengine.hooks.checkpoint_hook', _cure_hook)
