"""Which convolutions and norms can be folded at all, and the folding of two."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize, prune
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .products import BatchedFoldedNorm, FoldedNorm

__all__ = ['HOOKS', 'fold', 'is_conv', 'is_norm', 'is_whole', 'layers_of', 'why_not']

# Only a forward that is known is known to be a convolution with ``weight`` plus ``bias`` and nothing else. Weight
# standardisation, quantisation-aware training and the like are subclasses of nn.Conv2d as well.
CONV_FORWARDS = {
    *(f'torch.nn.modules.conv.Conv{n}d.forward' for n in (1, 2, 3)),
    'mmcv.cnn.bricks.wrappers.Conv2d.forward',
    'mmcv.cnn.bricks.wrappers.Conv3d.forward',
    'mmcv.cnn.bricks.conv2d_adaptive_padding.Conv2dAdaptivePadding.forward',
    'mmext.layers.inception_conv.InceptionConv2d.forward',
}
CONV_PARTS = {
    *(f'torch.nn.modules.conv.Conv{n}d._conv_forward' for n in (1, 2, 3)),
    'mmext.ops.inflate.conv3d.InflatedConv3d._conv_forward',
}
NORM_FORWARDS = {
    'torch.nn.modules.batchnorm._BatchNorm.forward',
    'torch.nn.modules.batchnorm.SyncBatchNorm.forward',
}
# By the dimensions of what they take: they refuse the output of a convolution without a batch.
CHECKED = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
HOOKS = '_forward_pre_hooks', '_forward_hooks', '_backward_pre_hooks', '_backward_hooks'


def is_conv(module):
    """Say whether a module is a convolution that may take a norm up: one of 1, 2 or 3 dimensions, not transposed."""
    return isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))


def is_norm(module):
    """Say whether a module is a batch normalisation with statistics of its own."""
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def is_whole(module):
    """Say whether a module brings a form of its own for inference: a method ``fused``."""
    method = getattr(type(module), 'fused', None)
    # mmcv's sparse convolutions have a method of this name, which goes by declaration
    return callable(method) and not _name(method).startswith('mmcv.')


def layers_of(model, forward_known=True):
    """Return the convolutions and norms of a model that are not inside of a module with a form of its own.

    Args:
        model (nn.Module): The model.
        forward_known (bool): Leave out those whose ``forward`` is not known to be that of the plain layer, which are
            modules as any other. Default: True.

    Returns:
        list[nn.Module]: The convolutions and norms.
    """
    inside = {part for module in model.modules() if is_whole(module) for part in module.modules()}
    found = [module for module in model.modules() if module not in inside and (is_conv(module) or is_norm(module))]
    return [module for module in found if not forward_known or _own_forward(module) is None]


def why_not(conv, norm):
    """Say why a norm cannot be folded into the convolution in front of it.

    Args:
        conv (nn.Module): The convolution.
        norm (nn.Module): The norm, in evaluation mode.

    Returns:
        str or None: The reason, and what to do about it; None where it can.
    """
    for module in (conv, norm):
        reason = _changed(module) or _own_forward(module)
        if reason:
            return reason
    if norm.training:
        return f'the {type(norm).__name__} stays in training mode after model.eval(), with the statistics of each batch'
    for number, kind in enumerate((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), 1):
        if type(norm)._check_input_dim is kind._check_input_dim and len(conv.kernel_size) != number:
            return f'{type(norm).__name__} does not take the output of a {type(conv).__name__} with a batch dimension'
    if conv.out_channels != norm.num_features:
        return f'the norm has num_features={norm.num_features}, the convolution out_channels={conv.out_channels}'
    tensors = [*conv.parameters(recurse=False), *norm.parameters(recurse=False), norm.running_mean, norm.running_var]
    if any(tensor is None for tensor in tensors):
        return 'the norm has only one of running_mean and running_var'
    if any(tensor.is_meta for tensor in tensors):
        return 'there are tensors on the meta device, which have no values; load the weights first'
    if len({tensor.device for tensor in tensors}) > 1:
        return f'convolution and norm are on {conv.weight.device} and {norm.running_mean.device}; move them to one'
    if not all(tensor.is_floating_point() for tensor in tensors):
        return f'the weight is {conv.weight.dtype}, not floating point'
    mixed = conv.weight.dtype in (torch.float16, torch.bfloat16) and norm.running_mean.dtype == torch.float32
    if conv.weight.dtype != norm.running_mean.dtype and not mixed:
        return f'the convolution is {conv.weight.dtype}, the norm {norm.running_mean.dtype}; cast the model to one'
    return None


def _changed(module):
    """Say what was done to a module that replaces its weights or looks at its calls."""
    kind = type(module).__name__
    if parametrize.is_parametrized(module):
        return f'{kind} is parametrised; call torch.nn.utils.parametrize.remove_parametrizations on it first'
    if prune.is_pruned(module):
        return f"{kind} is pruned; call torch.nn.utils.prune.remove(module, 'weight') on it first"
    if hasattr(module, 'weight_g') or hasattr(module, 'weight_u'):
        name = 'weight' if hasattr(module, 'weight_g') else 'spectral'
        return f'{kind} has {name} normalisation; call torch.nn.utils.remove_{name}_norm on it first'
    if any(getattr(module, hooks, None) for hooks in HOOKS):
        return f'{kind} has hooks, which would see something else; remove them first'
    parameters = dict(module.named_parameters(recurse=False))
    if set(parameters) - {'weight', 'bias'} or any(
        getattr(module, name) is not parameters.get(name) for name in ('weight', 'bias')
    ):
        return f'{kind} has other parameters than weight and bias; make them what they are in the plain layer'
    return None


def _own_forward(module):
    kind = type(module)
    known = (
        _name(kind.forward) in (CONV_FORWARDS if is_conv(module) else NORM_FORWARDS)
        and kind.__call__ is nn.Module.__call__
    )
    if is_conv(module):
        known = known and _name(kind._conv_forward) in CONV_PARTS
    if known and not {'forward', '_conv_forward'} & set(vars(module)):
        return None
    return f'{kind.__name__} has a forward of its own, which may do more than the plain layer'


def _name(function):
    return f'{getattr(function, "__module__", None)}.{getattr(function, "__qualname__", None)}'


def fold(conv, norm):
    """Let a convolution do the work of the norm behind it, which becomes a :class:`FoldedNorm`, both in place.

    Args:
        conv (nn.Module): The convolution.
        norm (nn.Module): The norm, for which :func:`why_not` has no reason.

    Returns:
        str or None: Why it was not done; None where it was.
    """
    statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    with torch.no_grad():
        weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
        # of half precision with statistics in float32, PyTorch's versions return one or the other
        weight, bias = weight.to(conv.weight.dtype), bias.to(conv.weight.dtype)
        given = all(bool(tensor.isfinite().all()) for tensor in (conv.weight, *statistics[:2]))
        if given and not (weight.isfinite().all() and bias.isfinite().all()):
            return f'the folded weights are out of the range of {weight.dtype}; fold in torch.float32'
    conv.weight = nn.Parameter(weight.detach(), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach(), requires_grad=False)
    # the object itself, as it may be reached in other ways than by its name: from a list, under a second name
    dims = conv.weight.dim()
    checked = type(norm)._check_input_dim is getattr(CHECKED.get(dims), '_check_input_dim', None)
    norm.__dict__ = FoldedNorm().eval().__dict__
    norm.__class__ = FoldedNorm if checked else BatchedFoldedNorm
    if not checked:
        norm.dims = dims
    return None
