"""Wider-ResNet ("ResNet-38"): Models A, A1 and A2, which differ in how they lower the resolution."""

import torch
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.model import BaseModule, ModuleList
from torch import fx, nn

from mmext.registry import MODELS

from .freezing import FreezableBackbone
from .recompute import recompute

__all__ = ['WiderResNet']

# Level -> number of blocks, and (kernel size, channels) of the convolutions of each.
LEVELS = {
    2: (3, ((3, 128), (3, 128))),
    3: (3, ((3, 256), (3, 256))),
    4: (6, ((3, 512), (3, 512))),
    5: (3, ((3, 512), (3, 1024))),
    6: (1, ((1, 512), (3, 1024), (1, 2048))),
    7: (1, ((1, 1024), (3, 2048), (1, 4096))),
}
STEM_CHANNELS = 64
# Levels before which the resolution is halved by max pooling; before the others of 2 to 6 the next convolution does it.
POOLED = {'A': (2, 3, 4, 5, 6), 'A1': (), 'A2': (2, 3)}
STRIDES = {'A': (16, 32), 'A1': (8, 16, 32), 'A2': (8, 16, 32)}
POOLING = {'ceil': dict(padding=0, ceil_mode=True), 'floor': dict(padding=0), 'pad': dict(padding=1)}


class PreActivationBlock(BaseModule):
    """Two or three times norm, ReLU and convolution, beside a shortcut; nothing follows the sum.

    A shortcut with a convolution takes the first norm's ReLU, the tensor that the first convolution takes, too.

    Source: "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Pattern Recognition 2019).

    Args:
        in_channels (int): Channels of the input.
        convs (Sequence[tuple[int, int]]): Kernel size and output channels of each convolution.
        stride (int): Stride of the first convolution and the shortcut, in pixels. Default: 1.
        dilations (tuple[int, int]): Dilation of the first convolution and of the others. Default: (1, 1).
        dropout (float): Probability before the last convolution, in [0, 1). Default: 0.
        project (bool): Whether the shortcut has a 1x1 convolution. Default: False.
        conv_cfg (dict, optional): Type of the convolutions. Default: None.
        norm_cfg (dict): Type of the norms. Default: ``dict(type='BN')``.
        with_cp (bool): Recompute activations in the backward pass to save memory. Default: False.
    """

    def __init__(
        self,
        in_channels,
        convs,
        stride=1,
        dilations=(1, 1),
        dropout=0.0,
        project=False,
        conv_cfg=None,
        norm_cfg=dict(type='BN'),
        with_cp=False,
    ):
        super().__init__()
        self.with_cp = with_cp
        entering = in_channels
        self.depth = len(convs)
        for number, (kernel, channels) in enumerate(convs, 1):
            first = number == 1
            dilation = dilations[0 if first else 1] if kernel > 1 else 1
            conv = build_conv_layer(
                conv_cfg,
                in_channels,
                channels,
                kernel,
                stride=stride if first else 1,
                padding=dilation * (kernel // 2),
                dilation=dilation,
                bias=False,
            )
            self.add_module(f'bn{number}', build_norm_layer(norm_cfg, in_channels)[1])
            self.add_module(f'conv{number}', conv)
            in_channels = channels
        self.shortcut = None  # after the others, for mmcv.cnn.fuse_conv_bn: see WiderResNet
        if project:
            self.shortcut = build_conv_layer(conv_cfg, entering, in_channels, 1, stride=stride, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)

    def _run(self, x):
        out = self.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        out = self.conv1(out)
        for number in range(2, self.depth + 1):
            out = self.relu(getattr(self, f'bn{number}')(out))
            if number == self.depth:
                out = self.dropout(out)
            out = getattr(self, f'conv{number}')(out)
        return out.add_(shortcut)

    def forward(self, x):
        """Run the block.

        Args:
            x (Tensor): [N, in_channels, H, W].

        Returns:
            Tensor: [N, out_channels, H / stride, W / stride], rounded up.
        """
        if self.with_cp:
            return recompute(self._run, x, [self])
        return self._run(x)


@MODELS.register_module()
class WiderResNet(FreezableBackbone):
    """Wider-ResNet Model A, A1 or A2, usable as a backbone in mmpretrain, mmseg and mmdet.

    Seven levels of 64, 128, 256, 512, 1024, 2048 and 4096 channels: a convolution, then 3, 3, 6, 3, 1 and 1
    pre-activation blocks; 38 layers with weights on the longest path, with the classifier. The three models have the
    same parameters. Model A halves the resolution by max pooling after levels 1 to 5, A1 by the first convolution of
    levels 2 to 6, A2 by max pooling after levels 1 and 2, then by convolutions.

    Source: "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Pattern Recognition 2019), and the
    layer tables published with it.

    Args:
        arch (str): 'A', 'A1' or 'A2'.
        output_stride (int): Pixels per cell at the end: 32 or 16, of A1 and A2 also 8. At 16 (8) what would halve the
            resolution the last time (the last two times) leaves it; 3x3 convolutions from there on are dilated by 2
            (4 from level 6). The first convolution of a level that does not halve keeps the dilation of the level
            before. Default: 32.
        in_channels (int): Channels of the image. Default: 3.
        width (float): Factor on all channels, above 0; 1 is the published network. Default: 1.
        out_indices (Sequence[int]): Levels whose outputs are returned, within 0..6 for levels 1 to 7. Levels after the
            last of them are not built. Default: (6,).
        dropout (tuple[float, float]): Probability before the last convolution of level 6 and of level 7, each in
            [0, 1). Classification has 0, segmentation (0.3, 0.5). Default: (0, 0).
        pooling (str): Borders of the 3x3 max pooling of A and A2: 'ceil', no padding and the last window may stick out,
            as Model A was trained; 'floor', no padding and only whole windows, the published test command; 'pad', one
            pixel of padding, the default of the published code. Default: 'ceil'.
        frozen_stages (int): Freeze this many levels, up to 7, which stay in eval mode; -1 or 0 for none. Default: -1.
        conv_cfg (dict, optional): Type of the convolutions. Default: None.
        norm_cfg (dict): Type of the norms. Default: ``dict(type='BN', eps=1.001e-5, requires_grad=True)``, eps as
            published.
        norm_eval (bool): Keep every BatchNorm in eval mode while training, as segmentation was trained. Default: False.
        with_cp (bool): Recompute each block's activations in the backward pass. Default: False.
        init_cfg (dict or list[dict], optional): mmengine initialisation. Default: None, that is N(0, 2 / fan_in) for
            every convolution and 1 / 0 for every norm, as published.

    Shapes:
        Input [N, in_channels, H, W]. Level 1 [N, 64, H, W], level 2 [N, 128, H / 2, W / 2], ..., level 6 [N, 2048, H /
        output_stride, W / output_stride], level 7 as level 6 with 4096 channels. Convolutions and 'pad' round halves
        up, 'ceil' and 'floor' pooling round them down, 'floor' also takes 1 off even sizes' halves. Outputs of levels 1
        to 6 are sums without norm or activation; that of level 7 has gone through the final norm and ReLU.

    Raises:
        ValueError: If an option is out of its range, or an image is too small for the pooling.

    Examples:
        >>> model = WiderResNet('A1', output_stride=8)
        >>> model(torch.rand(1, 3, 64, 64))[0].shape
        torch.Size([1, 4096, 8, 8])
    """

    def __init__(
        self,
        arch,
        output_stride=32,
        in_channels=3,
        width=1.0,
        out_indices=(6,),
        dropout=(0.0, 0.0),
        pooling='ceil',
        frozen_stages=-1,
        conv_cfg=None,
        norm_cfg=dict(type='BN', eps=1.001e-5, requires_grad=True),
        norm_eval=False,
        with_cp=False,
        init_cfg=None,
    ):
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        _check(arch, output_stride, width, out_indices, dropout, pooling, frozen_stages)
        self.arch = arch
        self.output_stride = output_stride
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

        def widened(channels):
            return max(1, round(channels * width))

        channels = widened(STEM_CHANNELS)
        stem = build_conv_layer(conv_cfg, in_channels, channels, 3, padding=1, bias=False)
        # where the network gives up resolution: before this many of levels 2, 3, ...
        halvings = {32: 5, 16: 4, 8: 3}[output_stride]
        dilation = 1
        self.pools = nn.ModuleDict()
        for level in range(2, max(out_indices) + 2):
            first_dilation, stride = dilation, 1
            if level - 1 <= halvings:
                stride = 1 if level in POOLED[arch] else 2
            elif level <= 6:
                dilation *= 2
            if level in POOLED[arch]:
                halves = level - 1 <= halvings
                options = dict(stride=2, **POOLING[pooling]) if halves else dict(stride=1, padding=1)
                self.pools[str(level)] = nn.MaxPool2d(3, **options)
            count, convs = LEVELS[level]
            convs = [(kernel, widened(out)) for kernel, out in convs]
            blocks = ModuleList()
            for number in range(count):
                blocks.append(
                    PreActivationBlock(
                        channels,
                        convs,
                        stride=1 if number else stride,
                        dilations=(dilation if number else first_dilation, dilation),
                        dropout=dropout[level - 6] if level >= 6 else 0.0,
                        project=number == 0,
                        conv_cfg=conv_cfg,
                        norm_cfg=norm_cfg,
                        with_cp=with_cp,
                    )
                )
                channels = convs[-1][1]
            self.add_module(f'level{level}', blocks)
        self.feat_dim = channels
        if 6 in self.out_indices:
            self.bn7 = build_norm_layer(norm_cfg, channels)[1]
            self.relu = nn.ReLU(inplace=True)
        self.conv1 = stem  # after bn7: mmcv.cnn.fuse_conv_bn folds a norm into the convolution that is before it
        self._freeze_stages()

    def frozen_parts(self):
        """Return the modules that ``frozen_stages`` freezes, as far as they are built."""
        if self.frozen_stages < 1:
            return []
        names = ['conv1', *(f'level{level}' for level in range(2, self.frozen_stages + 1))]
        names += ['bn7'] if self.frozen_stages == 7 else []
        return [getattr(self, name) for name in names if hasattr(self, name)]

    def forward(self, x):
        """Compute the feature maps.

        Args:
            x (Tensor): Images [N, in_channels, H, W].

        Returns:
            tuple[Tensor]: The outputs of the levels in ``out_indices``, in ascending order.
        """
        image = x
        x = self.conv1(x)
        outs = [x] if 0 in self.out_indices else []
        for level in range(2, max(self.out_indices) + 2):
            if str(level) in self.pools:
                pool = self.pools[str(level)]
                _check_size(x, image, pool.padding, pool.kernel_size, level)
                x = pool(x)
            for block in getattr(self, f'level{level}'):  # one by one, so that what is before the last can go
                x = block(x)
            if level == 7:
                x = self.relu(self.bn7(x))
            if level - 1 in self.out_indices:
                outs.append(x)
        return tuple(outs)


@fx.wrap  # a call of its own where the network is traced, whose sizes are no numbers
def _check_size(x, image, padding, window, level):
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    (height, width), (rows, columns) = image.shape[-2:], x.shape[-2:]
    if min(rows, columns) + 2 * padding < window:
        raise ValueError(
            f'an image of {height} x {width} pixels is {rows} x {columns} before level {level}, too small for 3x3 '
            "pooling; give larger images or set pooling='pad'"
        )


def _check(arch, output_stride, width, out_indices, dropout, pooling, frozen_stages):
    if arch not in POOLED:
        raise ValueError(f'arch={arch!r} is unknown; choose one of {", ".join(map(repr, POOLED))}')
    if output_stride not in STRIDES[arch]:
        raise ValueError(
            f'output_stride={output_stride!r} is not possible with arch={arch!r}; choose one of {STRIDES[arch]}'
            + (", or arch='A1', which takes the same checkpoints" if output_stride == 8 else '')
        )
    if not width > 0:
        raise ValueError(f'width={width!r} must be above 0; 1 is the published network')
    if not out_indices or any(index not in range(7) for index in out_indices):
        raise ValueError(f'out_indices={tuple(out_indices)} must be one or more of 0..6 (levels 1 to 7)')
    if len(dropout) != 2 or any(not 0 <= probability < 1 for probability in dropout):
        raise ValueError(
            f'dropout={tuple(dropout)} must be two probabilities in [0, 1), of level 6 and of level 7; segmentation '
            'has (0.3, 0.5)'
        )
    if pooling not in POOLING:
        raise ValueError(f'pooling={pooling!r} is unknown; choose one of {", ".join(map(repr, POOLING))}')
    if frozen_stages not in range(-1, 8):
        raise ValueError(f'frozen_stages={frozen_stages!r} must be in -1..7 (levels to freeze; -1 and 0 for none)')
