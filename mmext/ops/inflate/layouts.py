"""The layout of clips in memory.

The questions are asked of strides, not of memory formats, which functional transforms (``torch.func.vmap``) refuse.
"""

import torch

__all__ = ['in_layout_of', 'is_channels_last', 'to_channels_last']


def is_channels_last(x):
    """Return whether the channels of a clip lie side by side, as in ``torch.channels_last_3d``.

    Args:
        x (Tensor): [N, C, T, H, W].

    Returns:
        bool: True also where a single value stands for each channel, which is so in every layout.
    """
    return x.stride(1) == 1


def to_channels_last(x):
    """Return a clip in ``torch.channels_last_3d``.

    Args:
        x (Tensor): [N, C, T, H, W].

    Returns:
        Tensor: The same values.
    """
    return x.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)


@torch.fx.wrap  # strides are not known while torch.fx traces
def in_layout_of(out, x):
    """Return the result of a layer in the layout of its input.

    Some of PyTorch's layers hand on their result in the usual layout whatever that of the input is, which slows down
    all that follows.

    Args:
        out (Tensor): [N, C', T', H', W'].
        x (Tensor): [N, C, T, H, W].

    Returns:
        Tensor: ``out``, in ``torch.channels_last_3d`` where ``x`` is.
    """
    return to_channels_last(out) if is_channels_last(x) else out
