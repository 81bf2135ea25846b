"""Involution in a few standard operators, for graphs that can hold nothing else: TorchScript's and ONNX's.

It unfolds the input, so it takes K * K times the memory of x. Sizes stay those of the tensors, so that a graph traced
at one size takes others.
"""

import torch
import torch.nn.functional as F

__all__ = ['involution_decomposed']


def involution_decomposed(x, weight, stride, padding, dilation):
    """Compute the output; shapes and meaning as in :func:`mmext.ops.involution`.

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
    channels, taps, dtype = int(x.shape[1]), kernel_size**2, x.dtype
    if dtype in (torch.float16, torch.bfloat16):
        x, weight = x.float(), weight.float()
    if torch.jit.is_tracing() and not torch.onnx.is_in_onnx_export():
        windows = F.unfold(x, kernel_size, dilation, padding, stride)
        height, width = weight.shape[4:]
    else:
        # by a convolution with one-hot kernels, which every runtime of ONNX files has; unfold few have
        one_hot = torch.eye(taps, dtype=x.dtype, device=x.device).view(taps, 1, kernel_size, kernel_size)
        windows = F.conv2d(x.reshape(-1, 1, *x.shape[2:]), one_hot, None, stride, padding, dilation)
        # the exporter from TorchScript takes the sizes of weight, which has been reshaped, for constants
        height, width = (windows if torch.jit.is_tracing() else weight).shape[-2:]
    windows = windows.reshape(-1, groups, channels // groups, taps, height, width)
    weights = weight.reshape(-1, groups, 1, taps, height, width)
    return (windows * weights).sum(3).reshape(-1, channels, height, width).to(dtype)
