"""The classes and the palette that a checkpoint says it was trained with."""

import reprlib
from collections.abc import Mapping
from numbers import Integral

import numpy as np

from .report import ConversionError

__all__ = ['checked_meta']

CURE = "correct it, or leave 'meta' out: torch.save({'state_dict': checkpoint['state_dict']}, path)"


def checked_meta(meta):
    """Return classes and palette of a checkpoint's ``meta``, plain Python data.

    Args:
        meta (object): What the checkpoint has as 'meta', of mmcv 1.x (CLASSES, PALETTE) or mmengine (dataset_meta).

    Returns:
        dict: 'classes', a list or tuple of names, and 'palette', a list or tuple of colours (three numbers of 0 to 255
        each), one such colour, or the name of a palette; as far as they are there.

    Raises:
        ConversionError: If there is something else in their place; the message says what.
    """
    if not isinstance(meta, Mapping):
        raise _error('its meta', meta, 'a mapping')
    new = meta.get('dataset_meta')
    if new is None:
        new = {}
    if not isinstance(new, Mapping):
        raise _error("its meta's dataset_meta", new, 'a mapping')
    found = {}
    for key, check in (('classes', _classes), ('palette', _palette)):
        value = new.get(key, meta.get(key.upper()))
        if value is not None:
            found[key] = check(value)
    return found


def _classes(classes):
    if not isinstance(classes, (list, tuple)) or not all(isinstance(name, str) for name in classes):
        raise _error('the classes in its meta', classes, 'a list or tuple of names')
    return tuple(classes) if isinstance(classes, tuple) else list(classes)


def _palette(palette):
    if isinstance(palette, str):
        return palette
    if isinstance(palette, np.ndarray) and palette.ndim:
        palette = palette.tolist()  # of mmseg 0.x, which draws colours by numpy where none are given
    one = _colour(palette)
    if one is not None:
        return one
    colours = [_colour(colour) for colour in palette] if isinstance(palette, (list, tuple)) else [None]
    if None in colours:
        raise _error('the palette in its meta', palette, 'a list or tuple of colours, three numbers of 0 to 255 each')
    return tuple(colours) if isinstance(palette, tuple) else colours


def _colour(colour):
    if isinstance(colour, np.ndarray) and colour.ndim:
        colour = colour.tolist()
    if not isinstance(colour, (list, tuple)) or len(colour) != 3:
        return None
    if not all(isinstance(value, Integral) and not isinstance(value, bool) and 0 <= value <= 255 for value in colour):
        return None
    return tuple(map(int, colour)) if isinstance(colour, tuple) else list(map(int, colour))


def _error(what, value, needed):
    return ConversionError(f'{what} is a {type(value).__name__} ({_brief(value)}) where {needed} is needed; {CURE}')


def _brief(value):
    """Describe a value in a few characters; tensors and other foreign things may have a repr of any length."""
    return reprlib.repr(value) if isinstance(value, (str, int, float, list, tuple)) else 'not shown'
