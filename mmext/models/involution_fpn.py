"""Feature pyramid whose output convolutions are involutions."""

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import fx, nn

from mmext.layers import Involution
from mmext.registry import MODELS

__all__ = ['InvolutionFPN']

EXTRA_SOURCES = ('on_input', 'on_lateral', 'on_output')


@MODELS.register_module()
class InvolutionFPN(BaseModule):
    """The FPN of mmdet and mmseg with an involution in place of each 3x3 output convolution.

    Levels beyond the backbone's are made as there: by pooling or by ordinary 3x3 convolutions of stride 2. Source:
    "Involution: Inverting the Inherence of Convolution for Visual Recognition" (CVPR 2021), section 5.2; "Feature
    Pyramid Networks for Object Detection" (CVPR 2017), section 3. Published keys: ``lateral_convs.N.conv.*``,
    ``fpn_convs.N.conv1.*``, ``fpn_convs.N.conv2.*``; extra levels ``fpn_convs.N.conv.*``.

    Args:
        in_channels (Sequence[int]): Channels of each backbone level.
        out_channels (int): Channels of every output, a multiple of ``group_channels``.
        num_outs (int): Number of outputs, at least the number of levels used.
        start_level (int): First backbone level used. Default: 0.
        end_level (int): Last backbone level used, *inclusive* as in mmdet 3; with one below the last, no extra levels
            are possible. Default: -1, the last.
        add_extra_convs (bool or str): How levels beyond the backbone's are made: False by pooling; 'on_input',
            'on_lateral' or 'on_output' by convolutions on the last backbone level, lateral or output; True see next.
            Default: False.
        extra_convs_on_inputs (bool): What ``add_extra_convs=True`` stands for: True 'on_input' (mmdet), False
            'on_output' (mmseg's default). Default: True.
        relu_before_extra_convs (bool): ReLU before each extra convolution but the first. Default: False.
        no_norm_on_lateral (bool): Leave the norm out of the laterals. Default: False.
        conv_cfg (dict, optional): Type of laterals and extra convolutions. Default: None, ``Conv2d``.
        norm_cfg (dict, optional): Norm of laterals and extra convolutions. Default: None.
        act_cfg (dict, optional): Activation of laterals and extra convolutions. Default: None.
        upsample_cfg (dict): Arguments of ``F.interpolate``; without ``scale_factor`` the size is that of the finer
            level. Default: ``dict(mode='nearest')``.
        kernel_size (int): Taps per side of the involutions, odd. Default: 7.
        group_channels (int): Channels that share one kernel. Default: 16.
        involution_norm_cfg (dict, optional): Norm inside the involutions. Default: ``dict(type='BN')``.
        involution_backend (str, optional): See :func:`mmext.ops.involution`. Default: None.
        init_cfg (dict): mmengine initialisation. Default: Xavier (uniform) for every convolution.

    Raises:
        ValueError: If levels, counts or names are not as above.
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        num_outs,
        start_level=0,
        end_level=-1,
        add_extra_convs=False,
        extra_convs_on_inputs=True,
        relu_before_extra_convs=False,
        no_norm_on_lateral=False,
        conv_cfg=None,
        norm_cfg=None,
        act_cfg=None,
        upsample_cfg=dict(mode='nearest'),
        kernel_size=7,
        group_channels=16,
        involution_norm_cfg=dict(type='BN'),
        involution_backend=None,
        init_cfg=dict(type='Xavier', layer='Conv2d', distribution='uniform'),
    ):
        super().__init__(init_cfg)
        levels = len(in_channels)
        last = levels - 1 if end_level == -1 else end_level
        if not 0 <= start_level <= last < levels:
            raise ValueError(
                f'start_level={start_level} and end_level={end_level} must satisfy 0 <= start_level <= end_level < '
                f'{levels} (in_channels has {levels} levels; end_level=-1 is the last)'
            )
        used = last - start_level + 1
        if num_outs < used or (last < levels - 1 and num_outs != used):
            exactly = 'at least' if last == levels - 1 else 'exactly'
            raise ValueError(
                f'num_outs={num_outs} must be {exactly} {used}, the levels {start_level}..{last} that are used'
            )
        if add_extra_convs is True:
            add_extra_convs = 'on_input' if extra_convs_on_inputs else 'on_output'
        if add_extra_convs and add_extra_convs not in EXTRA_SOURCES:
            raise ValueError(f'add_extra_convs={add_extra_convs!r} must be a bool or one of {EXTRA_SOURCES}')
        self.in_channels = list(in_channels)
        self.out_channels = out_channels
        self.num_outs = num_outs
        self.start_level = start_level
        self.last_level = last
        self.add_extra_convs = add_extra_convs
        self.relu_before_extra_convs = relu_before_extra_convs
        self.upsample_cfg = dict(upsample_cfg)

        conv = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg, inplace=False)
        lateral = dict(conv, norm_cfg=None) if no_norm_on_lateral else conv
        self.lateral_convs = nn.ModuleList(
            ConvModule(in_channels[level], out_channels, 1, **lateral) for level in range(start_level, last + 1)
        )
        self.fpn_convs = nn.ModuleList(
            Involution(
                out_channels,
                kernel_size,
                group_channels=group_channels,
                norm_cfg=involution_norm_cfg,
                backend=involution_backend,
            )
            for _ in range(used)
        )
        if add_extra_convs:
            for extra in range(num_outs - used):
                source = in_channels[last] if extra == 0 and add_extra_convs == 'on_input' else out_channels
                self.fpn_convs.append(ConvModule(source, out_channels, 3, stride=2, padding=1, **conv))

    def forward(self, inputs):
        """Fuse the backbone's levels from coarse to fine and make the outputs.

        Args:
            inputs (Sequence[Tensor]): One map [N, in_channels[i], H_i, W_i] per backbone level, fine to coarse.

        Returns:
            tuple[Tensor]: ``num_outs`` maps of ``out_channels``, fine to coarse.

        Raises:
            ValueError: If the number of maps is not that of ``in_channels``.
        """
        _check_levels(inputs, self.in_channels)
        laterals = [conv(inputs[level]) for level, conv in enumerate(self.lateral_convs, self.start_level)]
        for level in range(len(laterals) - 1, 0, -1):
            finer = laterals[level - 1]
            size = {} if 'scale_factor' in self.upsample_cfg else dict(size=finer.shape[2:])
            laterals[level - 1] = finer + F.interpolate(laterals[level], **size, **self.upsample_cfg)
        outs = [conv(x) for conv, x in zip(self.fpn_convs, laterals)]
        extra_convs = self.fpn_convs[len(laterals) :]
        if not self.add_extra_convs:
            while len(outs) < self.num_outs:
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        sources = dict(on_input=inputs[self.last_level], on_lateral=laterals[-1], on_output=outs[-1])
        for number, conv in enumerate(extra_convs):
            source = sources[self.add_extra_convs] if number == 0 else outs[-1]
            outs.append(conv(F.relu(source) if number and self.relu_before_extra_convs else source))
        return tuple(outs)


@fx.wrap  # a call of its own where the network is traced
def _check_levels(inputs, in_channels):
    if len(inputs) != len(in_channels):
        raise ValueError(
            f'{len(inputs)} feature maps came in, in_channels={in_channels} expects {len(in_channels)}; make the '
            "backbone's out_indices fit"
        )
