"""DenseNet inflated to 3D, for clips."""

import torch
from mmcv.cnn import build_norm_layer
from torch import nn

from mmext.ops.inflate.conv3d import InflatedConv3d
from mmext.registry import MODELS

from .dense_block import DenseBlock, DenseFeatures, Transition
from .freezing import FreezableBackbone
from .inflated_resnet import as_clip
from .pretrained_2d import load_pretrained, mark_initialised

__all__ = ['InflatedDenseNet']

TRANSITIONS = 3
torch.fx.wrap('as_clip')  # a call in what torch.fx traces, here as in the module that it is from
# our keys for other names of the same network: torchvision's checkpoints before 2018, and mmpretrain's
NAMES = (
    (r'^(.*denselayer\d+\.(?:norm|conv))\.(\d\.)', r'\1\2'),
    (r'^stem\.0\.', 'features.conv0.'),
    (r'^stem\.1\.', 'features.norm0.'),
    (r'^transitions\.3\.0\.', 'features.norm5.'),
)


@MODELS.register_module()
class InflatedDenseNet(FreezableBackbone):
    """Inflated DenseNet-121, 161, 169 or 201, a backbone for mmaction2's ``Recognizer3D``.

    The stem sees one frame at a time; so do the blocks' 3x3 convolutions, or three with ``inflate_block_convs``. The
    three transitions halve time as they halve the picture. Of a static clip, the network makes what the 2D one makes of
    the image. Keys are those of torchvision's DenseNet.

    Source: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017), section 2.4; "Densely
    Connected Convolutional Networks" (CVPR 2017), table 1. Kernels and strides along time are those of the published
    inflated DenseNets.

    Args:
        depth (int): 121, 161, 169 or 201.
        pretrained (str, optional): Checkpoint to start from: a path, a URL, or such as ``'torchvision://densenet121'``.
            Default: None.
        pretrained2d (bool): Whether ``pretrained`` is of the 2D network (torchvision or mmpretrain), to be inflated.
            Default: True.
        inflate_block_convs (bool): Whether the blocks' 3x3 convolutions see three frames, each with a third of the 2D
            weight, the first and last frame repeated. Default: True.
        in_channels (int): Channels of a frame. Default: 3.
        growth (int, optional): Channels that a layer adds. Default: None, as published: 32, 48 for 161.
        stem_channels (int, optional): Channels of the stem. Default: None, as published: 64, 96 for 161.
        out_indices (Sequence[int]): Blocks whose outputs are returned, within 0..3. Default: (3,).
        frozen_stages (int): Freeze the stem and this many blocks with the transitions behind them: -1 none, 0 the stem,
            up to 4. Frozen parts stay in eval mode. Default: -1.
        norm_cfg (dict): Type of the norms. Default: ``dict(type='BN3d', requires_grad=True)``.
        norm_eval (bool): Keep every BatchNorm in eval mode while training. Default: False.
        with_cp (bool): Recompute each layer's activations in the backward pass. Default: False.
        channels_last (bool, optional): Compute in ``torch.channels_last_3d``. Default: None, on the CPU in evaluation
            mode.
        init_cfg (dict or list[dict], optional): mmengine initialisation. Default: None, that is Kaiming (normal, fan
            in, ReLU) for every convolution and 1 / 0 for every norm.

    Shapes:
        Input [N, in_channels, T, H, W] with T at least 8 and H, W at least 29. Output of block i [N, C, T // 2^i, H',
        W']; the stem halves H and W twice, rounded up, each transition once, rounded down. The last block's output has
        gone through the final norm and ReLU; the others' are as their transitions take them. One output is returned as
        a tensor, several as a tuple.

    Raises:
        ValueError: If an option is out of its range, a clip leaves nothing after the pools, or, when weights are
            initialised, a checkpoint does not fit.

    Examples:
        >>> model = InflatedDenseNet(121)
        >>> model(torch.rand(1, 3, 8, 64, 64)).shape
        torch.Size([1, 1024, 1, 2, 2])
    """

    # blocks' layers, growth, channels of the stem
    arch_settings = {
        121: ((6, 12, 24, 16), 32, 64),
        161: ((6, 12, 36, 24), 48, 96),
        169: ((6, 12, 32, 32), 32, 64),
        201: ((6, 12, 48, 32), 32, 64),
    }

    def __init__(
        self,
        depth,
        pretrained=None,
        pretrained2d=True,
        inflate_block_convs=True,
        in_channels=3,
        growth=None,
        stem_channels=None,
        out_indices=(3,),
        frozen_stages=-1,
        norm_cfg=dict(type='BN3d', requires_grad=True),
        norm_eval=False,
        with_cp=False,
        channels_last=None,
        init_cfg=None,
    ):
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer=['Conv3d', 'InflatedConv3d'], mode='fan_in'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        if depth not in self.arch_settings:
            raise ValueError(f'depth={depth!r} is unknown; choose one of {list(self.arch_settings)}')
        if not out_indices or any(index not in range(4) for index in out_indices):
            raise ValueError(f'out_indices={tuple(out_indices)} must be one or more of (0, 1, 2, 3) (blocks)')
        if frozen_stages not in range(-1, 5):
            raise ValueError(f'frozen_stages={frozen_stages!r} must be in -1..4 (-1 none, 0 the stem)')
        counts, published_growth, published_stem = self.arch_settings[depth]
        growth, channels = growth or published_growth, stem_channels or published_stem
        self.depth = depth
        self.pretrained = pretrained
        self.pretrained2d = pretrained2d
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.channels_last = channels_last

        self.features = DenseFeatures(self.out_indices)
        self.features.conv0 = InflatedConv3d(
            in_channels, channels, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False
        )
        self.features.norm0 = build_norm_layer(norm_cfg, channels)[1]
        self.features.relu0 = nn.ReLU(inplace=True)
        self.features.pool0 = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        temporal_kernel = 3 if inflate_block_convs else 1
        for index in range(max(out_indices) + 1):
            block = DenseBlock(counts[index], channels, growth, temporal_kernel, norm_cfg, with_cp)
            self.features.add_module(f'denseblock{index + 1}', block)
            channels += counts[index] * growth
            if index < max(out_indices):
                self.features.add_module(f'transition{index + 1}', Transition(channels, channels // 2, norm_cfg))
                channels //= 2
        if 3 in self.out_indices:
            self.features.norm5 = build_norm_layer(norm_cfg, channels)[1]
            self.features.relu5 = nn.ReLU(inplace=True)
        self.feat_dim = channels
        self._freeze_stages()

    def init_weights(self):
        """Load ``pretrained``, inflated where it is of the 2D network; without it, initialise as ``init_cfg`` says."""
        if self.pretrained is None:
            super().init_weights()
            return
        names = [*NAMES]
        for index in range(4):
            names.append((rf'^stages\.{index}\.block\.(\d+)\.', _Layer(index + 1)))
            names.append((rf'^transitions\.{index}\.', f'features.transition{index + 1}.'))
        modes = {name: 'average' for name, module in self.named_modules() if name.endswith('.conv2')}
        load_pretrained(self, self.pretrained, self.pretrained2d, names, modes)
        mark_initialised(self)

    def frozen_parts(self):
        """Return the modules that ``frozen_stages`` freezes, but for what is not built."""
        if self.frozen_stages < 0:
            return []
        names = ['conv0', 'norm0']
        names += [f'{part}{k + 1}' for k in range(self.frozen_stages) for part in ('denseblock', 'transition')]
        names += ['norm5'] if self.frozen_stages == 4 else []
        return [getattr(self.features, name) for name in names if hasattr(self.features, name)]

    def forward(self, x):
        """Compute the feature maps.

        Args:
            x (Tensor): Clips [N, in_channels, T, H, W].

        Returns:
            Tensor or tuple[Tensor]: The outputs of the blocks in ``out_indices``, in ascending order.

        Raises:
            ValueError: If ``x`` is no clip, or leaves nothing after the pools.
        """
        check_size(x, max(self.out_indices))
        return self.features(as_clip(x, self.channels_last, self.training))


@torch.fx.wrap  # sizes are not known while torch.fx traces
def check_size(x, transitions):
    """Raise unless a clip leaves something after so many transitions, each of which halves all three sizes."""
    if x.ndim != 5 or torch.jit.is_tracing():
        return  # as_clip refuses the one; the other's program takes clips of any size
    size = sizes = tuple(x.shape[2:])
    sizes = (sizes[0], *((length + 3) // 4 for length in sizes[1:]))  # the stem halves twice, rounded up
    for number in range(1, transitions + 1):
        if min(sizes) < 2:
            raise ValueError(
                f'a clip of {size[0]} frames of {size[1]} x {size[2]} pixels is {sizes[0]} frames of {sizes[1]} x '
                f'{sizes[2]} before transition{number}, which halves all three; give at least {2**TRANSITIONS} frames '
                'of 29 x 29 pixels'
            )
        sizes = tuple(length // 2 for length in sizes)


class _Layer:
    """Replacement of mmpretrain's name of a layer, which counts from 0."""

    def __init__(self, block):
        self.block = block

    def __call__(self, match):
        return f'features.denseblock{self.block}.denselayer{int(match[1]) + 1}.'
