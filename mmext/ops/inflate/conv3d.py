"""The 3D convolution of inflated networks."""

import torch
import torch.nn.functional as F
from torch import nn

from .layouts import in_layout_of, is_channels_last

__all__ = ['InflatedConv3d']

PADDING_MODES = ('zeros', 'replicate')


class InflatedConv3d(nn.Conv3d):
    """``nn.Conv3d`` with a padding mode of its own along time.

    Results are those of ``nn.Conv3d`` but for rounding, keys are the same, and a clip in ``torch.channels_last_3d``
    gives one in that layout. On the CPU, kernels that see one frame run as 2D convolutions of all frames.

    Args:
        *args: Those of ``nn.Conv3d``.
        temporal_padding_mode (str): What stands before the first and behind the last frame: 'zeros', or 'replicate' for
            these frames again. Default: 'zeros'.
        **kwargs: Those of ``nn.Conv3d``. ``padding_mode`` is that of the image, 'zeros' only.

    Shapes:
        [N, in_channels, T, H, W] -> [N, out_channels, T', H', W'], as ``nn.Conv3d``.

    Raises:
        ValueError: If ``temporal_padding_mode`` or ``padding_mode`` is another one, ``padding`` is a string, or, when
            it runs, the input has other than 5 dimensions.
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

    def _conv_forward(self, input, weight, bias):  # of nn.Conv3d, so that what is put in its place is called here, too
        if self.padding_mode != 'zeros' or isinstance(self.padding, str):  # set later
            if self.temporal_padding_mode != 'zeros':
                raise ValueError(
                    f'padding_mode={self.padding_mode!r}, padding={self.padding!r} is not possible with '
                    f'temporal_padding_mode={self.temporal_padding_mode!r}; set that to "zeros" first'
                )
            return super()._conv_forward(input, weight, bias)
        settings = [
            (value,) * 3 if isinstance(value, int) else tuple(value)
            for value in (self.stride, self.padding, self.dilation)
        ]
        return convolve(input, weight, bias, *settings, self.groups, self.temporal_padding_mode)


@torch.fx.wrap  # the form depends on the clip, which torch.fx does not know while it traces
def convolve(x, weight, bias, stride, padding, dilation, groups, temporal_padding_mode):
    """Convolve a clip [N, C, T, H, W] as :class:`InflatedConv3d` says."""
    if x.ndim != 5:
        raise ValueError(f'a clip has the shape [N, C, T, H, W], but x has {list(x.shape)}')
    if padding[0] and temporal_padding_mode == 'replicate':
        x, padding = _with_repeated_ends(x, padding[0]), (0, *padding[1:])
    taps = weight.shape[2]
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # those programs take clips of any length
    single = not traced and x.shape[2] == 1 and x.device.type == 'cpu'
    if single and taps % 2 and 2 * padding[0] == dilation[0] * (taps - 1):  # the outer taps see nothing but zeros
        weight, taps, padding, stride = weight[:, :, taps // 2, None], 1, (0, *padding[1:]), (1, *stride[1:])
    if _in_low_precision(x) and _overlaps(x, weight, padding, dilation):
        x, padding = F.pad(x, [count for count in reversed(padding) for _ in range(2)]), (0, 0, 0)
    if not traced and taps == 1 and not padding[0] and (single or is_channels_last(x)):
        return _frame_by_frame(x, weight[:, :, 0], bias, stride, padding[1:], dilation[1:], groups)
    length = x.shape[2] + 2 * padding[0] - dilation[0] * (taps - 1)
    small = not traced and _is_small(x) and length > 0
    if small and stride[0] == groups == 1 < taps and max(weight.shape[3:]) <= 3:
        x = _with_frames_stacked(x, taps, length, padding[0], dilation[0])
        weight = weight.transpose(1, 2).flatten(1, 2)
        return _frame_by_frame(x, weight, bias, stride, padding[1:], dilation[1:], groups)
    return in_layout_of(F.conv3d(x, weight, bias, stride, padding, dilation, groups), x)


def _frame_by_frame(x, weight, bias, stride, padding, dilation, groups):
    """Convolve every frame as an image, which the CPU does faster than 3D convolutions of one tap."""
    x = x[:, :, :: stride[0]] if stride[0] > 1 else x
    images = x.transpose(1, 2).flatten(0, 1)
    out = F.conv2d(images, weight, bias, stride[1:], padding, dilation, groups)
    return in_layout_of(out.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2), x)


def _is_small(x):
    """Say whether PyTorch calculates 3D convolutions of a clip without oneDNN, up to four times as slowly."""
    n, channels, frames, height, _ = x.shape
    return n == 1 and channels * frames * height <= 20480 and x.device.type == 'cpu' and is_channels_last(x)


def _with_frames_stacked(x, taps, length, padding, dilation):
    """Put the frames that the taps of a kernel see side by side: [N, C, T, H, W] -> [N, taps * C, T', H, W]."""
    x = F.pad(x, (0, 0, 0, 0, padding, padding)) if padding else x
    return torch.cat([x.narrow(2, tap * dilation, length) for tap in range(taps)], 1)


def _overlaps(x, weight, padding, dilation):
    """Say whether the kernel, at some place, covers the padding on both sides of the clip."""
    extents = (step * (size - 1) for step, size in zip(dilation, weight.shape[2:]))
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
    # not expanded, which would give torch.cat no layout to keep
    return torch.cat([x[:, :, :1]] * count + [x] + [x[:, :, -1:]] * count, 2)
