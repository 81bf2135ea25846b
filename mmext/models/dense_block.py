"""The parts of the inflated DenseNet: layers, blocks, transitions.

Source: "Densely Connected Convolutional Networks" (CVPR 2017), section 3.
"""

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import nn

from mmext.ops.inflate.conv3d import InflatedConv3d
from mmext.ops.inflate.layouts import in_layout_of

from .recompute import recompute

__all__ = ['DenseBlock', 'DenseFeatures', 'DenseLayer', 'Transition']

torch.fx.wrap('in_layout_of')  # a call in what torch.fx traces, here as in the module that it is from

BOTTLENECK = 4  # channels between a layer's two convolutions, for each that it adds


class DenseLayer(BaseModule):
    """Norm, ReLU and a 1x1x1 convolution, norm, ReLU and a 3x3 one, whose output joins the input's channels.

    Source: "Densely Connected Convolutional Networks" (CVPR 2017), section 3.

    Args:
        in_channels (int): Channels of the input.
        growth (int): Channels of the output.
        temporal_kernel (int): Frames that the 3x3 convolution sees, 1 or 3; with 3, the first and last frame are
            repeated.
        norm_cfg (dict): Type of the norms.
        with_cp (bool): Recompute activations in the backward pass.
    """

    def __init__(self, in_channels, growth, temporal_kernel, norm_cfg, with_cp):
        super().__init__()
        width = BOTTLENECK * growth
        self.with_cp = with_cp
        self.norm1 = build_norm_layer(norm_cfg, in_channels)[1]
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = InflatedConv3d(in_channels, width, 1, bias=False)
        self.norm2 = build_norm_layer(norm_cfg, width)[1]
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = InflatedConv3d(
            *(width, growth, (temporal_kernel, 3, 3)),
            padding=(temporal_kernel // 2, 1, 1),
            bias=False,
            temporal_padding_mode='replicate',
        )

    def _run(self, x):
        x = self.conv1(self.relu1(self.norm1(x)))
        return self.conv2(self.relu2(self.norm2(x)))

    def forward(self, x):
        """Return the new channels: [N, in_channels, T, H, W] -> [N, growth, T, H, W]."""
        if self.with_cp:
            return recompute(self._run, x, [self])
        return self._run(x)


class DenseBlock(nn.Module):
    """Layers, each of which takes the channels of all before it."""

    def __init__(self, count, in_channels, growth, *args):
        super().__init__()
        for number in range(count):
            self.add_module(f'denselayer{number + 1}', DenseLayer(in_channels + number * growth, growth, *args))

    def forward(self, x):
        """[N, in_channels, T, H, W] -> [N, in_channels + count * growth, T, H, W]."""
        for layer in self._modules.values():  # children() leaves out what stands in two places
            x = torch.cat([x, layer(x)], 1)
        return x


class Transition(nn.Sequential):
    """Norm, ReLU, 1x1x1 convolution, and average pooling that halves picture and time, each rounded down."""

    def __init__(self, in_channels, out_channels, norm_cfg):
        super().__init__()
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]
        self.relu = nn.ReLU(inplace=True)
        self.conv = InflatedConv3d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool3d(2, stride=2)

    def forward(self, x):
        """[N, in_channels, T, H, W] -> [N, out_channels, T // 2, H // 2, W // 2]."""
        return in_layout_of(super().forward(x), x)


class DenseFeatures(nn.Sequential):
    """Stem, blocks and transitions, of which several outputs can be taken.

    Args:
        out_indices (Sequence[int]): Blocks, 0 to 3, whose outputs are returned. That of block 3 is what the last module
            makes of it.
    """

    def __init__(self, out_indices):
        super().__init__()
        self.out_indices = out_indices

    def forward(self, x):
        """[N, C, T, H, W] -> the output, or a tuple of several in ascending order."""
        outs = []
        for name, part in self._modules.items():  # named_children() leaves out what stands in two places
            x = part(x)
            if name.startswith('denseblock') and int(name[-1]) - 1 in self.out_indices and name != 'denseblock4':
                outs.append(x)
        outs += [x] if 3 in self.out_indices else []
        return outs[0] if len(outs) == 1 else tuple(outs)
