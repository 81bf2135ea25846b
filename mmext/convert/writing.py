"""Writing of converted checkpoints: named after their content, whole or not at all."""

import hashlib
import io
import os
from pathlib import Path

import torch

from mmext.version import __version__

from .report import ConversionError

__all__ = ['SUFFIX', 'destination', 'write_checkpoint']

SUFFIX = '.pth'


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
    if dst.resolve() == src.resolve():
        raise ConversionError(f'{dst} is the checkpoint to convert itself; choose another destination')
    if not dst.parent.is_dir():
        raise FileNotFoundError(f'the folder {dst.parent} does not exist; make it first')
    return dst


def write_checkpoint(state_dict, report, path):
    """Write a converted state dict in the layout that mmengine loads (``load_from``, ``init_cfg``, inferencers).

    The name gets the first eight digits of the file's SHA-256, as ``torch.hub`` checks them: ``rednet50-1a2b3c4d.pth``.
    The same tensors, settings and version give the same bytes. The file appears whole, under its name, or not at all.

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
    # each tensor with a storage of its own, so that the file holds no more than them
    tensors = {key: value.clone(memory_format=torch.contiguous_format) for key, value in state_dict.items()}
    buffer = io.BytesIO()  # not a path, whose name torch.save would write into the file
    torch.save(dict(meta=meta, state_dict=tensors), buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:8]
    target = path.with_name(f'{path.stem}-{digest}{path.suffix}')
    temporary = path.with_name(f'.{target.name}.{os.getpid()}.tmp')
    try:
        temporary.write_bytes(buffer.getbuffer())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
