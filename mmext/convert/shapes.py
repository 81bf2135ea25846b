"""Reading of settings off the shapes of a checkpoint's tensors, and the keys of the usual layers."""

from .report import ConversionError

__all__ = ['Shapes', 'conv', 'conv_norm', 'involution', 'norm', 'under']


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
            ConversionError: If the checkpoint lacks the tensor, or it has no such dimension.
        """
        shape = self.shapes.get(key)
        if shape is None or len(shape) <= dim:
            what = 'is missing' if shape is None else f'has shape {list(shape)}'
            raise ConversionError(
                f'{self.prefix}{key} {what}, and the architecture cannot be told without it; give the whole checkpoint'
            )
        return shape[dim]

    def count(self, name):
        """Return the length of a module list: its highest index and one, so that a gap shows as missing keys."""
        indices = [key[len(name) + 1 :].partition('.')[0] for key in self.shapes if key.startswith(f'{name}.')]
        return max((int(index) + 1 for index in indices if index.isdecimal()), default=0)


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
