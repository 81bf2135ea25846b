"""Reading of settings off the shapes of a checkpoint's tensors, and the keys of the usual layers."""

import re

from .report import ConversionError, name_keys

__all__ = ['MAX_SIZE', 'Shapes', 'conv', 'conv_norm', 'involution', 'legal_size', 'norm', 'under']

INDEX = re.compile(r'0|[1-9][0-9]{0,17}')
MAX_SIZE = 2**20  # of one dimension: more than channels and classes of any network, and no product overflows


class Shapes:
    """The shapes of a state dict below a prefix.

    Args:
        state_dict (Mapping[str, Tensor]): The whole state dict.
        prefix (str): What the keys start with, such as ``'neck.'``.
    """

    def __init__(self, state_dict, prefix):
        self.prefix = prefix
        self.shapes = {key[len(prefix) :]: tuple(v.shape) for key, v in state_dict.items() if key.startswith(prefix)}

    def has(self, start):
        """Return whether any key starts like this, for example with the name of a layer and a dot."""
        return any(key.startswith(start) for key in self.shapes)

    def size(self, key, dim):
        """Return one dimension of a tensor that a setting is read off.

        Raises:
            ConversionError: If the checkpoint lacks the tensor, it has no such dimension, or that is no size of a
                network's.
        """
        shape = self.shapes.get(key)
        if shape is None or len(shape) <= dim:
            what = 'is missing' if shape is None else f'has shape {list(shape)}'
            raise ConversionError(
                f'{self.prefix}{key} {what}, and the architecture cannot be told without it; give the whole checkpoint'
            )
        return legal_size(f'{self.prefix}{key}', shape, dim)

    def count(self, name):
        """Return the length of a module list: its highest index and one, so that a gap shows as missing keys.

        Raises:
            ConversionError: If the list is said to be longer than the keys in it.
        """
        found = (key[len(name) + 1 :].partition('.')[0] for key in self.shapes if key.startswith(f'{name}.'))
        length = max((int(index) + 1 for index in found if INDEX.fullmatch(index)), default=0)
        self.check_length(name, length)
        return length

    def check_length(self, name, length):
        """Refuse a list that is longer than the number of keys in it, as every element has one key or more.

        Whatever is built for a list then takes no more time and memory than what the checkpoint holds of it.

        Args:
            name (str): Of the list.
            length (int): Its length, or the number of modules that it must have.

        Raises:
            ConversionError: If there are fewer keys.
        """
        keys = [f'{self.prefix}{key}' for key in self.shapes if key.startswith(f'{name}.')]
        if length > len(keys):
            raise ConversionError(
                f'{self.prefix}{name} is a list of {length} modules, of which the checkpoint has no more than '
                f'{name_keys(keys)}; give the whole checkpoint'
            )


def legal_size(key, shape, dim):
    """Return one dimension of a tensor's shape.

    Args:
        key (str): Name of the tensor for messages.
        shape (Sequence[int]): Its shape.
        dim (int): Which dimension.

    Returns:
        int: The dimension, up to :data:`MAX_SIZE`.

    Raises:
        ConversionError: If it is larger.
    """
    if shape[dim] > MAX_SIZE:
        raise ConversionError(
            f'{key} has shape {list(shape)}, and no network has a dimension above {MAX_SIZE}; give an undamaged '
            'checkpoint'
        )
    return shape[dim]


def under(prefix, keys):
    """Return {key: shape} with a name and a dot before every key."""
    return {f'{prefix}.{key}': shape for key, shape in keys.items()}


def conv(out, into, size=1):
    """Return the keys of a convolution with a bias; with ``size=None`` those of a linear layer."""
    return {'weight': (out, into) if size is None else (out, into, size, size), 'bias': (out,)}


def norm(channels):
    """Return the keys of a BatchNorm, synchronised or not."""
    vectors = ('weight', 'bias', 'running_mean', 'running_var')
    return {**dict.fromkeys(vectors, (channels,)), 'num_batches_tracked': ()}


def conv_norm(out, into, size=1):
    """Return the keys of a convolution without bias and its BatchNorm."""
    return {'conv.weight': (out, into, size, size), **under('bn', norm(out))}


def involution(channels, kernel_size=7, group_channels=16, reduction_ratio=4):
    """Return the keys of an involution."""
    hidden = channels // reduction_ratio
    maps = channels // group_channels * kernel_size**2
    return {**under('conv1', conv_norm(hidden, channels)), **under('conv2.conv', conv(maps, hidden))}
