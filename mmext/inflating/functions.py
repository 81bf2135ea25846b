"""Which handler stands for which function of PyTorch, or method of a tensor."""

import builtins
import operator
import re

import torch
import torch.nn.functional as F

from . import axes, indexing, pictures, reductions
from .elementwise import concatenate, convert, elementwise, keep

__all__ = ['OVER_FRAMES', 'function_name', 'handler_of', 'shown']

# names in functions of torch, torch.nn.functional and operator, and of methods; also with a _ at the end
ELEMENTWISE = """
    __add__ __mul__ abs add addcmul alpha_dropout bernoulli celu clamp clamp_max clamp_min clip clone
    contiguous cos detach div dropout elu empty_like eq erf exp expand_as floordiv full_like
    ge gelu gt hardshrink hardsigmoid hardswish hardtanh le leaky_relu lerp log
    logsigmoid lt masked_fill maximum minimum mish mul multiply ne neg ones_like pow rand_like randn_like reciprocal
    relu relu6 requires_grad_ rrelu rsqrt rsub selu sigmoid sign silu sin softplus softshrink softsign sqrt square
    sub subtract tanh tanhshrink threshold true_divide truediv where zeros_like
"""
PER_FRAME = """
    affine_grid channel_shuffle conv2d conv_transpose2d grid_sample pad pixel_shuffle pixel_unshuffle unfold
"""
ALONG = """
    chunk cumsum flip glu log_softmax normalize roll softmax softmin split
"""
CONVERTING = """
    bfloat16 cpu cuda double float half to type type_as
"""
REDUCING = """
    amax amin argmax argmin logsumexp max mean min prod std sum var
"""
HANDLERS = {
    'adaptive_avg_pool2d': pictures.adaptive_pool,
    'adaptive_max_pool2d': pictures.adaptive_pool,
    'adaptive_max_pool2d_with_indices': pictures.adaptive_indices,
    'avg_pool2d': pictures.average_pool,
    'interpolate': pictures.resize,
    'lp_pool2d': pictures.lp_pool,
    'max_pool2d': pictures.max_pool,
    'max_pool2d_with_indices': pictures.max_pool,
    'batch_norm': pictures.channels,
    'group_norm': pictures.channels,
    'instance_norm': pictures.channels,
    'prelu': pictures.channels,
    'local_response_norm': pictures.channels,
    'dropout2d': pictures.channel_dropout,
    'feature_alpha_dropout': pictures.channels,
    'feature_dropout': pictures.channels,
    'layer_norm': pictures.last_axes,
    'linear': pictures.last_axes,
    'cat': concatenate,
    'concat': concatenate,
    'concatenate': concatenate,
    'stack': concatenate,
    'flatten': axes.flatten,
    'getattr': axes.attribute,
    'getitem': indexing.getitem,
    'permute': axes.permute,
    'reshape': axes.reshape,
    'view': axes.reshape,
    'size': axes.size,
    'dim': axes.number_of_axes,
    'squeeze': axes.squeeze,
    'swapaxes': axes.transpose,
    'swapdims': axes.transpose,
    'transpose': axes.transpose,
    'unflatten': axes.unflatten,
    'unsqueeze': axes.unsqueeze,
    **dict.fromkeys(REDUCING.split(), reductions.reduce),
    **dict.fromkeys(ALONG.split(), reductions.along),
    **dict.fromkeys(PER_FRAME.split(), pictures.per_frame),
    **dict.fromkeys(ELEMENTWISE.split(), elementwise),
    **dict.fromkeys(CONVERTING.split(), convert),
    **dict.fromkeys(('is_floating_point', 'get_device'), keep),
}
# with statistics over all frames of a clip
OVER_FRAMES = ('batch_norm', 'group_norm', 'instance_norm')
# row-wise dropping of branches, on any number of axes
BY_QUALIFIED_NAME = {
    'torchvision.ops.stochastic_depth.stochastic_depth': elementwise,
    'mmcv.cnn.bricks.drop.drop_path': elementwise,
    'timm.layers.drop.drop_path': elementwise,
    'mmext.models.wider_resnet._check_size': keep,  # of height and width, the last axes of clips as well
}


def _names():
    names = {}
    for name in HANDLERS:
        for space in (operator, F, torch, torch._C._nn, builtins):
            for spelling in (name, f'{name}_'):
                function = getattr(space, spelling, None)
                if callable(function) and not isinstance(function, type):
                    names.setdefault(function, name)
    return names


NAMES = _names()
PRIVATE = re.compile(r'^torch\._C\._(\w+)\.\1_')  # such as torch._C._fft.fft_fft2, which is torch.fft.fft2


def function_name(node):
    """Return the name by which a node's function is known here, None for an unknown one."""
    if node.op == 'call_method':
        name = node.target
        return name if name in HANDLERS else name.rstrip('_')
    return NAMES.get(node.target)


def handler_of(node):
    """Return what rewrites a call of a function or method, None if nothing is known about it.

    Args:
        node (fx.Node): The call in the 2D network.

    Returns:
        Callable: Takes the rewriter and the node.
    """
    name = function_name(node)
    if name in HANDLERS:
        return HANDLERS[name]
    return BY_QUALIFIED_NAME.get(f'{getattr(node.target, "__module__", "")}.{getattr(node.target, "__name__", "")}')


def shown(node):
    """Return the name of a function or method, as it is written in a rule."""
    if node.op == 'call_method':
        return f'torch.Tensor.{node.target}'
    module = getattr(node.target, '__module__', None) or 'torch'
    name = f'{module}.{getattr(node.target, "__name__", node.target)}'.replace('torch._C._nn.', 'torch.nn.functional.')
    return PRIVATE.sub(r'torch.\1.', name)
