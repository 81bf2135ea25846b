"""Folding of batch normalisation into convolutions, for inference.

``mmcv.cnn.fuse_conv_bn`` folds in two dimensions only, also over what stands between the two, and a convolution that
several norms share once for each; so the pairs are found here, and PyTorch folds them.
"""

import copy
import itertools

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ['fuse']


def fuse(model):
    """Return a copy of a model for inference whose convolutions do the work of the norms behind them.

    A convolution and a batch normalisation are folded where they follow one another among the children of a module, as
    in the networks of the toolboxes and of this package, involution's kernel branch and :class:`InceptionConv2d`
    included. A convolution that stands in several places of the model is left as it is. The results are the same but
    for rounding; the copy is in evaluation mode and cannot be trained on from here, as its norms are gone.

    Args:
        model (nn.Module): Any model, whose norms have the statistics to use. It is not changed.

    Returns:
        nn.Module: The copy, in evaluation mode.

    Raises:
        ValueError: If there is nothing to fold; the message says what is needed.

    Examples:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        >>> fuse(model)
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
          (1): Identity()
          (2): ReLU()
        )
    """
    model = copy.deepcopy(model).eval()
    places = {}
    for parent in model.modules():
        for child in parent._modules.values():  # named_children() leaves out what it has seen
            places[child] = places.get(child, 0) + 1
    found = False
    for parent in list(model.modules()):
        for (_, conv), (name, norm) in itertools.pairwise(parent._modules.items()):
            if _foldable(conv, norm) and places[conv] == places[norm] == 1:
                _fold(conv, norm)
                parent._modules[name] = nn.Identity()
                found = True
    if not found:
        raise ValueError(
            f'{type(model).__name__} has no convolution that a batch normalisation follows; give a model that has, '
            'which has not been fused before'
        )
    return model


def _foldable(conv, norm):
    return (
        isinstance(conv, _ConvNd)
        and not isinstance(conv, _ConvTransposeNd)
        and isinstance(norm, _BatchNorm)
        and norm.running_mean is not None
        and conv.out_channels == norm.num_features
    )


def _fold(conv, norm):
    statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
    conv.weight = nn.Parameter(weight.detach(), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach(), requires_grad=False)
