"""Inflation of layers without weights: activations, dropout, padding."""

from torch import nn
from torch.nn.modules import activation

from .carrying import copied, is_plain, plain

__all__ = ['inflate_activation', 'inflate_dropout', 'inflate_padding']

# every element by itself; PReLU has a slope for each channel, which is axis 1
ACTIVATIONS = tuple(
    getattr(activation, name)
    for name in (
        *('CELU', 'ELU', 'GELU', 'Hardshrink', 'Hardsigmoid', 'Hardswish', 'Hardtanh', 'LeakyReLU', 'LogSigmoid'),
        *('Mish', 'PReLU', 'RReLU', 'ReLU', 'ReLU6', 'SELU', 'SiLU', 'Sigmoid', 'Softplus', 'Softshrink', 'Softsign'),
        *('Tanh', 'Tanhshrink', 'Threshold'),
    )
)
DROPOUTS = (nn.Dropout, nn.AlphaDropout, nn.Dropout2d, nn.FeatureAlphaDropout)
PADDINGS = {
    nn.ZeroPad2d: nn.ZeroPad3d,
    nn.ConstantPad2d: nn.ConstantPad3d,
    nn.ReflectionPad2d: nn.ReflectionPad3d,
    nn.ReplicationPad2d: nn.ReplicationPad3d,
    nn.CircularPad2d: nn.CircularPad3d,
}


def inflate_activation(layer):
    """Copy an activation, which works on any number of axes.

    Every element becomes what it was in 2D, in static and in moving clips.

    Args:
        layer (nn.Module): An element-wise activation of ``torch.nn``, ``nn.PReLU`` included.

    Returns:
        nn.Module: A copy; nothing is shared.

    Raises:
        TypeError: If ``layer`` is none (``nn.Softmax`` and its kin work along an axis), or a subclass that computes
            something else.
    """
    plain(layer, ACTIVATIONS, 'element-wise activation')
    return copied(layer)


def inflate_dropout(layer):
    """Turn a dropout of pictures into one of clips.

    ``nn.Dropout2d`` becomes ``nn.Dropout3d``, which drops a channel in all frames; the others are copied. Without
    effect in evaluation mode.

    Args:
        layer (nn.Module): ``nn.Dropout``, ``nn.Dropout2d``, ``nn.AlphaDropout`` or ``nn.FeatureAlphaDropout``.

    Returns:
        nn.Module: A new module, in the mode of ``layer``.

    Raises:
        TypeError: If ``layer`` is none of them, or a subclass that computes something else.
    """
    plain(layer, DROPOUTS, 'dropout')
    if is_plain(layer, nn.Dropout2d):
        return nn.Dropout3d(layer.p, layer.inplace).train(layer.training)
    return copied(layer)


def inflate_padding(layer):
    """Turn a layer that pads pictures into one that pads the pictures of a clip, and adds no frames.

    Every frame becomes what it was in 2D, in static and in moving clips.

    Args:
        layer (nn.Module): ``nn.ZeroPad2d``, ``nn.ConstantPad2d``, ``nn.ReflectionPad2d``, ``nn.ReplicationPad2d`` or
            ``nn.CircularPad2d``.

    Returns:
        nn.Module: The layer of the same name with 3d, [N, C, T, H, W] -> [N, C, T, H', W'], in the mode of ``layer``.

    Raises:
        TypeError: If ``layer`` is none of them, or a subclass that computes something else.
    """
    base = plain(layer, tuple(PADDINGS), 'padding layer')
    value = (layer.value,) if base is nn.ConstantPad2d else ()
    return PADDINGS[base]((*layer.padding, 0, 0), *value).train(layer.training)
