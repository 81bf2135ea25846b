"""The post-activation ResNet that several families share: only the spatial operator of the block differs.

::

    image -> stem (/4) -> layer1 -> layer2 (/8) -> layer3 (/16) -> layer4 (/32)

    block:  x -> conv1 1x1 -> bn1 -> relu -> conv2 (spatial operator) -> bn2 -> relu -> conv3 1x1 -> bn3 -> (+) -> relu
            `-------------------------------- [downsample] ----------------------------------------------'

A family subclasses :class:`ResNetSkeleton`, builds its stem and says which module stands for ``conv2``, or which
convolutions a block has altogether.
"""

from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.model import BaseModule, Sequential, constant_init
from torch import nn

from .freezing import FreezableBackbone
from .recompute import recompute

__all__ = ['ResNetSkeleton', 'ResidualBlock']


class ResidualBlock(BaseModule):
    """Convolutions, a norm after each and a ReLU between them, beside a shortcut, with ResNet's published key names.

    Source: "Deep Residual Learning for Image Recognition" (CVPR 2016), figure 5.

    Args:
        convs (Sequence[nn.Module]): The convolutions, ``conv1`` and following; the block's stride is theirs.
        channels (Sequence[int]): Output channels of each.
        downsample (nn.Module, optional): Shortcut where shapes change. Default: None, the identity.
        norm_cfg (dict): Type of the norms. Default: ``dict(type='BN')``.
        with_cp (bool): Recompute activations in the backward pass to save memory. Default: False.
        init_cfg (dict, optional): mmengine initialisation. Default: None.
    """

    def __init__(self, convs, channels, downsample=None, norm_cfg=dict(type='BN'), with_cp=False, init_cfg=None):
        super().__init__(init_cfg)
        self.with_cp = with_cp
        self.layer_names = []
        for number, (conv, width) in enumerate(zip(convs, channels), 1):
            norm_name, norm = build_norm_layer(norm_cfg, width, postfix=number)
            self.layer_names.append((f'conv{number}', norm_name))
            self.add_module(f'conv{number}', conv)
            self.add_module(norm_name, norm)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    @property
    def last_norm(self):
        """nn.Module: The norm whose weight starts at zero under ``zero_init_residual``."""
        return getattr(self, self.layer_names[-1][1])

    def _branch_and_shortcut(self, x):
        out = x
        for conv, norm in self.layer_names:
            out = getattr(self, norm)(getattr(self, conv)(out))
            if norm != self.layer_names[-1][1]:
                out = self.relu(out)
        return out + (x if self.downsample is None else self.downsample(x))

    def forward(self, x):
        """Run the block.

        Args:
            x (Tensor): [N, in_channels, H, W].

        Returns:
            Tensor: [N, out_channels, H / s, W / s], rounded up, s the block's stride.
        """
        if self.with_cp:
            return self.relu(recompute(self._branch_and_shortcut, x, [self]))
        return self.relu(self._branch_and_shortcut(x))


class ResNetSkeleton(FreezableBackbone):
    """Stem and up to four stages of residual blocks with a pluggable spatial operator.

    Subclasses set ``arch_settings`` (depth -> blocks per stage) and implement :meth:`make_stem` (modules of stride 4
    or less that end in ``stem_channels``) and :meth:`make_spatial`, or :meth:`make_convs` for other blocks.

    Args:
        depth (int): One of ``arch_settings``.
        in_channels (int): Channels of the image. Default: 3.
        stem_channels (int): Output channels of the stem. Default: 64.
        base_channels (int): Spatial operator's channels in the first stage; each later stage doubles them. Default: 64.
        expansion (int): Block output channels per spatial operator's channel. Default: 4.
        num_stages (int): Stages to build, 1 to 4. Default: 4.
        strides (Sequence[int]): Stride of each stage's first block, in pixels. Default: (1, 2, 2, 2).
        dilations (Sequence[int]): Dilation of each stage's spatial operators, in pixels. Default: (1, 1, 1, 1).
        out_indices (Sequence[int]): Stages whose outputs are returned, within 0..num_stages-1. Default: (0, 1, 2, 3).
        style (str): Where a block's stride is: in the spatial operator ('pytorch') or in the first 1x1 ('caffe').
            Default: 'pytorch'.
        avg_down (bool): Shortcuts pool (average) before a 1x1 convolution of stride 1. Default: False.
        frozen_stages (int): Freeze the stem and this many stages: -1 none, 0 the stem, up to num_stages. Frozen parts
            stay in eval mode. Default: -1.
        conv_cfg (dict, optional): Type of the 1x1 convolutions. Default: None.
        norm_cfg (dict): Type of the norms. Default: ``dict(type='BN', requires_grad=True)``.
        norm_eval (bool): Keep every BatchNorm in eval mode while training. Default: False.
        with_cp (bool): Recompute each block's activations in the backward pass. Default: False.
        zero_init_residual (bool): Start each block's last norm at zero. Default: True.
        init_cfg (dict or list[dict], optional): mmengine initialisation. Default: None, that is Kaiming (normal, fan
            out, ReLU) for every convolution and 1 / 0 for every norm.

    Raises:
        ValueError: If a setting is outside of the ranges above.
    """

    arch_settings = {}
    block_class = ResidualBlock

    def __init__(
        self,
        depth,
        in_channels=3,
        stem_channels=64,
        base_channels=64,
        expansion=4,
        num_stages=4,
        strides=(1, 2, 2, 2),
        dilations=(1, 1, 1, 1),
        out_indices=(0, 1, 2, 3),
        style='pytorch',
        avg_down=False,
        frozen_stages=-1,
        conv_cfg=None,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        with_cp=False,
        zero_init_residual=True,
        init_cfg=None,
    ):
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer=['Conv2d']),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        if depth not in self.arch_settings:
            raise ValueError(
                f'depth={depth!r} is unknown to {type(self).__name__}; choose one of {list(self.arch_settings)}'
            )
        if not 1 <= num_stages <= len(self.arch_settings[depth]):
            raise ValueError(f'num_stages={num_stages} must be in 1..{len(self.arch_settings[depth])}')
        for name, values in (('strides', strides), ('dilations', dilations)):
            if len(values) < num_stages:
                raise ValueError(
                    f'{name}={tuple(values)} has {len(values)} entries; num_stages={num_stages} needs as many'
                )
        if not out_indices or any(not 0 <= index < num_stages for index in out_indices):
            raise ValueError(
                f'out_indices={tuple(out_indices)} must be one or more of {tuple(range(num_stages))} (stages)'
            )
        if style not in ('pytorch', 'caffe'):
            raise ValueError(
                f"style={style!r} is unknown; choose 'pytorch' (stride in conv2) or 'caffe' (stride in conv1)"
            )
        if not -1 <= frozen_stages <= num_stages:
            raise ValueError(f'frozen_stages={frozen_stages} must be in -1..{num_stages} (-1 none, 0 the stem)')
        self.depth = depth
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.zero_init_residual = zero_init_residual
        self._conv_cfg = conv_cfg
        self._block_cfg = dict(norm_cfg=norm_cfg, with_cp=with_cp)

        self.style = style
        self.stem_names = []
        for name, module in self.make_stem(in_channels, stem_channels, norm_cfg).items():
            self.stem_names.append(name)
            self.add_module(name, module)
        self.stage_names = []
        channels = stem_channels
        for stage in range(num_stages):
            blocks = []
            mid_channels = base_channels * 2**stage
            for block in range(self.arch_settings[depth][stage]):
                stride = strides[stage] if block == 0 else 1
                out_channels = mid_channels * expansion
                blocks.append(
                    self._make_block(channels, mid_channels, out_channels, stride, dilations[stage], avg_down)
                )
                channels = out_channels
            self.stage_names.append(f'layer{stage + 1}')
            self.add_module(self.stage_names[-1], Sequential(*blocks))
        self.feat_dim = channels
        self._freeze_stages()

    def make_stem(self, in_channels, stem_channels, norm_cfg):
        """Return the modules, by name and in order, that turn the image into ``stem_channels`` maps."""
        raise NotImplementedError

    def run_stem(self, x):
        """Run the modules of :meth:`make_stem`, one after the other."""
        for name in self.stem_names:
            x = getattr(self, name)(x)
        return x

    def make_spatial(self, channels, stride, dilation):
        """Return the spatial operator of one block, ``channels`` in and out."""
        raise NotImplementedError

    def make_convs(self, in_channels, mid_channels, out_channels, stride, dilation):
        """Return the convolutions of one block, and the output channels of each."""
        conv_cfg = self._conv_cfg
        conv1_stride, spatial_stride = (1, stride) if self.style == 'pytorch' else (stride, 1)
        convs = [
            build_conv_layer(conv_cfg, in_channels, mid_channels, 1, stride=conv1_stride, bias=False),
            self.make_spatial(mid_channels, spatial_stride, dilation),
            build_conv_layer(conv_cfg, mid_channels, out_channels, 1, bias=False),
        ]
        return convs, (mid_channels, mid_channels, out_channels)

    def _make_block(self, in_channels, mid_channels, out_channels, stride, dilation, avg_down):
        downsample = None
        if stride != 1 or in_channels != out_channels:
            downsample = self._make_downsample(in_channels, out_channels, stride, avg_down)
        convs, channels = self.make_convs(in_channels, mid_channels, out_channels, stride, dilation)
        return self.block_class(convs, channels, downsample, **self._block_cfg)

    def _make_downsample(self, in_channels, out_channels, stride, avg_down):
        layers = []
        if avg_down and stride != 1:
            layers.append(nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
            stride = 1
        layers.append(build_conv_layer(self._conv_cfg, in_channels, out_channels, 1, stride, bias=False))
        layers.append(build_norm_layer(self._block_cfg['norm_cfg'], out_channels)[1])
        return nn.Sequential(*layers)

    def init_weights(self):
        """Initialise as ``init_cfg`` says; without a checkpoint, start residual branches at zero where asked to."""
        first_time = not self.is_init
        super().init_weights()
        configs = self.init_cfg if isinstance(self.init_cfg, (list, tuple)) else [self.init_cfg]
        if first_time and self.zero_init_residual and not any('checkpoint' in cfg for cfg in configs):
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    constant_init(module.last_norm, 0)

    def frozen_parts(self):
        """Return the modules that ``frozen_stages`` freezes: the stem and so many stages."""
        if self.frozen_stages < 0:
            return []
        return [getattr(self, name) for name in (*self.stem_names, *self.stage_names[: self.frozen_stages])]

    def forward(self, x):
        """Compute the feature maps.

        Args:
            x (Tensor): Images [N, in_channels, H, W].

        Returns:
            tuple[Tensor]: The outputs of the stages in ``out_indices``, in ascending order.
        """
        x = self.run_stem(x)
        outs = []
        for index, name in enumerate(self.stage_names):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outs.append(x)
            if index == max(self.out_indices):
                break
        return tuple(outs)
