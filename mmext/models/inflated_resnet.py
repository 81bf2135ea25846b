"""ResNet and ResNeXt inflated to 3D, for clips."""

import torch
from mmcv.cnn import build_norm_layer
from torch import nn

from mmext.ops.inflate.conv3d import InflatedConv3d
from mmext.ops.inflate.layouts import to_channels_last
from mmext.registry import MODELS

from .packed_resnet import PackedInflatedResNet
from .pretrained_2d import load_pretrained, mark_initialised
from .resnet_skeleton import ResidualBlock, ResNetSkeleton

__all__ = ['InflatedResNeXt', 'InflatedResNet']

BASIC = 18, 34  # depths of two 3x3 convolutions a block


class InflatedBlock(ResidualBlock):
    """A residual block of clips with one ReLU module per use: ``relu1`` and following, and ``relu`` at the end.

    A hook on a ReLU sees one place of the network; that on ``relu`` the block's output.

    Args:
        *args: Those of :class:`~mmext.models.resnet_skeleton.ResidualBlock`.
        **kwargs: As ``*args``.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for number in range(1, len(self.layer_names)):
            self.add_module(f'relu{number}', nn.ReLU(inplace=True))

    def _branch_and_shortcut(self, x):
        out = x
        for number, (conv, norm) in enumerate(self.layer_names, 1):
            out = getattr(self, norm)(getattr(self, conv)(out))
            if number < len(self.layer_names):
                out = getattr(self, f'relu{number}')(out)
        return out + (x if self.downsample is None else self.downsample(x))


@MODELS.register_module()
class InflatedResNet(ResNetSkeleton):
    """Inflated ResNet-18, 34, 50, 101 or 152, a backbone for mmaction2's ``Recognizer3D``.

    The stem's convolution and one 3x3 convolution of each block (the second of a bottleneck, both of a basic block) see
    three frames, all others one. Of a static clip, the network makes what the 2D network makes of the image: the
    middle tap carries the 2D weight, the others start at zero. Keys are those of torchvision's ResNet.

    Source: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017), section 2.4; the strides
    are those of the published inflated ResNets: time is halved in the stem's pooling and where the picture is halved.

    Args:
        depth (int): 18, 34, 50, 101 or 152.
        pretrained (str, optional): Checkpoint to start from: a path, a URL, or such as ``'torchvision://resnet50'``.
            Default: None.
        pretrained2d (bool): Whether ``pretrained`` is of the 2D network (torchvision, mmpretrain or any toolbox), to be
            inflated. Default: True.
        temporal_strides (Sequence[int]): Stride of each stage along time, in frames. Default: (1, 2, 2, 2).
        pool_temporal_stride (int): Stride of the stem's pooling along time, in frames. Default: 2.
        channels_last (bool, optional): Compute in ``torch.channels_last_3d``. Default: None, on the CPU in evaluation
            mode.
        **kwargs: The options of :class:`~mmext.models.resnet_skeleton.ResNetSkeleton`: in_channels, stem_channels,
            base_channels, expansion (4; 1 for 18 and 34), num_stages, strides and dilations (of the picture),
            out_indices (default: the last stage), style, frozen_stages, norm_cfg (default BN3d), norm_eval, with_cp,
            zero_init_residual, init_cfg. ``avg_down`` and ``conv_cfg`` are not for clips.

    Shapes:
        Input [N, in_channels, T, H, W], any sizes of at least 1; outputs of stage i [N, C, T / 2^(i+1), H / 2^(i+2),
        W / 2^(i+2)], each halving rounded up; C is 256 * 2^i, 64 * 2^i for 18 and 34. One output is returned as a
        tensor, several as a tuple.

    Raises:
        ValueError: If an option is out of its range, or, when weights are initialised, a checkpoint does not fit.

    Examples:
        >>> model = InflatedResNet(50)
        >>> model(torch.rand(1, 3, 16, 112, 112)).shape
        torch.Size([1, 2048, 1, 4, 4])
    """

    arch_settings = {
        18: (2, 2, 2, 2),
        34: (3, 4, 6, 3),
        50: (3, 4, 6, 3),
        101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
    }
    block_class = InflatedBlock
    groups = 1

    def __init__(
        self,
        depth,
        pretrained=None,
        pretrained2d=True,
        temporal_strides=(1, 2, 2, 2),
        pool_temporal_stride=2,
        channels_last=None,
        strides=(1, 2, 2, 2),
        num_stages=4,
        out_indices=None,
        norm_cfg=dict(type='BN3d', requires_grad=True),
        init_cfg=None,
        **kwargs,
    ):
        for name in ('avg_down', 'conv_cfg'):
            if kwargs.get(name):
                raise ValueError(f'{name}={kwargs[name]!r} is not possible in {type(self).__name__}; leave it out')
        if len(temporal_strides) < num_stages or any(stride < 1 for stride in temporal_strides):
            raise ValueError(
                f'temporal_strides={tuple(temporal_strides)} must have an entry of at least 1 for each of the '
                f'{num_stages} stages'
            )
        if pool_temporal_stride < 1:
            raise ValueError(f'pool_temporal_stride={pool_temporal_stride} must be at least 1')
        self.pretrained = pretrained
        self.pretrained2d = pretrained2d
        self.channels_last = channels_last
        self._basic = depth in BASIC
        self._pool_temporal_stride = pool_temporal_stride
        steps = [1 if time == space == 1 else (time, space, space) for time, space in zip(temporal_strides, strides)]
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer=['Conv3d', 'InflatedConv3d']),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(
            depth,
            strides=steps,
            num_stages=num_stages,
            out_indices=(num_stages - 1,) if out_indices is None else out_indices,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
            **{**dict(expansion=1 if self._basic else 4), **kwargs},
        )

    def make_stem(self, in_channels, stem_channels, norm_cfg):
        """Return the stem of ResNet, its convolution and pooling over three frames."""
        name, norm = build_norm_layer(norm_cfg, stem_channels, postfix=1)
        return {
            'conv1': self._conv(in_channels, stem_channels, (3, 7, 7), (1, 2, 2)),
            name: norm,
            'relu': nn.ReLU(inplace=True),
            'maxpool': nn.MaxPool3d(3, stride=(self._pool_temporal_stride, 2, 2), padding=1),
        }

    def make_convs(self, in_channels, mid_channels, out_channels, stride, dilation):
        """Return the convolutions of one block, and the output channels of each."""
        if self._basic:
            return [
                self._conv(in_channels, out_channels, 3, stride, dilation),
                self._conv(out_channels, out_channels, 3, 1, dilation),
            ], (out_channels, out_channels)
        width = self.mid_channels(mid_channels)
        first, second = (1, stride) if self.style == 'pytorch' else (stride, 1)
        return [
            self._conv(in_channels, width, 1, first),
            self._conv(width, width, 3, second, dilation, self.groups),
            self._conv(width, out_channels, 1),
        ], (width, width, out_channels)

    def mid_channels(self, channels):
        """Return the width of a bottleneck's 3x3 convolution; ``channels`` is that of ResNet."""
        return channels

    def _make_downsample(self, in_channels, out_channels, stride, avg_down):
        norm = build_norm_layer(self._block_cfg['norm_cfg'], out_channels)[1]
        return nn.Sequential(self._conv(in_channels, out_channels, 1, stride), norm)

    def _conv(self, in_channels, out_channels, kernel, stride=1, dilation=1, groups=1):
        kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
        dilation = (1, dilation, dilation)
        padding = tuple(step * (size // 2) for step, size in zip(dilation, kernel))
        return InflatedConv3d(
            in_channels, out_channels, kernel, stride, padding, dilation=dilation, groups=groups, bias=False
        )

    def init_weights(self):
        """Load ``pretrained``, inflated where it is of the 2D network; without it, initialise as ``init_cfg`` says."""
        if self.pretrained is None:
            super().init_weights()
            return
        load_pretrained(self, self.pretrained, self.pretrained2d)
        mark_initialised(self)

    def packed(self):
        """Return a form for inference on the CPU with packed weights; see ``mmext.fuse(model, pack=True)``."""
        return PackedInflatedResNet(self)

    def forward(self, x):
        """Compute the feature maps.

        Args:
            x (Tensor): Clips [N, in_channels, T, H, W].

        Returns:
            Tensor or tuple[Tensor]: The outputs of the stages in ``out_indices``, in ascending order.

        Raises:
            ValueError: If ``x`` is no clip.
        """
        return first_if_single(super().forward(as_clip(x, self.channels_last, self.training)))


@MODELS.register_module()
class InflatedResNeXt(InflatedResNet):
    """Inflated ResNeXt-50, 101 or 152: the 3x3x3 convolutions have groups, 32x4d unless said otherwise.

    Source: "Aggregated Residual Transformations for Deep Neural Networks" (CVPR 2017), table 1, inflated as
    :class:`InflatedResNet`.

    Args:
        depth (int): 50, 101 or 152.
        groups (int): Groups of the 3x3x3 convolutions. Default: 32.
        width_per_group (int): Channels of a group in the first stage. Default: 4.
        **kwargs: As of :class:`InflatedResNet`.

    Raises:
        ValueError: As of :class:`InflatedResNet`.

    Examples:
        >>> model = InflatedResNeXt(50)
        >>> model(torch.rand(1, 3, 8, 64, 64)).shape
        torch.Size([1, 2048, 1, 2, 2])
    """

    arch_settings = {depth: blocks for depth, blocks in InflatedResNet.arch_settings.items() if depth not in BASIC}

    def __init__(self, depth, groups=32, width_per_group=4, **kwargs):
        self.groups = groups
        self.width_per_group = width_per_group
        super().__init__(depth, **kwargs)

    def mid_channels(self, channels):
        """Return the width of a bottleneck's 3x3x3 convolution; ``channels`` is that of ResNet."""
        return channels * self.groups * self.width_per_group // 64


@torch.fx.wrap  # sizes and device are not known while torch.fx traces
def as_clip(x, channels_last, training):
    """Check that a tensor is a clip, and lay it out as the network computes.

    Args:
        x (Tensor): [N, C, T, H, W].
        channels_last (bool, optional): Whether in ``torch.channels_last_3d``; None, on the CPU in evaluation mode, in
            which that is faster. PyTorch's batch normalisation adds up the statistics of a training step in that layout
            less precisely.
        training (bool): Whether the network is in training mode.

    Returns:
        Tensor: The clip.

    Raises:
        ValueError: If ``x`` has other than 5 dimensions.
    """
    if x.ndim != 5:
        raise ValueError(f'a clip has the shape [N, C, T, H, W], but the input has {list(x.shape)}')
    if channels_last is None:
        channels_last = x.device.type == 'cpu' and not training
    return to_channels_last(x) if channels_last else x


def first_if_single(outs):
    """Return a tuple, or the only tensor in it, as mmaction2's 3D backbones do."""
    return outs[0] if len(outs) == 1 else outs
