"""``--resume`` ends in an error where ``last_checkpoint`` is empty or names a checkpoint that is damaged or gone.

mmengine's ``find_latest_checkpoint`` returns what the file says, unseen, and a training that was killed, a full disk or
a folder that moved leave such files (no upstream issue is known to us). Here a name whose checkpoint is whole is
returned as it is; else it is the newest checkpoint of the folder that is whole, and the log says so.
"""

import logging
import os
import re
import zipfile

from .after_import import after_import

__all__ = ['apply', 'find_latest_checkpoint', 'is_whole']

# what mmengine's hook writes to resume from: not the best ones, which lack the optimizer, nor published ones
RESUMABLE = re.compile(r'(?!best_).*\d\.pth')
PUBLISHED = re.compile(r'.*-[0-9a-f]{8}\.pth')
LEGACY = b'\x80'  # first byte of a pickle, in which torch wrote checkpoints before 1.6
# the name is bound in each of these
MODULES = 'mmengine.runner.checkpoint', 'mmengine.runner.runner', 'mmengine.runner._flexible_runner', 'mmengine.runner'


def find_latest_checkpoint(path):
    """Find the checkpoint to resume from.

    Args:
        path (str): The folder of a training, with its file ``last_checkpoint``.

    Returns:
        str or None: What ``last_checkpoint`` names if that is whole or on a remote storage; else the checkpoint of that
            name in ``path``, else the newest whole one in ``path`` or in the folder that was named. None if there is
            none.
    """
    from mmengine.logging import print_log

    named, problem = _named(os.path.join(path, 'last_checkpoint'))
    if problem is None and ('://' in named or is_whole(named)):
        return named
    if problem is None:
        problem = f'names {named}, which is {"damaged" if os.path.exists(named) else "not there"}'
    folders = list(dict.fromkeys([path, os.path.dirname(named) or path]))
    beside = os.path.join(path, os.path.basename(named))
    candidates = [beside] if named and beside != named else []
    for file in candidates + _newest_first(folders):
        if is_whole(file):
            found = file
            break
    else:
        found = None
    instead = f'resuming from {found}, the newest that is whole' if found else 'no whole checkpoint is there either'
    print_log(f'{os.path.join(path, "last_checkpoint")} {problem}; {instead}', logger='current', level=logging.WARNING)
    return found


def is_whole(path):
    """Say whether a checkpoint can be read to its end, by the checksums that torch writes into it.

    Args:
        path (str): A file, or a folder in which DeepSpeed and the like save; that is not looked into.

    Returns:
        bool: False also if there is no such file.
    """
    if os.path.isdir(path):
        return bool(os.listdir(path))
    try:
        with open(path, 'rb') as file:
            if file.read(1) == LEGACY:  # has no checksums
                return True
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if not any(os.path.basename(entry.filename) == 'data.pkl' for entry in entries):
                return False
            if not any(entry.CRC for entry in entries):  # torch.serialization.set_crc32_options(False)
                return True
            return archive.testzip() is None
    except Exception:  # of many kinds, as a damaged archive may say anything of itself
        return False


def _named(file):
    """Return what ``last_checkpoint`` names, and what is wrong with it or None."""
    try:
        with open(file, 'rb') as stream:
            named = stream.read(1 << 16).decode(errors='replace').strip()
    except FileNotFoundError:
        return '', 'is not there'
    except OSError as error:
        return '', f'cannot be read ({error.strerror})'
    if not named:
        return '', 'is empty'
    if not named.isprintable():
        return '', 'is damaged'
    return named, None


def _newest_first(folders):
    found = []
    for folder in folders:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        found += [
            os.path.join(folder, name) for name in names if RESUMABLE.fullmatch(name) and not PUBLISHED.fullmatch(name)
        ]
    return sorted(found, key=_age, reverse=True)


def _age(path):
    """By time, and by number where a copy has made the times equal."""
    try:
        time = os.path.getmtime(path)
    except OSError:  # removed by now
        time = 0
    return time, int(re.search(r'(\d+)\.pth$', path)[1])


def _cure(module):
    if hasattr(module, 'find_latest_checkpoint'):  # the name is mmengine's own, and not in every version everywhere
        module.find_latest_checkpoint = find_latest_checkpoint


def apply():
    """Let ``--resume`` find a checkpoint that can be loaded."""
    for name in MODULES:
        after_import(name, _cure)
