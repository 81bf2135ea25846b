"""Kinds of layers: which function of :mod:`mmext.ops.inflate` stands for which module."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmext.ops import inflate as ops
from mmext.ops.inflate.carrying import copied, is_plain
from mmext.ops.inflate.elements import ACTIVATIONS, DROPOUTS, PADDINGS
from mmext.ops.inflate.pools import ADAPTIVE

__all__ = ['OPTIONS', 'inflated_layer', 'kind_of', 'runs_per_frame', 'traced_through']

# by name, as none of these packages need be installed or imported
ROW_WISE = (
    'mmcv.cnn.bricks.drop.DropPath',
    'timm.layers.drop.DropPath',
    'torchvision.ops.stochastic_depth.StochasticDepth',
)
PER_FRAME = ('mmext.layers.inception_conv.InceptionConv2d', 'mmext.layers.involution.Involution')
CHANNEL = nn.SyncBatchNorm, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.LocalResponseNorm, nn.PReLU
TRACED_THROUGH = (
    *(nn.ChannelShuffle, nn.Flatten, nn.GLU, nn.Identity, nn.LogSoftmax, nn.PixelShuffle, nn.PixelUnshuffle),
    *(nn.Softmax, nn.Unflatten, nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d),
)

# What takes options of a rule. The others are: 'element' (any axes), 'channel' (channels on axis 1), 'picture'
# ([N, C, T, H, W]), 'last' (works on the last axes), 'frames' (as it is, on every frame).
OPTIONS = {
    'conv': (
        *('temporal_kernel', 'temporal_stride', 'temporal_padding', 'temporal_dilation', 'mode'),
        'temporal_padding_mode',
    ),
    'pool': ('temporal_kernel', 'temporal_stride', 'temporal_padding'),
    'linear': ('frames',),
}


def kind_of(module):
    """Return the kind of a layer, or None for a module that is none."""
    names = [f'{cls.__module__}.{cls.__qualname__}' for cls in type(module).__mro__]
    if any(name in PER_FRAME for name in names):
        return 'frames'
    if names[0] in ROW_WISE:
        return 'element'
    for kind, bases in (
        ('conv', (nn.Conv2d,)),
        ('frames', (nn.ConvTranspose2d,)),
        ('channel', CHANNEL),
        ('pool', (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d)),
        ('global', tuple(ADAPTIVE)),
        ('picture', (*PADDINGS, nn.Dropout2d, nn.FeatureAlphaDropout)),
        ('element', (*ACTIVATIONS, *DROPOUTS)),
        ('linear', (nn.Linear,)),
        ('last', (nn.LayerNorm,)),
    ):
        if any(is_plain(module, base) for base in bases):
            return kind
    return None


def traced_through(module):
    """Say whether a module of ``torch.nn`` is known by the functions that it calls."""
    return type(module) in TRACED_THROUGH


def runs_per_frame(module, kind):
    """Say whether a layer runs on every frame unless a rule says otherwise.

    Some convolutions have no 3D form, and PyTorch's 3D average pooling refuses maps smaller than the kernel, which the
    2D one takes.
    """
    if kind == 'conv':
        uneven = any(d * (k - 1) % 2 for d, k in zip(module.dilation, module.kernel_size))
        return module.padding_mode != 'zeros' or (module.padding == 'same' and uneven)
    return kind == 'frames' or isinstance(module, nn.AvgPool2d)


def inflated_layer(module, kind, options):
    """Return the 3D form of a layer.

    Args:
        module (nn.Module): The 2D layer.
        kind (str): What :func:`kind_of` says.
        options (dict): Those of its rule, empty for the default.

    Returns:
        nn.Module: A new module; time is one tap wide unless ``options`` say otherwise.
    """
    if kind == 'conv':
        return ops.inflate_conv(module, **{'temporal_kernel': 1, **options})
    if kind in ('pool', 'global'):
        return ops.inflate_pool(module, **options)
    if kind == 'linear' and options:
        return ops.inflate_linear(module, **options)
    if isinstance(module, (_BatchNorm, nn.InstanceNorm2d)):
        return ops.inflate_norm(module)
    if any(is_plain(module, base) for base in PADDINGS):
        return ops.inflate_padding(module)
    if any(is_plain(module, base) for base in DROPOUTS):
        return ops.inflate_dropout(module)
    return copied(module)
