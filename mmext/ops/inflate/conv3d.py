"""The 3D convolution of inflated networks, in the form that fits its kernel."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ['InflatedConv3d']

PADDING_MODES = ('zeros', 'replicate')


class InflatedConv3d(nn.Conv3d):
    """``nn.Conv3d`` with a padding of its own along time, that runs in the form that fits.

    A kernel of one frame is a 2D convolution of frames. In ``torch.channels_last_3d`` a clip is its frames, one after
    the other, so that nothing is copied. Results are those of ``nn.Conv3d`` but for rounding, keys are the same.

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
        if x.ndim != 5:
            raise ValueError(f'a clip has the shape [N, C, T, H, W], but x has {list(x.shape)}')
        padding = self.padding
        if padding[0] and self.temporal_padding_mode == 'replicate':
            x = F.pad(x, (0, 0, 0, 0, padding[0], padding[0]), mode='replicate')
            padding = (0, *padding[1:])
        if self.kernel_size[0] == 1 and padding[0] == 0 and x.is_contiguous(memory_format=torch.channels_last_3d):
            return self._of_frames(x[:, :, :: self.stride[0]])
        return F.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _of_frames(self, x):
        n, _, t = x.shape[:3]
        frames = x.transpose(1, 2).flatten(0, 1)  # [N * T, C, H, W], in channels_last without a copy
        out = F.conv2d(
            *(frames, self.weight.squeeze(2), self.bias),
            *(self.stride[1:], self.padding[1:], self.dilation[1:], self.groups),
        )
        return out.unflatten(0, (n, t)).transpose(1, 2)
