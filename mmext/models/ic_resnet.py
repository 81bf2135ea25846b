"""IC-ResNet and IC-ResNeXt: ResNets whose 3x3 convolutions in the blocks are inception convolutions."""

from collections.abc import Mapping

from mmcv.cnn import ConvModule, build_conv_layer, build_norm_layer
from torch import nn

from mmext.layers import InceptionConv2d
from mmext.patterns import Pattern, PatternError, load_pattern
from mmext.patterns.rules import RULES, make_layer
from mmext.registry import MODELS

from .resnet_skeleton import ResNetSkeleton

__all__ = ['ICResNeXt', 'ICResNet']

BASIC = 18, 34  # depths of two 3x3 convolutions a block, without bottleneck


@MODELS.register_module()
class ICResNet(ResNetSkeleton):
    """IC-ResNet-18, 34, 50, 101 or 152, usable as a backbone in mmpretrain, mmdet, mmseg, mmpose and mmaction2.

    Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), sections 3 and 4. The keys are ResNet's;
    a ResNet's weights load, and published keys (``layer1.0.conv2.conv_list.0.weight``) load as they are.

    Args:
        depth (int): 18, 34, 50, 101 or 152.
        pattern (str, Path, Pattern, list or dict): The dilations, one layer for each inception convolution in order:
            the name of a published pattern, a file or URL (see :func:`mmext.patterns.load_pattern`), or the layers.
            Or a rule that makes them: 'uniform', 'proportional', or ``dict(rule=...)`` with the other arguments of
            :func:`mmext.patterns.make_pattern`. With fewer than four stages, layers of the others are left over.
        inception_convs (Sequence[str]): At depths 18 and 34, which convolutions of a block are inception convolutions:
            'conv1', 'conv2' or both. Both in the published classification network, conv2 alone in the published pose
            network. Of a bottleneck it is always conv2. Default: ('conv1', 'conv2').
        deep_stem (bool): Three 3x3 convolutions in the stem instead of one of 7x7. Default: False.
        inception_backend (str, optional): See :func:`mmext.ops.inception_conv2d`. Default: None.
        **kwargs: The options of :class:`~mmext.models.resnet_skeleton.ResNetSkeleton`: in_channels, stem_channels,
            base_channels, num_stages, strides, dilations (which multiply those of the pattern), out_indices, style,
            avg_down, frozen_stages, conv_cfg, norm_cfg, norm_eval, with_cp, zero_init_residual, init_cfg.

    Attributes:
        pattern (Pattern): The layers in use.

    Shapes:
        Input [N, in_channels, H, W]; outputs [N, 256 * 2^i, H / 2^(i+2), W / 2^(i+2)] for stage i, rounded up, with 64
        in place of 256 at depths 18 and 34.

    Raises:
        ValueError: If an option is out of its range, or the pattern does not fit: the message names the layer, and the
            published patterns that fit.

    Examples:
        >>> model = ICResNet(50, pattern='detection_r50_k9', out_indices=(3,))
        >>> model(torch.rand(1, 3, 224, 224))[0].shape
        torch.Size([1, 2048, 7, 7])
    """

    arch_settings = {
        18: (2, 2, 2, 2),
        34: (3, 4, 6, 3),
        50: (3, 4, 6, 3),
        101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
    }
    groups = 1

    def __init__(
        self,
        depth,
        pattern,
        inception_convs=('conv1', 'conv2'),
        deep_stem=False,
        inception_backend=None,
        num_stages=4,
        base_channels=64,
        **kwargs,
    ):
        if isinstance(inception_convs, str) or not inception_convs or set(inception_convs) - {'conv1', 'conv2'}:
            raise ValueError(f"inception_convs={inception_convs!r} must be one or both of ('conv1', 'conv2')")
        self.inception_convs = tuple(inception_convs)
        self.deep_stem = deep_stem
        self._backend = inception_backend
        self._basic = depth in BASIC
        if depth in self.arch_settings and 1 <= num_stages <= 4:  # else an error follows
            self.pattern = self._fit(pattern, depth, num_stages, base_channels)
            self._runs = iter(self.pattern)
        expansion = 1 if self._basic else 4
        super().__init__(depth, num_stages=num_stages, base_channels=base_channels, expansion=expansion, **kwargs)
        del self._runs

    def _fit(self, pattern, depth, num_stages, base_channels):
        """Load or make the pattern of this network and check it."""
        names, widths = [], []
        for stage, blocks in enumerate(self.arch_settings[depth]):
            for block in range(blocks):
                for conv in sorted(self.inception_convs) if self._basic else ('conv2',):
                    names.append(f'layer{stage + 1}.{block}.{conv}')
                    widths.append(self.mid_channels(base_channels * 2**stage))
        count = sum(name < f'layer{num_stages + 1}' for name in names)
        options = dict(rule=pattern) if isinstance(pattern, str) and pattern in RULES else pattern
        if isinstance(options, Mapping) and 'rule' in options:
            unknown = sorted(set(options) - {'rule', 'max_dilation', 'undilated'})
            if unknown:
                raise PatternError(
                    f'pattern has the unknown key {unknown[0]!r}; known are rule, max_dilation, undilated'
                )
            return Pattern(make_layer(channels=width, groups=self.groups, **options) for width in widths[:count])
        loaded = load_pattern(pattern)
        name = pattern if isinstance(pattern, str) else 'the pattern'
        if len(loaded) != len(names):  # one for the stages that there are
            return loaded.check_widths(widths[:count], name, names[:count])
        return Pattern(loaded.check_widths(widths, name, names)[:count])

    def mid_channels(self, channels):
        """Return the width of a stage's inception convolutions; ``channels`` is that of ResNet."""
        return channels

    def _inception(self, in_channels, channels, stride, dilation):
        return InceptionConv2d(
            in_channels,
            channels,
            3,
            stride,
            dilation=dilation,
            groups=self.groups,
            bias=False,
            pattern=next(self._runs),
            backend=self._backend,
        )

    def make_stem(self, in_channels, stem_channels, norm_cfg):
        """Return the stem of ResNet, or the deep one, with the published names."""
        pooling = nn.MaxPool2d(3, stride=2, padding=1)
        if not self.deep_stem:
            conv = build_conv_layer(self._conv_cfg, in_channels, stem_channels, 7, stride=2, padding=3, bias=False)
            name, norm = build_norm_layer(norm_cfg, stem_channels, postfix=1)
            return {'conv1': conv, name: norm, 'relu': nn.ReLU(inplace=True), 'maxpool': pooling}
        half = stem_channels // 2
        options = dict(padding=1, conv_cfg=self._conv_cfg, norm_cfg=norm_cfg)
        stem = nn.Sequential(
            ConvModule(in_channels, half, 3, stride=2, **options),
            ConvModule(half, half, 3, **options),
            ConvModule(half, stem_channels, 3, **options),
        )
        return {'stem': stem, 'maxpool': pooling}

    def make_spatial(self, channels, stride, dilation):
        """Return the inception convolution of a bottleneck."""
        return self._inception(channels, channels, stride, dilation)

    def make_convs(self, in_channels, mid_channels, out_channels, stride, dilation):
        """Return the convolutions of one block, and the output channels of each."""
        if not self._basic:
            return super().make_convs(in_channels, mid_channels, out_channels, stride, dilation)
        convs = []
        for name, channels, step in (('conv1', in_channels, stride), ('conv2', out_channels, 1)):
            if name in self.inception_convs:
                convs.append(self._inception(channels, out_channels, step, dilation))
            else:
                options = dict(stride=step, padding=dilation, dilation=dilation, bias=False)
                convs.append(build_conv_layer(self._conv_cfg, channels, out_channels, 3, **options))
        return convs, (out_channels, out_channels)


@MODELS.register_module()
class ICResNeXt(ICResNet):
    """IC-ResNeXt-50, 101 or 152: IC-ResNet with grouped inception convolutions, 32x4d unless said otherwise.

    Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), section 4, which names ResNeXt-101
    32x4d; neither pattern nor weights of it were published. "Aggregated Residual Transformations for Deep Neural
    Networks" (CVPR 2017), table 1.

    Args:
        depth (int): 50, 101 or 152.
        pattern (str, Path, Pattern, list or dict): As of :class:`ICResNet`; a run's channels must be a multiple of
            ``groups``, which rules take into account.
        groups (int): Groups of the inception convolutions. Default: 32.
        width_per_group (int): Channels of a group in the first stage. Default: 4.
        **kwargs: As of :class:`ICResNet`.

    Raises:
        ValueError: As of :class:`ICResNet`.

    Examples:
        >>> model = ICResNeXt(50, pattern='uniform', out_indices=(3,))
        >>> model(torch.rand(1, 3, 64, 64))[0].shape
        torch.Size([1, 2048, 2, 2])
    """

    arch_settings = {depth: blocks for depth, blocks in ICResNet.arch_settings.items() if depth not in BASIC}

    def __init__(self, depth, pattern, groups=32, width_per_group=4, **kwargs):
        self.groups = groups
        self.width_per_group = width_per_group
        super().__init__(depth, pattern, **kwargs)

    def mid_channels(self, channels):
        """Return the width of a stage's inception convolutions; ``channels`` is that of ResNet."""
        return channels * self.groups * self.width_per_group // 64

    def make_convs(self, in_channels, mid_channels, out_channels, stride, dilation):
        """Return the convolutions of one block, and the output channels of each."""
        return super().make_convs(in_channels, self.mid_channels(mid_channels), out_channels, stride, dilation)
