"""Memory of clips on the CPU: how it is got, and worked through part by part."""

import math

import numpy as np
import torch

__all__ = ['empty_frames', 'parts_of', 'pixels_of']

ALIGNMENT = 64  # bytes, of PyTorch's own tensors and of the processor's cache


def empty_frames(x, *shape):
    """Return an uninitialised tensor with the dtype of ``x``, for frames on the CPU.

    A tensor of clips is larger than what an allocator keeps, so that it is made of new pages each time, and making them
    takes longer than filling them. NumPy asks Linux for huge pages, which are made several times faster.

    Args:
        x (Tensor): On the CPU, of a dtype that NumPy has.
        *shape (int): The shape.

    Returns:
        Tensor: Contiguous, [*shape].
    """
    count = math.prod(shape)
    memory = np.empty(count * x.element_size() + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return torch.from_numpy(memory[start : start + count * x.element_size()]).view(x.dtype).view(shape)


def pixels_of(x):
    """Return a clip [N, C, T, H, W] in ``torch.channels_last_3d`` as [pixels, C], in the same memory."""
    return x.movedim(1, -1).flatten(0, -2)


def parts_of(pixels, elements):
    """Return slices of pixels [pixels, C], each of about so many elements and at least one pixel."""
    step = max(1, elements // pixels.shape[1])
    return [slice(start, min(start + step, len(pixels))) for start in range(0, len(pixels), step)]
