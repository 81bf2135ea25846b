"""The counting behind the published tables of the involution family: one rule per type of layer.

The tables were made with the layer counter of mmcv 1.x, to which the involution itself was added. What it counts, and
how, is :data:`RULES`; whatever is not a layer in that table counts nothing (functional ReLU, pooling and interpolation,
synchronised BatchNorm, additions, RoIAlign, softmax, dropout).
"""

from decimal import ROUND_HALF_UP, Decimal

__all__ = ['count_published', 'to_printed']


def _convolution(layer, x, y):
    taps = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels // layer.groups
    return y.numel() * (taps + (layer.bias is not None))


def _transposed_convolution(layer, x, y):
    count = layer.weight.numel() * x.numel() // layer.in_channels
    if layer.bias is not None:
        count += y.shape[0] * y.shape[1] * y.shape[2] * y.shape[2]  # the original counter squares the height
    return count


def _inputs(layer, x, y):
    return x.numel()


def _outputs(layer, x, y):
    return y.numel()


# Name of a layer's class or of one it derives from -> kind, count(layer, input, output). By name, because mmseg has an
# Upsample of its own and no toolbox may be imported for a table.
RULES = {
    'Conv2d': ('convolution', _convolution),
    'ConvTranspose2d': ('convolution', _transposed_convolution),
    'Involution': ('aggregation', lambda layer, x, y: layer.kernel_size**2 * y.numel()),
    'Linear': ('linear', lambda layer, x, y: x.numel() * layer.out_features),
    'BatchNorm2d': ('norm', lambda layer, x, y: (1 + layer.affine) * x.numel()),
    'ReLU': ('activation', _outputs),
    'MaxPool2d': ('pooling', _inputs),
    'AvgPool2d': ('pooling', _inputs),
    'AdaptiveAvgPool2d': ('pooling', _inputs),
    'Upsample': ('upsampling', _outputs),
}


def _rule(layer):
    return next((RULES[cls.__name__] for cls in type(layer).__mro__ if cls.__name__ in RULES), None)


def count_published(module, inputs, name='', leave_out=()):
    """Run a module and count its layers by :data:`RULES`.

    Args:
        module (nn.Module): What is run.
        inputs (Sequence): Its arguments.
        name (str): Where the module is in its network, such as 'roi_head.mask_head'. Default: '', the network itself.
        leave_out (Sequence[str]): Layers that are not counted, with all that is in them, named from the network.

    Returns:
        tuple: The outputs, and {kind of layer: int} in multiply-adds, with the kinds of :data:`RULES`.
    """
    counts = dict.fromkeys((kind for kind, _ in RULES.values()), 0)

    def hook(layer, inputs, output):
        kind, count = _rule(layer)
        counts[kind] += count(layer, inputs[0], output)

    handles = [
        layer.register_forward_hook(hook)
        for path, layer in module.named_modules(prefix=name)
        if _rule(layer) and not any(f'{path}.'.startswith(f'{left}.') for left in leave_out)
    ]
    try:
        outputs = module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, counts


def to_printed(value, decimals):
    """Round as the published tables were: half up to two decimals, and half up from there.

    Args:
        value (int, float or Decimal): For example multiply-adds in units of 1e9.
        decimals (int): Digits after the point in the table, 0 to 2.

    Returns:
        Decimal: The printed number; 177.845 with one decimal gives 177.9.

    Raises:
        ValueError: If ``decimals`` is not in 0..2.
    """
    if decimals not in (0, 1, 2):
        raise ValueError(f'decimals={decimals!r} must be 0, 1 or 2: the tables were rounded from two decimals')
    twice = Decimal(str(value)).quantize(Decimal('0.01'), ROUND_HALF_UP)
    return twice.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
