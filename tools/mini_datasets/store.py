"""Puts a finished dataset in its place: whole or not at all, and never over a folder that this tool did not make."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock; there, two runs at once on one folder are the user's to avoid.
    fcntl = None

MANIFEST = 'mini.json'
GENERATOR = 'make_mini_datasets'
# Raised whenever the same options give other bytes than before, so that datasets made earlier are made anew.
VERSION = 3


class StoreError(Exception):
    """A folder is in the way; the message names it and says what to do."""


def _files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def _manifest(folder: Path) -> dict | None:
    """Returns the manifest of a folder that this tool completed, else None."""
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    valid = (
        isinstance(content, dict) and content.get('generator') == GENERATOR and isinstance(content.get('files'), int)
    )
    return content if valid else None


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Holds a lock on `root`, so that a partial folder seen inside belongs to a run that is dead."""
    if fcntl is None:
        yield
        return
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _check_replaceable(target: Path, found: dict | None) -> None:
    if target.is_symlink():
        raise StoreError(
            f'{target} is a link, which this tool does not replace; remove the link or choose another --out'
        )
    if found is None:
        raise StoreError(
            f'{target} exists but holds no valid {MANIFEST}, so it is half-made or not made by this tool, and it is '
            'left as it is; move or delete it, or choose another --out'
        )
    extra = _files(target) - found['files']
    if extra > 0:
        raise StoreError(
            f'{target} was made with other options and now holds {extra} more file(s) than this tool wrote; move them '
            'out, delete the folder, or choose another --out'
        )


def put(root: Path, name: str, options: dict, build: Callable[[Path], None]) -> bool:
    """Makes the dataset `root/name` unless it is there already with the same options.

    `build` fills a temporary sibling folder; a manifest is written into it last, then it is renamed into place. An old
    dataset made with other options is replaced only then. A killed run leaves a `.name.partial-*` folder, which the
    next run removes.

    Args:
        root: The folder of all mini datasets; made if missing.
        name: Folder name of the dataset.
        options: What the dataset is made from, as plain JSON values.
        build: Called with the empty temporary folder to fill.

    Returns:
        Whether the dataset was made now (False: it was up to date and nothing was touched).

    Raises:
        StoreError: If `root/name` exists and is not a complete dataset of this tool, or holds further files.
    """
    root.mkdir(parents=True, exist_ok=True)
    target = root / name
    wanted = {'generator': GENERATOR, 'version': VERSION, 'name': name, 'options': options}
    with _alone(root):
        for stale in root.glob(f'.{name}.partial-*'):
            shutil.rmtree(stale)
        if target.exists() or target.is_symlink():
            found = _manifest(target)
            same = found is not None and {key: found.get(key) for key in wanted} == wanted
            if same and _files(target) >= found['files']:
                return False
            _check_replaceable(target, found)
        partial = root / f'.{name}.partial-{os.getpid()}'
        partial.mkdir()
        try:
            build(partial)
            content = wanted | {'files': _files(partial) + 1}
            (partial / MANIFEST).write_text(json.dumps(content, indent=2) + '\n')
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        if target.exists():
            old = root / f'.{name}.partial-{os.getpid()}-old'
            target.rename(old)
            partial.rename(target)
            shutil.rmtree(old)
        else:
            partial.rename(target)
    return True
