"""The 3D convolution of inflated networks, in the form that fits its kernel."""

import torch
import torch.nn.functional as F
from torch import nn

from . import one_dnn

__all__ = ['InflatedConv3d']

PADDING_MODES = ('zeros', 'replicate')


class InflatedConv3d(nn.Conv3d):
    """``nn.Conv3d`` with a padding of its own along time, which runs in the form that fits.

    On the CPU, for clips in ``torch.channels_last_3d``, that is oneDNN's, whatever the clip's size. Results are those
    of ``nn.Conv3d`` but for rounding, keys are the same.

    Args:
        *args: Those of ``nn.Conv3d``.
        temporal_padding_mode (str): What stands before the first and behind the last frame: 'zeros', or 'replicate' for
            these frames again. Default: 'zeros'.
        **kwargs: Those of ``nn.Conv3d``. ``padding_mode`` is that of the picture, 'zeros' only.

    Shapes:
        [N, in_channels, T, H, W] -> [N, out_channels, T', H', W'], as ``nn.Conv3d``.

    Raises:
        ValueError: If ``temporal_padding_mode`` or ``padding_mode`` is another one, or ``padding`` is a string.
    """

    def __init__(self, *args, temporal_padding_mode='zeros', **kwargs):
        super().__init__(*args, **kwargs)
        if temporal_padding_mode not in PADDING_MODES:
            raise ValueError(
                f'temporal_padding_mode={temporal_padding_mode!r} is unknown; choose one of '
                f'{", ".join(map(repr, PADDING_MODES))}'
            )
        if self.padding_mode != 'zeros' or isinstance(self.padding, str):
            raise ValueError(
                f'padding_mode={self.padding_mode!r}, padding={self.padding!r}: only padding_mode="zeros" and numbers '
                'of pixels are possible'
            )
        self.temporal_padding_mode = temporal_padding_mode

    def extra_repr(self):
        """Return the settings for ``print(model)``."""
        mode = self.temporal_padding_mode
        return super().extra_repr() + (f', temporal_padding_mode={mode!r}' if mode != 'zeros' else '')

    def forward(self, x):
        """Convolve a clip.

        Args:
            x (Tensor): [N, in_channels, T, H, W].

        Returns:
            Tensor: [N, out_channels, T', H', W'], in ``torch.channels_last_3d`` where ``x`` is.
        """
        x, padding = self._padded(x)
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        single = (
            x.device.type == 'cpu'
            and not traced  # traced networks take clips of any length
            and x.shape[2] == 1
            and 2 * padding[0] == self.dilation[0] * (self.kernel_size[0] - 1)
        )
        padding = (0, *padding[1:]) if single else padding
        if _in_low_precision(x) and self._overlaps(x, padding):
            x, padding = F.pad(x, [count for count in reversed(padding) for _ in range(2)]), (0, 0, 0)
        if single:
            return self._of_one_frame(x, padding)
        if one_dnn.runs_here(x, self.weight):
            return (one_dnn.convolve if torch.is_grad_enabled() else one_dnn.infer)(x, self, padding)
        return self._convolve(x, padding)

    def activated(self, x, other=None):
        """Convolve a clip, add another one, and cut off what is below zero.

        Args:
            x (Tensor): [N, in_channels, T, H, W].
            other (Tensor, optional): [N, out_channels, T', H', W']. Default: None, nothing is added.

        Returns:
            Tensor: ``relu(self(x) + other)``; on the CPU without gradients in one pass over the result.
        """
        if not torch.is_grad_enabled():
            padded, padding = self._padded(x)
            if one_dnn.runs_here(padded, self.weight):
                return one_dnn.infer(padded, self, padding, True, other)
        out = self(x)
        return (out if other is None else out + other).relu_()

    def _padded(self, x):
        """Return the clip with frames repeated where ``temporal_padding_mode`` says so, and the padding left to do."""
        if x.ndim != 5:
            raise ValueError(f'a clip has the shape [N, C, T, H, W], but x has {list(x.shape)}')
        if self.padding[0] and self.temporal_padding_mode == 'replicate':
            return _with_repeated_ends(x, self.padding[0]), (0, *self.padding[1:])
        return x, self.padding

    def _convolve(self, x, padding):
        return F.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _of_one_frame(self, x, padding):
        """Convolve a clip of one frame, of which the outer taps meet nothing but zeros, as a picture."""
        out = F.conv2d(
            *(x.squeeze(2), self.weight[:, :, self.kernel_size[0] // 2], self.bias),
            *(self.stride[1:], padding[1:], self.dilation[1:], self.groups),
        )
        return out.unsqueeze(2)

    def _overlaps(self, x, padding):
        """Say whether the kernel, at some place, covers the padding on both sides of the clip."""
        extents = (step * (size - 1) for step, size in zip(self.dilation, self.kernel_size))
        return any(count and length <= extent for count, length, extent in zip(padding, x.shape[2:], extents))


def _in_low_precision(x):
    """Say whether oneDNN calculates in bfloat16 or float16.

    Where a kernel covers the padding on both sides, its gradient of the weight is then wrong: it takes memory that was
    never written, and writes beyond its own (torch 2.14, seen with AVX-512).
    """
    if x.device.type != 'cpu':
        return False
    dtype = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype
    return dtype in (torch.bfloat16, torch.float16)


def _with_repeated_ends(x, count):
    """Put the first frame ``count`` times before a clip and the last behind it; its layout stays."""
    if not x.is_contiguous(memory_format=torch.channels_last_3d):
        return F.pad(x, (0, 0, 0, 0, count, count), mode='replicate')
    frames = x.movedim(1, -1)  # they lie one after another, and are joined as they are
    first, last = (frames[:, place].expand(-1, count, -1, -1, -1) for place in (slice(1), slice(-1, None)))
    return torch.cat((first, frames, last), 1).movedim(-1, 1)
