"""Reading of foreign checkpoints, without ever running code that a file asks for."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from .files import existing_file
from .meta import checked_meta
from .mxnet_params import is_params_file
from .report import ConversionError, name_keys

__all__ = ['dataset_meta', 'is_pytorch_file', 'load_content', 'read_checkpoint', 'runs_of', 'state_dict_of']

WRAPPER = 'module.'  # what DataParallel and DistributedDataParallel put before every key


def read_checkpoint(path_or_mapping):
    """Read the state dict of a PyTorch checkpoint, in today's file format or the one before PyTorch 1.6.

    Taken are a mapping of names to tensors, and one that holds it as ``state_dict``, as mmcv 1.x and mmengine write. A
    ``module.`` before every name is taken off. Files load with ``weights_only=True`` and in no other way.

    Args:
        path_or_mapping (str, Path or Mapping): The file, or what it holds.

    Returns:
        dict[str, Tensor]: Names and tensors in the checkpoint's order; those of a file are on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        ConversionError: If the file is empty, damaged or MXNet's, asks for code, or holds anything but a mapping of
            tensors.
    """
    return state_dict_of(*load_content(path_or_mapping))


def load_content(path_or_mapping):
    """Return what a file holds, or the mapping as it is, and its name for messages; raises as `read_checkpoint`."""
    if isinstance(path_or_mapping, Mapping):
        return path_or_mapping, 'the mapping'
    path = Path(path_or_mapping)
    return _load(path), str(path)


def dataset_meta(content):
    """Return the classes and the palette that a checkpoint of mmcv 1.x or mmengine was trained with.

    Args:
        content (object): What the file holds.

    Returns:
        dict: 'classes' (list or tuple of names) and 'palette' (list or tuple of colours, or the name of a palette), as
        far as they are there.

    Raises:
        ConversionError: If there is something else in their place.
    """
    meta = content.get('meta') if isinstance(content, Mapping) and 'state_dict' in content else None
    if meta is None:
        return {}
    return checked_meta(meta)


def runs_of(content, source):
    """Return what a converted file says about the runs of its inception convolutions.

    Args:
        content (object): What the file holds.
        source (str): Format that it was converted from; the runs of another one are of no use.

    Returns:
        dict[str, tuple[int, ...]]: Name of the convolution -> channels of each run; empty in other files.

    Raises:
        ConversionError: If there is something else in their place.
    """
    meta = content.get('meta') if isinstance(content, Mapping) else None
    origin = meta.get('source') if isinstance(meta, Mapping) else None
    architecture = meta.get('architecture') if isinstance(origin, str) and origin == source else None
    runs = architecture.get('runs', {}) if isinstance(architecture, Mapping) else {}
    if not isinstance(runs, Mapping) or not all(isinstance(v, (list, tuple)) for v in runs.values()):
        raise ConversionError('the runs in its meta are damaged; convert the published checkpoint again')
    if any(type(count) is not int or count < 1 for counts in runs.values() for count in counts):
        raise ConversionError('the runs in its meta are no numbers of channels; convert the published checkpoint again')
    return {str(name): tuple(counts) for name, counts in runs.items()}


def is_pytorch_file(path):
    """Return whether a file starts as those of ``torch.save`` do, in today's format or the one before PyTorch 1.6."""
    with open(path, 'rb') as file:
        return file.read(4).startswith((b'PK\x03\x04', b'\x80'))


def _load(path):
    existing_file(path)
    if is_params_file(path):
        raise ConversionError(
            f"{path} is an MXNet .params file, no PyTorch checkpoint; choose the source 'ademxapp' for a Wider-ResNet"
        )
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        text = str(error)
        asked = re.search(r'GLOBAL (\S*\w)\s|(getattr\(.*?\))', text)
        if asked:
            raise ConversionError(
                f'{path} asks for {asked[1] or asked[2]}, which is code and not data, so it was not loaded; there is '
                'no fall-back to an unsafe way. If you trust where it comes from, load it yourself with '
                f'torch.load({str(path)!r}, weights_only=False), save its state dict alone with torch.save, and give '
                'that file'
            ) from None
        detail = text.rpartition('WeightsUnpickler error:')[2].strip().partition('\n')[0]
        raise ConversionError(
            f'{path} ({path.stat().st_size} bytes) cannot be read as a checkpoint ({type(error).__name__}: '
            f'{detail or "it ends too early"}); it is cut short or no PyTorch file, so download it again'
        ) from None


def state_dict_of(content, name):
    """Return the state dict in the content of a checkpoint of that name; raises as `read_checkpoint`."""
    state_dict = content['state_dict'] if isinstance(content, Mapping) and 'state_dict' in content else content
    if not isinstance(state_dict, Mapping):
        raise ConversionError(
            f'{name} holds a {type(state_dict).__name__} where a mapping of names to tensors is needed; give a '
            "checkpoint, or {'state_dict': {name: tensor}}"
        )
    if not state_dict:
        raise ConversionError(f'{name} holds no tensors; give a checkpoint of trained weights')
    others = [f'{key!r} ({type(value).__name__})' for key, value in state_dict.items() if not _is_entry(key, value)]
    if others:
        raise ConversionError(
            f'{name} holds {"other things than" if len(others) < len(state_dict) else "no"} tensors under '
            f"{name_keys(others)}; give a mapping of names to tensors, or one that holds it as 'state_dict'"
        )
    if all(key.startswith(WRAPPER) for key in state_dict):
        return {key[len(WRAPPER) :]: value for key, value in state_dict.items()}
    return dict(state_dict)


def _is_entry(key, value):
    return isinstance(key, str) and isinstance(value, torch.Tensor)
