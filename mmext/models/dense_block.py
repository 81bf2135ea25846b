"""The parts of the inflated DenseNet: layers, blocks, transitions.

Source: "Densely Connected Convolutional Networks" (CVPR 2017), section 3.
"""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import nn

from mmext.ops.inflate import one_dnn
from mmext.ops.inflate.activation import activated
from mmext.ops.inflate.conv3d import InflatedConv3d
from mmext.ops.inflate.memory import empty_frames, parts_of

from .recompute import recompute

__all__ = ['DenseBlock', 'DenseLayer', 'Transition']

BOTTLENECK = 4  # channels between a layer's two convolutions, for each that it adds
CHUNK = 2**18  # elements that are worked on at once; a few times as many stay in a core's cache


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
        self.conv1 = InflatedConv3d(in_channels, width, 1, bias=False)
        self.norm2 = build_norm_layer(norm_cfg, width)[1]
        self.conv2 = InflatedConv3d(
            *(width, growth, (temporal_kernel, 3, 3)),
            padding=(temporal_kernel // 2, 1, 1),
            bias=False,
            temporal_padding_mode='replicate',
        )
        self.relu = nn.ReLU(inplace=True)

    def _run(self, x):
        x = self.relu(self.norm1(x))
        return self.conv2(activated(x, self.conv1, self.norm2, self.relu))

    @property
    def is_folded(self):
        """bool: Whether the second norm is folded into the first convolution, and the first norm is a fixed scale."""
        return isinstance(self.norm2, nn.Identity) and is_fixed(self.norm1)

    def fill_bottleneck(self, pixels, out):
        """Write what the second convolution takes, without gradients: [pixels, in_channels] -> [pixels, width].

        Pixels are normalised and multiplied while they are in cache.
        """
        (scale, shift), weight = scale_and_shift(self.norm1), self.conv1.weight.flatten(1).T
        parts = parts_of(pixels, CHUNK)
        space = pixels.new_empty(pixels[parts[0]].shape)
        for part in parts:
            normalised = torch.addcmul(shift, pixels[part], scale, out=space[: len(out[part])]).relu_()
            torch.addmm(self.conv1.bias, normalised, weight, out=out[part]).relu_()

    def forward(self, x):
        """Return the new channels: [N, in_channels, T, H, W] -> [N, growth, T, H, W]."""
        if self.with_cp and torch.is_grad_enabled():
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
        layers = list(self.children())
        infers_here = not torch.is_grad_enabled() and one_dnn.runs_here(x, layers[0].conv1.weight)
        if infers_here and all(layer.is_folded for layer in layers):
            return self._in_one_tensor(x, layers)
        for layer in layers:
            x = torch.cat([x, layer(x)], 1)
        return x

    def _in_one_tensor(self, x, layers):
        """Run all layers on one tensor, into which each writes its channels, instead of copying those before it."""
        n, channels, frames, height, width = x.shape
        growth, between, (reach, *_) = (
            layers[0].conv2.out_channels,
            layers[0].conv2.in_channels,
            layers[0].conv2.padding,
        )
        maps = empty_frames(x, n, frames, height, width, channels + len(layers) * growth)
        maps[..., :channels] = x.movedim(1, -1)
        hidden = empty_frames(x, n, reach + frames + reach, height, width, between)
        for layer in layers:
            for sample, filled in zip(maps, hidden):
                layer.fill_bottleneck(sample.flatten(0, 2)[:, :channels], filled[reach : reach + frames].flatten(0, 2))
            if reach:  # the first and last frame are repeated
                hidden[:, :reach] = hidden[:, reach, None]
                hidden[:, -reach:] = hidden[:, -reach - 1, None]
            new = one_dnn.infer(hidden.movedim(-1, 1), layer.conv2, (0, *layer.conv2.padding[1:]))
            maps[..., channels : channels + growth] = new.movedim(1, -1)
            channels += growth
        return maps.movedim(-1, 1)


class Transition(nn.Module):
    """Norm, ReLU, 1x1x1 convolution, and average pooling that halves picture and time."""

    def __init__(self, in_channels, out_channels, norm_cfg):
        super().__init__()
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]
        self.relu = nn.ReLU(inplace=True)
        self.conv = InflatedConv3d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool3d(2, stride=2)

    def forward(self, x):
        """[N, in_channels, T, H, W] -> [N, out_channels, T // 2, H // 2, W // 2]."""
        x = self.conv(self.relu(self.norm(x)))
        if not x.is_contiguous(memory_format=torch.channels_last_3d) or min(x.shape[2:]) < 2:
            return self.pool(x)
        # 3D pooling would hand on another layout: pictures first, then pairs of frames
        frames = F.avg_pool2d(x.transpose(1, 2).flatten(0, 1), 2).unflatten(0, (x.shape[0], x.shape[2]))
        pairs = frames[:, : x.shape[2] // 2 * 2]
        return (pairs[:, ::2] + pairs[:, 1::2]).mul_(0.5).transpose(1, 2)

    def infer(self, x):
        """Do the same without gradients, the pooling before the convolution, which then has an eighth to do."""
        if not (is_fixed(self.norm) and one_dnn.runs_here(x, self.conv.weight)):
            return self(x)
        scale, shift = scale_and_shift(self.norm)
        n, channels, frames, height, width = x.shape
        pooled = empty_frames(x, n, frames // 2, height // 2, width // 2, channels)
        space = x.new_empty(2, height, width, channels)
        for clip, out in zip(x.movedim(1, -1), pooled):
            for index, mean in enumerate(out):
                normalised = torch.addcmul(shift, clip[2 * index : 2 * index + 2], scale, out=space).relu_()
                torch.mean(F.avg_pool2d(normalised.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1), 0, out=mean)
        return self.conv(pooled.movedim(-1, 1))


def is_fixed(norm):
    """Say whether a norm does the same to every clip: a batch normalisation in evaluation mode."""
    return type(norm) is nn.BatchNorm3d and not norm.training and norm.affine and norm.running_mean is not None


def scale_and_shift(norm):
    """Return the factor and the summand, [C] each, that a fixed norm is."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
