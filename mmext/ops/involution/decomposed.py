"""Involution in a few standard operators, for graphs that can hold nothing else, such as ONNX's.

It unfolds the input, so it takes K * K times the memory of x. Nothing here computes with it.
"""

import torch
import torch.nn.functional as F

__all__ = ['involution_decomposed']


def involution_decomposed(x, weight, stride, padding, dilation):
    """Compute the output; shapes and meaning as in :func:`mmext.ops.involution`.

    The windows come from a convolution with one-hot kernels, which every runtime has; ``unfold`` few have.

    Args:
        x (Tensor): [N, C, H, W].
        weight (Tensor): [N, G, K, K, Ho, Wo].
        stride (int): Step in pixels.
        padding (int): Zeros around ``x`` in pixels.
        dilation (int): Distance of taps in pixels.

    Returns:
        Tensor: [N, C, Ho, Wo].
    """
    groups, kernel_size = map(int, weight.shape[1:3])  # constants of the graph also where sizes are traced
    taps = kernel_size**2
    one_hot = torch.eye(taps, dtype=x.dtype, device=x.device).view(taps, 1, kernel_size, kernel_size)
    windows = F.conv2d(x.reshape(-1, 1, *x.shape[2:]), one_hot, None, stride, padding, dilation)
    windows = windows.view(-1, groups, x.shape[1] // groups, taps, *weight.shape[4:])
    return (windows * weight.flatten(2, 3).unsqueeze(2)).sum(3).flatten(1, 2)
