"""The convolutions of a model that a search is about, and their places in its config."""

import fnmatch

from mmcv.cnn.bricks.wrappers import Conv2d
from torch import nn

__all__ = ['by_part', 'candidates', 'select']

SHOWN = 12
PLAIN = nn.Conv2d, Conv2d  # the latter for empty batches in PyTorch 1.4
STEMS = 'stem', 'downsample', 'shortcut'


def candidates(model):
    """List the convolutions that can be searched.

    Args:
        model (nn.Module): A whole model of a toolbox.

    Returns:
        dict[str, nn.Conv2d]: Name -> ordinary 2D convolution with a square kernel of odd size of at least 3, stride 1
        or 2, padded so that stride 1 keeps the size; in the order in which the model holds them.
    """
    return {name: module for name, module in model.named_modules() if type(module) in PLAIN and _fits(module)}


def _fits(conv):
    size, *other = conv.kernel_size
    if [size] != other or size < 3 or size % 2 == 0 or isinstance(conv.padding, str) or conv.padding_mode != 'zeros':
        return False
    same = all(pad == step * (size - 1) // 2 for pad, step in zip(conv.padding, conv.dilation))
    return same and conv.stride in ((1, 1), (2, 2)) and conv.dilation[0] == conv.dilation[1]


def select(model, include=(), exclude=()):
    """Select the convolutions to search.

    Args:
        model (nn.Module): A whole model of a toolbox.
        include (Sequence[str]): Shell-style patterns of names, such as ``'backbone.layer[34].*'``. Default: (), those
            in the blocks of ``backbone``, as published: not the stem, not shortcuts.
        exclude (Sequence[str]): Patterns of names to leave out. Default: ().

    Returns:
        list[str]: Names in the order in which the model holds them.

    Raises:
        ValueError: If there is none; the message lists candidates.
    """
    known = candidates(model)
    if include:
        names = [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in include)]
    else:
        names = [name for name in known if _in_block(name)]
    names = [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)]
    if not names:
        listed = ', '.join(list(known)[:SHOWN]) + f' and {len(known) - SHOWN} more' * (len(known) > SHOWN)
        asked = (
            f'include={list(include)}, exclude={list(exclude)}' if include or exclude else 'the blocks of `backbone`'
        )
        raise ValueError(
            f'no convolution of {type(model).__name__} matches {asked}; '
            + (f'candidates are {listed}' if known else 'it has no square convolution of odd size that keeps the size')
        )
    return names


def _in_block(name):
    part, *inner = name.split('.')
    # a stage holds blocks by number: layer1.0.conv2, encoder.0.0.convs.0.conv
    return part == 'backbone' and any(map(str.isdigit, inner)) and not set(inner) & set(STEMS)


def by_part(names):
    """Sort names by the part of the model, such as ``backbone``, that a config names.

    Args:
        names (Sequence[str]): Names in the model.

    Returns:
        dict[str, list[str]]: Part -> names within it.

    Raises:
        ValueError: If one is not within a part.
    """
    found = {}
    for name in names:
        part, _, inner = name.partition('.')
        if not inner:
            raise ValueError(f'{name} is no part of a backbone, neck or head; exclude it: --exclude {name}')
        found.setdefault(part, []).append(inner)
    return found
