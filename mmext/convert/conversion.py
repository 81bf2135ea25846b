"""The table of formats, and what holds for all of them: a conversion is total or it is an error."""

import difflib
from importlib import import_module

from .comparison import differences
from .reading import dataset_meta, load_content, state_dict_of
from .report import ConversionError

__all__ = ['SOURCES', 'convert']

# Name of a format -> the module that knows it. Such a module has a function ``plan(state_dict)`` that returns a
# report, all but its missing keys, and the keys and shapes of the network that the checkpoint describes.
SOURCES = {'involution': 'mmext.convert.involution'}


def convert(path_or_mapping, source, allow_missing=False):
    """Convert a checkpoint of an original project into a state dict of this package's networks.

    Source of the formats: the projects themselves; for ``'involution'`` see :mod:`mmext.convert.involution`.

    Args:
        path_or_mapping (str, Path or Mapping): See :func:`mmext.convert.read_checkpoint`.
        source (str): Name of the format, a key of :data:`mmext.convert.SOURCES`.
        allow_missing (bool): List keys that the checkpoint lacks in the report instead of refusing it. Default: False.

    Returns:
        tuple[dict[str, Tensor], ConversionReport]: Detached tensors on the CPU under our keys, and what became of
        every key.

    Raises:
        ConversionError: If the format is unknown, the checkpoint cannot be read (see
            :func:`mmext.convert.read_checkpoint`), is of another architecture, has keys that are neither mapped nor
            known to be of no use, has a tensor of the wrong shape, or lacks keys and ``allow_missing`` is False. The
            message names the keys.
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
    content, name = load_content(path_or_mapping)
    found = state_dict_of(content, name)
    try:
        report, expected = import_module(SOURCES[source]).plan(found)
        state_dict = {ours: found[key].detach().cpu() for key, ours in report.mapped.items()}
        report.dataset_meta = dataset_meta(content)
        report.missing = [key for key in expected if key not in state_dict]
        _check_total(found, state_dict, expected, report, allow_missing)
    except ConversionError as error:
        raise ConversionError(f'{name}: {error}') from None
    return state_dict, report


def _check_total(found, state_dict, expected, report, allow_missing):
    unknown = [key for key in found if key not in report.mapped and key not in report.dropped]
    faults = differences(state_dict, expected, surplus=unknown, allow_missing=allow_missing)
    if faults:
        settings = ', '.join(f'{key}={value!r}' for key, value in report.architecture.items())
        without = (
            '; --allow-missing (allow_missing=True) goes on without' if report.missing and not allow_missing else ''
        )
        raise ConversionError(
            f'{"; ".join(faults)}. Read as {report.source} with {settings}. Give the whole checkpoint, as published or '
            f'saved by the original code{without}'
        )
