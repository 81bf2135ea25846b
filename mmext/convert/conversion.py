"""The table of formats, and what holds for all of them: a conversion is total or it is an error."""

import difflib
from importlib import import_module
from types import SimpleNamespace

import torch

from .comparison import differences
from .reading import dataset_meta, load_content, runs_of, state_dict_of
from .report import ConversionError, name_keys
from .values import check_values
from .verification import published_name

__all__ = ['SOURCES', 'convert']

# Name of a format -> the module that knows it. Such a module has a function ``plan(state_dict)`` that returns a
# report, all but its missing keys, and the keys and shapes of the network that the checkpoint describes. Where several
# keys of the checkpoint are mapped to one of ours, their tensors are joined along the first dimension, in the order of
# the report. With ``KEEPS_RUNS = True`` its reports note runs (see ConversionReport), which a converted file has in its
# meta, and converting that once more calls ``plan(state_dict, runs)``. Optional are ``load(path_or_mapping)``, which
# reads files that are none of PyTorch and returns what they hold and a name for messages, and ``PUBLISHED_MD5``, name
# of a published file -> its sum.
SOURCES = {
    'involution': 'mmext.convert.involution',
    'ic-conv': 'mmext.convert.ic_conv',
    'ademxapp': 'mmext.convert.ademxapp',
    'psa': 'mmext.convert.psa',
}


def convert(path_or_mapping, source, allow_missing=False, verify=False):
    """Convert a checkpoint of an original project into a state dict of this package's networks.

    Source of the formats: the projects themselves; see :mod:`mmext.convert.involution`,
    :mod:`mmext.convert.ic_conv`, :mod:`mmext.convert.ademxapp` and :mod:`mmext.convert.psa`.

    Args:
        path_or_mapping (str, Path or Mapping): See :func:`mmext.convert.read_checkpoint`; for 'ademxapp' an MXNet
            ``.params`` file, or a mapping of names to numpy arrays or tensors.
        source (str): Name of the format, a key of :data:`mmext.convert.SOURCES`.
        allow_missing (bool): List keys that the checkpoint lacks in the report instead of refusing it. Default: False.
        verify (bool): Refuse a file whose MD5 sum is none of those published for the format; the report names the file
            that it is. Default: False.

    Returns:
        tuple[dict[str, Tensor], ConversionReport]: Detached tensors on the CPU under our keys, and what became of
        every key. Tensors of an MXNet file are views of the file, which must not change while they are in use.

    Raises:
        ConversionError: If the format is unknown, the checkpoint cannot be read (see
            :func:`mmext.convert.read_checkpoint`), is of another architecture, has keys that are neither mapped nor
            known to be of no use, has a tensor of the wrong shape or parts of one that do not fit together, or of
            values that are no weights (see :mod:`mmext.convert.values`), has classes or a palette that are none, lacks
            keys and ``allow_missing`` is False, or is none of the published files and ``verify`` is True. The message
            names the keys.
        OSError: If there is no such file.

    Examples:
        >>> state_dict, report = convert('rednet26.pth', 'involution')
        >>> report.architecture['stem_kernel']
        3
    """
    if source not in SOURCES:
        close = difflib.get_close_matches(str(source), SOURCES, n=1, cutoff=0.3)
        hint = f'did you mean {close[0]!r}? ' if close else ''
        raise ConversionError(f'source={source!r} is unknown: {hint}choose one of {", ".join(SOURCES)}')
    module = import_module(SOURCES[source])
    verified = published_name(path_or_mapping, source, getattr(module, 'PUBLISHED_MD5', {})) if verify else ''
    content, name = getattr(module, 'load', load_content)(path_or_mapping)
    found = state_dict_of(content, name)
    try:
        runs = runs_of(content, source) if getattr(module, 'KEEPS_RUNS', False) else {}
        report, expected = module.plan(found, runs) if runs else module.plan(found)
        parts = _parts(report.mapped)
        # shapes first: before they are known to be right nothing may take memory
        shapes = _shapes(found, parts, expected, report)
        report.dataset_meta = dataset_meta(content)
        report.verified = verified
        report.missing = [key for key in expected if key not in shapes]
        _check_total(found, shapes, expected, report, allow_missing)
        state_dict = _values(found, parts, shapes, report)
    except ConversionError as error:
        raise ConversionError(f'{name}: {error}') from None
    if report.filled:  # then in the order of the network, as nothing says where filled ones stand
        state_dict = {key: state_dict[key] for key in expected if key in state_dict}
    return state_dict, report


def _parts(mapped):
    """Return {our key: keys of the checkpoint that are its parts}."""
    parts = {}
    for key, ours in mapped.items():
        parts.setdefault(ours, []).append(key)
    return parts


def _shapes(found, parts, expected, report):
    """Return {our key: what has the shape of its tensor} of what the conversion makes."""
    shapes = {}
    for ours, keys in parts.items():
        shape = list(found[keys[0]].shape)
        if len(keys) > 1:
            shape[:1] = [_joined_length(found, ours, keys)]
        network = expected[ours] if ours in report.reshaped else shape
        if len(shape) > len(network) and set(shape[len(network) :]) == {1}:
            del shape[len(network) :]
        shapes[ours] = shape
    shapes |= {key: list(expected[key]) for key in report.filled}
    return {key: SimpleNamespace(shape=tuple(shape)) for key, shape in shapes.items()}


def _joined_length(found, ours, keys):
    shapes = {key: list(found[key].shape) for key in keys}
    first = shapes[keys[0]]
    wrong = [f'{key} {shape}' for key, shape in shapes.items() if not shape or shape[1:] != first[1:]]
    if wrong:
        raise ConversionError(
            f'the parts of {ours} do not fit together: beside {keys[0]} {first}, all dimensions but the first must '
            f'be equal, not {name_keys(wrong)}; give an undamaged checkpoint'
        )
    return sum(shape[0] for shape in shapes.values())


def _values(found, parts, shapes, report):
    """Return {our key: tensor} of the shapes that have been checked."""
    state_dict = {}
    for ours, keys in parts.items():
        tensors = {key: found[key].detach().cpu().resolve_neg() for key in keys}
        check_values(tensors)
        value = torch.cat(list(tensors.values())) if len(keys) > 1 else tensors[keys[0]]
        state_dict[ours] = value.reshape(shapes[ours].shape) if ours in report.reshaped else value
    for key in report.filled:
        dtype = torch.int64 if key.endswith('.num_batches_tracked') else torch.float32
        state_dict[key] = torch.zeros(shapes[key].shape, dtype=dtype)
    return state_dict


def _check_total(found, shapes, expected, report, allow_missing):
    unknown = [key for key in found if key not in report.mapped and key not in report.dropped]
    faults = differences(shapes, expected, surplus=unknown, allow_missing=allow_missing)
    if faults:
        without = (
            '; --allow-missing (allow_missing=True) goes on without' if report.missing and not allow_missing else ''
        )
        raise ConversionError(
            f'{"; ".join(faults)}. Read as {report.source} with {report.settings}. Give the whole checkpoint, '
            f'as published or saved by the original code{without}'
        )
