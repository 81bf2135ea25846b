"""Writing of converted checkpoints: named after their content, whole or not at all."""

import hashlib
import os
from pathlib import Path

import torch

from mmext.utils.whole_files import write_whole
from mmext.version import __version__

from .report import ConversionError

__all__ = ['SUFFIX', 'destination', 'write_checkpoint']

SUFFIX = '.pth'
BLOCK = 2**20


def destination(src, dst):
    """Return the name a converted checkpoint is asked to have, without the hash that writing adds.

    Args:
        src (str or Path): The checkpoint to convert.
        dst (str or Path): A file name that ends in ``.pth``, or an existing folder, where the name of ``src`` is kept.

    Returns:
        Path: A file name in an existing folder.

    Raises:
        ConversionError: If ``dst`` is ``src``, or does not end in ``.pth`` and is no folder.
        FileNotFoundError: If the folder does not exist.
    """
    src, dst = Path(src), Path(dst)
    if dst.is_dir():
        return dst / f'{Path(src.name.removesuffix(".tar")).stem}{SUFFIX}'
    if dst.suffix != SUFFIX:
        raise ConversionError(f'{dst} ends in {dst.suffix or "no suffix"!r}; give a file name in {SUFFIX}, or a folder')
    if os.path.realpath(dst) == os.path.realpath(src):
        raise ConversionError(f'{dst} is the checkpoint to convert itself; choose another destination')
    if not dst.parent.is_dir():
        raise FileNotFoundError(f'the folder {dst.parent} does not exist; make it first')
    return dst


def write_checkpoint(state_dict, report, path):
    """Write a converted state dict in the layout that mmengine loads (``load_from``, ``init_cfg``, inferencers).

    The name gets the first eight digits of the file's SHA-256, as ``torch.hub`` checks them: ``rednet50-1a2b3c4d.pth``.
    The same tensors, settings and version give the same bytes. The file appears whole, under its name, or not at all.
    Tensors are written from where they are; copied are those that are a part of something larger or share memory.

    Args:
        state_dict (dict[str, Tensor]): As :func:`mmext.convert.convert` returns it.
        report (ConversionReport): Its report, from which the file's ``meta`` is made, with the classes and palette that
            inferencers read.
        path (Path): File name in an existing folder, without the hash.

    Returns:
        Path: The file written.

    Raises:
        OSError: If the file cannot be written.
    """
    meta = dict(source=report.source, converted_by=f'mmext {__version__}', architecture=report.architecture)
    if report.dataset_meta:
        meta['dataset_meta'] = report.dataset_meta
    content = dict(meta=meta, state_dict=_tight(state_dict))

    def write(file):
        stream = _Stream(file)  # not a path, whose name torch.save would write into the file
        torch.save(content, stream)
        if stream.error:
            raise stream.error
        file.seek(0)
        digest = hashlib.sha256()
        while block := file.read(BLOCK):
            digest.update(block)
        return path.with_name(f'{path.stem}-{digest.hexdigest()[:8]}{path.suffix}')

    return write_whole(path, write)


class _Stream:
    """A file that keeps its first error for later, as torch.save hides it behind one of its own."""

    def __init__(self, file):
        self.file = file
        self.error = None

    def write(self, data):
        if not self.error:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self):
        if not self.error:
            try:
                self.file.flush()
            except OSError as error:
                self.error = error


def _tight(state_dict):
    """Return tensors with storages of their own and nothing else in them, so that a file holds no more than them."""
    tensors, storages = {}, set()
    for key, value in state_dict.items():
        storage = value.untyped_storage()
        own = storage.nbytes() == value.nbytes and storage.data_ptr() not in storages
        if not own or value.stride() != torch.empty(value.shape, device='meta').stride():
            value = value.clone(memory_format=torch.contiguous_format)
        storages.add(storage.data_ptr())
        tensors[key] = value
    return tensors
