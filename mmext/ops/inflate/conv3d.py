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
        if not one_dnn.runs_here(x, self.weight):
            return F.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        if (
            x.shape[2] == 1
            and self.kernel_size[0] > 1
            and 2 * padding[0] == self.dilation[0] * (self.kernel_size[0] - 1)
        ):
            return self._of_one_frame(x)
        return one_dnn.convolve(x, self, padding)

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
                found = one_dnn.convolve_and_activate(padded, self, padding, other)
                if found is not None:
                    return found
        out = self(x)
        return (out if other is None else out + other).relu_()

    def _padded(self, x):
        """Return the clip with frames repeated where ``temporal_padding_mode`` says so, and the padding left to do."""
        if x.ndim != 5:
            raise ValueError(f'a clip has the shape [N, C, T, H, W], but x has {list(x.shape)}')
        if self.padding[0] and self.temporal_padding_mode == 'replicate':
            return F.pad(x, (0, 0, 0, 0, *self.padding[:1] * 2), mode='replicate'), (0, *self.padding[1:])
        return x, self.padding

    def _of_one_frame(self, x):
        """Convolve a clip of one frame, of which the outer taps meet nothing but zeros, as a picture."""
        out = F.conv2d(
            *(x.squeeze(2), self.weight[:, :, self.kernel_size[0] // 2], self.bias),
            *(self.stride[1:], self.padding[1:], self.dilation[1:], self.groups),
        )
        return out.unsqueeze(2)
