"""What the formats of Wider-ResNet checkpoints share: the backbone's keys and width, counters that are not saved."""

import re
from collections import Counter

import torch

from .report import ConversionError, name_keys
from .shapes import legal_size

__all__ = ['PREFIX', 'Backbone', 'count_batches', 'refuse_others', 'saved_here']

PREFIX = 'backbone.'
COUNTER = '.num_batches_tracked'
OURS = (PREFIX, 'head.', 'decode_head.')
FIRST_LEVEL = 'backbone.level2.'
ARCHES = 'A, A1 or A2'  # three networks with the same tensors


def saved_here(state_dict):
    """Return whether a state dict has this package's keys of a Wider-ResNet, as a converted file has."""
    return all(key.startswith(OURS) for key in state_dict) and any(key.startswith(FIRST_LEVEL) for key in state_dict)


class Backbone:
    """The backbone that a checkpoint describes.

    Args:
        state_dict (Mapping[str, Tensor]): The checkpoint.
        rename (Callable[[str], str], optional): Our key without ``backbone.`` -> the checkpoint's, None if it has
            none. Default: None, it has our keys.

    Attributes:
        names (dict[str, str]): Key of the checkpoint -> our key, of every tensor that the published backbone has.
        settings (dict): What can be told of the network.
        keys (dict[str, tuple]): Our key -> shape, all that the network has.
        channels (int): Of its last level.

    Raises:
        ConversionError: If a tensor has a dimension that no network's has.
    """

    def __init__(self, state_dict, rename=None):
        published = _keys()
        rename = rename or (PREFIX + '{}').format
        theirs = {key: rename(key) for key in published if rename(key)}
        self.names = {name: PREFIX + key for key, name in theirs.items()}
        found = {key: tuple(state_dict[name].shape) for key, name in theirs.items() if name in state_dict}
        for key, shape in found.items():
            for dim in range(min(len(shape), 2)):
                legal_size(theirs[key], shape, dim)
        width = _width(found, published)
        stem = found.get('conv1.weight', ())
        in_channels = stem[1] if len(stem) > 1 and stem[1] else 3
        self.settings = dict(arch=ARCHES, width=width, in_channels=in_channels)
        keys = _keys(width=width, in_channels=in_channels)
        self.channels = keys['bn7.weight'][0]
        self.keys = {PREFIX + key: shape for key, shape in keys.items()}


def _keys(**settings):
    from mmext.models import WiderResNet

    with torch.device('meta'):
        backbone = WiderResNet('A1', **settings)
    return {key: tuple(value.shape) for key, value in backbone.state_dict().items()}


def _width(found, published):
    """Return the factor on the published channels that most of the tensors have; a rounded one has few digits."""
    votes = {}
    for key, shape in found.items():
        if shape and shape[0] and published[key]:
            votes.setdefault(published[key][0], Counter())[shape[0]] += 1
    modes = {channels: counter.most_common(1)[0][0] for channels, counter in votes.items()}
    exact = {count / channels for channels, count in modes.items()} or {1.0}
    if len(exact) == 1:
        return exact.pop()
    low, high = 0.0, float('inf')
    for channels, count in sorted(modes.items(), reverse=True):  # the largest number is the most exact
        least = (count - 0.5) / channels if count > 1 else 0.0
        most = (count + 0.5) / channels
        if max(low, least) < min(high, most):
            low, high = max(low, least), min(high, most)
    middle = (low + high) / 2
    return next((short for digits in range(17) if low < (short := round(middle, digits)) < high), middle)


def count_batches(report, expected, reason):
    """Note in a report that the counters of the norms, as far as the checkpoint lacks them, become zero."""
    there = set(report.mapped.values())
    report.filled |= {key: reason for key in expected if key.endswith(COUNTER) and key not in there}


def refuse_others(state_dict, known, project, sample, looks_like):
    """Refuse a checkpoint of another architecture or format.

    Args:
        state_dict (Mapping[str, Tensor]): The checkpoint.
        known (Container[str]): Keys that a checkpoint of this format may have.
        project (str): Where the format comes from.
        sample (str): A key that each of its checkpoints has.
        looks_like (Sequence[tuple[str, str]]): Pattern of a key of another format, and what to say then.

    Raises:
        ConversionError: If it has none of the keys known.
    """
    if any(key in known for key in state_dict):
        return
    hints = (text for pattern, text in looks_like if any(re.fullmatch(pattern, key) for key in state_dict))
    raise ConversionError(
        f'this is no checkpoint of the {project} project: it has {name_keys(state_dict)}, where a Wider-ResNet has '
        f'{sample}; {next(hints, "give a Wider-ResNet checkpoint, or the source that fits")}'
    )
