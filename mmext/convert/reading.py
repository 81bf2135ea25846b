"""Reading of foreign checkpoints, without ever running code that a file asks for."""

import re
from collections.abc import Mapping

import torch

from .addresses import is_address
from .archives import check_archive
from .files import existing_file
from .meta import checked_meta
from .mxnet_params import is_params_file
from .report import ConversionError, name_keys
from .standins import PickleError

__all__ = ['dataset_meta', 'is_pytorch_file', 'load_content', 'read_checkpoint', 'runs_of', 'state_dict_of']

ZIP = b'PK\x03\x04'
WRAPPER = 'module.'  # what DataParallel and DistributedDataParallel put before every key
MAX_KEY = 500  # characters
MAX_SHARED = 16  # how many times the memory of all tensors they may need once each has its own


def read_checkpoint(path_or_mapping):
    """Read the state dict of a PyTorch checkpoint, in today's file format or the one before PyTorch 1.6.

    Taken are a mapping of names to tensors, and one that holds it as ``state_dict``, as mmcv 1.x and mmengine write. A
    ``module.`` before every name is taken off. Files load with ``weights_only=True`` and in no other way, after their
    structure and their pickle have been checked.

    Args:
        path_or_mapping (str, Path or Mapping): The file, or what it holds. A file may be given by its address,
            ``https://...`` or ``torchvision://resnet50``; it is downloaded once, see :mod:`mmext.convert.addresses`.

    Returns:
        dict[str, Tensor]: Names and tensors in the checkpoint's order; those of a file are on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        ConversionError: If the file is empty, damaged or MXNet's, asks for code, would take more memory than it is
            long, cannot be read in safety by this version of torch, or holds anything but a mapping of tensors; if a
            tensor is no plain weight: sparse, nested, quantized, complex, on the meta device, or with elements that
            share memory. The message names the keys.
    """
    return state_dict_of(*load_content(path_or_mapping))


def load_content(path_or_mapping):
    """Return what a file holds, or the mapping as it is, and its name for messages; raises as `read_checkpoint`."""
    if isinstance(path_or_mapping, Mapping):
        return path_or_mapping, 'the mapping'
    return _load(path_or_mapping), str(path_or_mapping)


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
        return file.read(4).startswith((ZIP, b'\x80'))


def _load(source):
    path = existing_file(source)
    if is_params_file(path):
        raise ConversionError(
            f"{path} is an MXNet .params file, no PyTorch checkpoint; choose the source 'ademxapp' for a Wider-ResNet"
        )
    # before 2.6 weights_only=True does not hold for the formats that are no zip archive (CVE-2025-32434)
    trusted = tuple(int(re.match(r'\d*', part)[0] or 0) for part in torch.__version__.split('.')[:2]) >= (2, 6)
    try:
        with open(path, 'rb') as file:
            if not trusted and file.read(4) != ZIP:
                raise ConversionError(
                    f'{path} is in the format before PyTorch 1.6 (or another that is no zip archive), which torch '
                    f'{torch.__version__} cannot read in safety (CVE-2025-32434); install torch 2.6 or newer, or save '
                    'the file again in the format of today where you trust it'
                )
            check_archive(file)
            file.seek(0)
            # the file and not its path, so that what is loaded is what was checked, whatever the suffix
            return torch.load(file, map_location='cpu', weights_only=True)
    except ConversionError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        raise _explained(error, path, is_address(source)) from None


def _explained(error, path, downloaded):
    text = str(error)
    asked = re.search(r'GLOBAL (\S*\w)\s|(getattr\(.*?\))', text)
    asked = getattr(error, 'asked', '') or (asked and (asked[1] or asked[2]))
    if asked:
        return ConversionError(
            f'{path} asks for {asked[:100]}, which is code and not data, so it was not loaded; there is no fall-back '
            'to an unsafe way. If you trust where it comes from, load it yourself with '
            f'torch.load({str(path)!r}, weights_only=False), save its state dict alone with torch.save, and give that '
            'file'
        )
    if isinstance(error, PickleError):
        detail = text
    else:
        detail = text.rpartition('WeightsUnpickler error:')[2].strip().partition('\n')[0][:200]
        detail = f'{type(error).__name__}: {detail or "it ends too early"}'
    return ConversionError(
        f'{path} ({path.stat().st_size} bytes) cannot be read as a checkpoint ({detail}); it is cut short or no '
        f'PyTorch file, so {"delete it to " * downloaded}download it again'
    )


def state_dict_of(content, name, allow_empty=False):
    """Return the state dict in the content of a checkpoint of that name; raises as `read_checkpoint`."""
    state_dict = content['state_dict'] if isinstance(content, Mapping) and 'state_dict' in content else content
    if not isinstance(state_dict, Mapping):
        raise ConversionError(
            f'{name} holds a {type(state_dict).__name__} where a mapping of names to tensors is needed; give a '
            "checkpoint, or {'state_dict': {name: tensor}}"
        )
    if not state_dict and not allow_empty:
        raise ConversionError(f'{name} holds no tensors; give a checkpoint of trained weights')
    others = [
        f'{_shown(key)} ({type(value).__name__})' for key, value in state_dict.items() if not _is_entry(key, value)
    ]
    if others:
        raise ConversionError(
            f'{name} holds {"other things than" if len(others) < len(state_dict) else "no"} tensors under '
            f"{name_keys(others)}; give a mapping of names to tensors, or one that holds it as 'state_dict'"
        )
    odd = [f'{_shown(key)} ({oddity})' for key, value in state_dict.items() if (oddity := _oddity(value))]
    if odd:
        raise ConversionError(
            f'{name} holds tensors that are no plain weights under {name_keys(odd)}; plain are dense real tensors '
            '(torch.strided, on a device with memory) each of whose elements has a place of its own: save '
            '.to_dense(), .full_tensor(), .dequantize() or .clone() of what you need'
        )
    _check_shared(state_dict, name)
    if all(key.startswith(WRAPPER) for key in state_dict):
        return {key[len(WRAPPER) :]: value for key, value in state_dict.items()}
    return dict(state_dict)


def _oddity(value):
    """Return what keeps a tensor from being plain weights, in words, or ''."""
    if torch.nn.parameter.is_lazy(value):
        return 'not initialised yet'
    if value.is_nested or value.layout is not torch.strided:
        return f'{"nested" if value.is_nested else value.layout}'
    if type(value) not in (torch.Tensor, torch.nn.Parameter):
        return f'of type {type(value).__name__}'
    if value.is_quantized:
        return f'quantized, {value.dtype}'
    if value.is_complex():
        return f'complex, {value.dtype}'
    if value.device.type == 'meta':
        return 'on the meta device, without values'
    sides = sorted((step, size) for step, size in zip(value.stride(), value.shape) if size > 1)
    reach = 0  # how far elements of the dimensions so far are apart at most
    for step, size in sides if value.numel() else ():
        if step <= reach:
            return f'elements share memory: shape {list(value.shape)} with strides {list(value.stride())}'
        reach += step * (size - 1)
    return ''


def _check_shared(state_dict, name):
    """Refuse many large tensors over the same memory, which would be far more once each has its own."""
    held = {storage.data_ptr(): storage.nbytes() for storage in map(torch.Tensor.untyped_storage, state_dict.values())}
    needed = sum(value.numel() * value.element_size() for value in state_dict.values())
    if needed > MAX_SHARED * sum(held.values()):
        raise ConversionError(
            f'{name} holds {len(state_dict)} tensors of {needed} bytes over {sum(held.values())} bytes of memory; '
            'more than a few that share memory are no weights: save a .clone() of each'
        )


def _shown(key):
    """Return a key for a message, which no key makes long."""
    if not isinstance(key, (str, int, float, bytes)):
        return f'a {type(key).__name__}'
    return repr(key) if not isinstance(key, (str, bytes)) or len(key) <= MAX_KEY else f'{key[:MAX_KEY]!r}...'


def _is_entry(key, value):
    return isinstance(key, str) and len(key) <= MAX_KEY and key.isprintable() and isinstance(value, torch.Tensor)
