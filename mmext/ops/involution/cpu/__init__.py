"""Involution on the CPU, compiled by numba; each memory format has kernels of its own."""

import torch

from . import pixels, rows
from .rows import involution_backward

__all__ = ['involution_backward', 'involution_forward']


def involution_forward(x, weight, stride, padding, dilation):
    """Compute the output, in the memory format of ``x``.

    Args:
        x (Tensor): [N, C, H, W] on the CPU; so is ``weight``.
        weight (Tensor): [N, G, K, K, Ho, Wo].
        stride (int): Step in pixels.
        padding (int): Zeros around ``x`` in pixels.
        dilation (int): Distance of taps in pixels.

    Returns:
        Tensor: [N, C, Ho, Wo].
    """
    by_pixel = x.is_contiguous(memory_format=torch.channels_last) and pixels.pixel_major(weight).is_contiguous()
    kernels = pixels if by_pixel and not x.is_contiguous() else rows
    return kernels.involution_forward(x, weight, stride, padding, dilation)
