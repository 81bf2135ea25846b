"""RedNet: the ResNet whose spatial convolutions are involutions."""

from mmcv.cnn import ConvModule, build_norm_layer
from torch import nn

from mmext.layers import Involution
from mmext.registry import MODELS

from .resnet_skeleton import ResNetSkeleton

__all__ = ['RedNet']

STEM_KEY = 'stem.1.conv2.conv.weight'


@MODELS.register_module()
class RedNet(ResNetSkeleton):
    """RedNet-26, 38, 50, 101 or 152, usable as a backbone in mmpretrain, mmdet, mmseg, mmpose and mmaction2.

    Source: "Involution: Inverting the Inherence of Convolution for Visual Recognition" (CVPR 2021), section 3. The
    state dict has the published keys (``stem.1.conv1.conv.weight``, ``layer1.0.conv2.conv2.conv.bias``, ...).

    Args:
        depth (int): 26, 38, 50, 101 or 152.
        stem_kernel (int): Taps per side of the stem's involution, odd. The published detection and segmentation
            code has 7, the published classification code has 3, most published figures belong to 7. Default: 7.
        involution_kernel (int): Taps per side of the blocks' involutions, odd. Default: 7.
        involution_norm_cfg (dict, optional): Norm inside the involutions and right after the stem's. Default:
            ``dict(type='BN')``, plain BatchNorm whatever ``norm_cfg`` is, as published.
        group_channels (int): Channels that share one kernel; the widths must be multiples of it. Default: 16.
        reduction_ratio (int): Bottleneck of the kernel-generating branch. Default: 4.
        involution_backend (str, optional): See :func:`mmext.ops.involution`. Default: None.
        **kwargs: The options of :class:`~mmext.models.resnet_skeleton.ResNetSkeleton`: in_channels, stem_channels,
            base_channels, expansion, num_stages, strides, dilations, out_indices, style, avg_down, frozen_stages,
            conv_cfg, norm_cfg, norm_eval, with_cp, zero_init_residual, init_cfg.

    Shapes:
        Input [N, in_channels, H, W]; outputs [N, 256 * 2^i, H / 2^(i+2), W / 2^(i+2)] for stage i, rounded up.

    Raises:
        ValueError: If an option is out of its range, or a loaded state dict has another stem kernel; the message names
            the option to set.

    Examples:
        >>> model = RedNet(50, out_indices=(3,))
        >>> model(torch.rand(1, 3, 224, 224))[0].shape
        torch.Size([1, 2048, 7, 7])
    """

    arch_settings = {
        26: (1, 2, 4, 1),
        38: (2, 3, 5, 2),
        50: (3, 4, 6, 3),
        101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
    }

    def __init__(
        self,
        depth,
        stem_kernel=7,
        involution_kernel=7,
        involution_norm_cfg=dict(type='BN'),
        group_channels=16,
        reduction_ratio=4,
        involution_backend=None,
        **kwargs,
    ):
        self.stem_kernel = stem_kernel
        self.involution_kernel = involution_kernel
        self._involution_cfg = dict(
            group_channels=group_channels,
            reduction_ratio=reduction_ratio,
            norm_cfg=involution_norm_cfg,
            backend=involution_backend,
        )
        super().__init__(depth, **kwargs)

    def make_stem(self, in_channels, stem_channels, norm_cfg):
        """Return conv 3x3 / 2, involution, conv 3x3, max pooling / 2, with norms and ReLUs between them."""
        half = stem_channels // 2
        norm_after = self._involution_cfg['norm_cfg'] or dict(type='BN')
        stem = nn.Sequential(
            ConvModule(in_channels, half, 3, stride=2, padding=1, norm_cfg=norm_cfg),
            Involution(half, self.stem_kernel, **self._involution_cfg),
            build_norm_layer(norm_after, half)[1],
            nn.ReLU(inplace=True),
            ConvModule(half, stem_channels, 3, padding=1, norm_cfg=norm_cfg),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        return dict(stem=stem)

    def make_spatial(self, channels, stride, dilation):
        """Return the involution of one block."""
        return Involution(channels, self.involution_kernel, stride, dilation=dilation, **self._involution_cfg)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        # mmengine loads backbones with strict=False and only logs a size mismatch: the stem would silently stay random
        found = state_dict.get(prefix + STEM_KEY)
        if found is not None:
            kernel = round((found.shape[0] / self.stem[1].groups) ** 0.5)
            if kernel != self.stem_kernel:
                raise ValueError(
                    f'the checkpoint has a stem involution of {kernel} x {kernel} ({prefix}{STEM_KEY} has shape '
                    f'{list(found.shape)}), this RedNet has stem_kernel={self.stem_kernel}; set stem_kernel={kernel}'
                )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
