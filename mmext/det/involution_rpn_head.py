"""Region proposal head whose convolution is an involution."""

from mmdet.models.dense_heads import RPNHead
from torch import nn

from mmext.layers import Involution
from mmext.registry import MODELS

__all__ = ['InvolutionRPNHead']


@MODELS.register_module()
class InvolutionRPNHead(RPNHead):
    """mmdet's ``RPNHead`` with an involution in place of the 3x3 convolution.

    Source: "Involution: Inverting the Inherence of Convolution for Visual Recognition" (CVPR 2021), section 5.2.
    Published keys: ``rpn_conv.conv1.*``, ``rpn_conv.conv2.*``, ``rpn_cls.*``, ``rpn_reg.*``.

    Args:
        in_channels (int): Channels of the pyramid, a multiple of ``group_channels``.
        feat_channels (int, optional): Must equal ``in_channels``, the width an involution keeps. Default: None, that is
            ``in_channels``.
        kernel_size (int): Taps per side, odd. Default: 7.
        group_channels (int): Channels that share one kernel. Default: 16.
        involution_norm_cfg (dict, optional): Norm inside the involution. Default: ``dict(type='BN')``.
        involution_backend (str, optional): See :func:`mmext.ops.involution`. Default: None.
        init_cfg (dict): mmengine initialisation. Default: normal with std 0.01 for ``rpn_cls`` and ``rpn_reg``; the
            involution keeps its own, as published.
        **kwargs: Everything else is mmdet's ``RPNHead``.

    Raises:
        ValueError: If ``feat_channels`` differs from ``in_channels``, or as :class:`mmext.layers.Involution`.
    """

    def __init__(
        self,
        in_channels,
        feat_channels=None,
        kernel_size=7,
        group_channels=16,
        involution_norm_cfg=dict(type='BN'),
        involution_backend=None,
        init_cfg=dict(type='Normal', std=0.01, override=[dict(name='rpn_cls'), dict(name='rpn_reg')]),
        **kwargs,
    ):
        if feat_channels not in (None, in_channels):
            raise ValueError(
                f'feat_channels={feat_channels} differs from in_channels={in_channels}; an involution keeps the width, '
                f'so set feat_channels={in_channels} or leave it out'
            )
        self._involution_cfg = dict(
            kernel_size=kernel_size,
            group_channels=group_channels,
            norm_cfg=involution_norm_cfg,
            backend=involution_backend,
        )
        super().__init__(in_channels, feat_channels=in_channels, init_cfg=init_cfg, **kwargs)

    def _init_layers(self):
        super()._init_layers()
        convs = [Involution(self.in_channels, **self._involution_cfg) for _ in range(self.num_convs)]
        relus = [nn.ReLU() for _ in convs[1:]]  # RPNHead itself applies the last one
        layers = [layer for pair in zip(convs, relus) for layer in pair] + convs[-1:]
        self.rpn_conv = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
