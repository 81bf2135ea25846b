"""A convolution, ReLU and largest values for inference, a few frames at a time."""

import torch
import torch.nn.functional as F
from torch.nn.modules.utils import _triple

from . import one_dnn
from .conv3d import InflatedConv3d
from .memory import empty_frames

__all__ = ['pooled_in_parts']

FRAMES = 2
ALONG_TIME = (1, 1, 0), (3, 2, 1)  # kernel, stride and padding of the pooling


def pooled_in_parts(x, conv, pool):
    """Convolve a clip, cut off what is below zero and take the largest values, without gradients.

    The convolution's result, the largest tensor of a network, is never whole.

    Args:
        x (Tensor): [N, C, T, H, W].
        conv (nn.Module): The convolution.
        pool (nn.MaxPool3d): The pooling.

    Returns:
        Tensor or None: ``pool(relu(conv(x)))``; None for settings other than those of ResNet's and DenseNet's stems,
        and where oneDNN does not run.
    """
    settings = [_triple(value) for value in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)]
    (kernel, *kernel_2d), (stride, *stride_2d), (padding, *padding_2d), dilation = settings
    reach = conv.padding[0] if isinstance(conv, InflatedConv3d) else None
    if (
        reach is None
        or (conv.kernel_size[0], conv.stride[0], conv.dilation[0]) != (2 * reach + 1, 1, 1)
        or conv.temporal_padding_mode != 'zeros'
        or (kernel, stride, padding) not in ALONG_TIME
        or set(dilation) != {1}
        or pool.ceil_mode
        or pool.return_indices
        or not one_dnn.runs_here(x, conv.weight)
    ):
        return None
    frames = x.movedim(1, -1)
    if reach:
        zeros = torch.zeros_like(frames[:, :1]).expand(-1, reach, -1, -1, -1)
        frames = torch.cat((zeros, frames, zeros), 1)
    found = None
    for sample, clip in enumerate(frames):
        for start in range(0, x.shape[2], FRAMES):
            part = clip[None, start : min(start + FRAMES, x.shape[2]) + 2 * reach].movedim(-1, 1)
            out = one_dnn.infer(part, conv, (0, *conv.padding[1:]), True)[0].transpose(0, 1)
            out = F.max_pool2d(out, kernel_2d, stride_2d, padding_2d).permute(0, 2, 3, 1)
            if found is None:
                found = empty_frames(x, len(x), x.shape[2], *out.shape[1:])
            found[sample, start : start + FRAMES] = out
    return (found if kernel == 1 else _largest_in_time(found)).movedim(-1, 1)


def _largest_in_time(frames):
    """Return the largest value of every second frame and its neighbours: [N, T, ...] -> [N, (T + 1) // 2, ...]."""
    even, odd = frames[:, ::2].contiguous(), frames[:, 1::2]
    before, behind = odd[:, : even.shape[1] - 1], even[:, : odd.shape[1]]
    torch.maximum(behind, odd, out=behind)
    torch.maximum(even[:, 1:], before, out=even[:, 1:])
    return even
