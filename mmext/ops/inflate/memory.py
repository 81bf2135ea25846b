"""Memory for large tensors on the CPU."""

import math

import numpy as np
import torch

__all__ = ['empty_frames']

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
