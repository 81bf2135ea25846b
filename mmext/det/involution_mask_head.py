"""Mask head whose convolutions are involutions."""

from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from torch import nn

from mmext.layers import Involution
from mmext.registry import MODELS

__all__ = ['InvolutionMaskHead']


@MODELS.register_module()
class InvolutionMaskHead(FCNMaskHead):
    """mmdet's ``FCNMaskHead`` with involutions in place of the 3x3 convolutions. It takes zero RoIs.

    Source: "Involution: Inverting the Inherence of Convolution for Visual Recognition" (CVPR 2021), section 5.2.
    Published keys: ``convs.N.0.conv1.*``, ``convs.N.0.conv2.*``, ``upsample.*``, ``conv_logits.*``.

    Args:
        num_convs (int): Number of involutions. Default: 4.
        in_channels (int): Channels of the RoI features, a multiple of ``group_channels``. Default: 256.
        conv_out_channels (int, optional): Must equal ``in_channels``, the width an involution keeps. Default: None,
            that is ``in_channels``.
        kernel_size (int): Taps per side, odd. Default: 7.
        group_channels (int): Channels that share one kernel. Default: 16.
        involution_norm_cfg (dict, optional): Norm inside the involutions. Default: ``dict(type='BN')``.
        involution_backend (str, optional): See :func:`mmext.ops.involution`. Default: None.
        **kwargs: Everything else is mmdet's ``FCNMaskHead``.

    Raises:
        ValueError: If ``conv_out_channels`` differs from ``in_channels``, or as :class:`mmext.layers.Involution`.
    """

    def __init__(
        self,
        num_convs=4,
        in_channels=256,
        conv_out_channels=None,
        kernel_size=7,
        group_channels=16,
        involution_norm_cfg=dict(type='BN'),
        involution_backend=None,
        **kwargs,
    ):
        if conv_out_channels not in (None, in_channels):
            raise ValueError(
                f'conv_out_channels={conv_out_channels} differs from in_channels={in_channels}; an involution keeps '
                f'the width, so set conv_out_channels={in_channels} or leave it out'
            )
        # zero convolutions for the base class: what it builds after them depends on the widths alone, which are equal
        super().__init__(num_convs=0, in_channels=in_channels, conv_out_channels=in_channels, **kwargs)
        self.num_convs = num_convs
        for _ in range(num_convs):
            involution = Involution(
                in_channels,
                kernel_size,
                group_channels=group_channels,
                norm_cfg=involution_norm_cfg,
                backend=involution_backend,
            )
            self.convs.append(nn.Sequential(involution, nn.ReLU(inplace=True)))
