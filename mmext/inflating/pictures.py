"""Functions that know what the axes of a picture are: pools, norms, convolutions, resizing."""

import torch.nn.functional as F
from torch import fx

from .arguments import arguments
from .layouts import IMAGE, Layout
from .runtime import picture_size

__all__ = ['adaptive_pool', 'average_pool', 'channel_dropout', 'channel_norm', 'last_axes', 'per_frame']


def per_frame(rewriter, node):
    """Let a function do on every frame what it does in 2D."""
    rewriter.per_frame(node)


def adaptive_pool(rewriter, node):
    """Pool over all frames as well, which ends time."""
    x, size, indices = arguments(node, 'input', 'output_size', 'return_indices')
    layout = rewriter.layout(x)
    if indices or not isinstance(layout, Layout) or layout.rank != 4:
        rewriter.problem(node, 'is called with other than a tensor [N, C, H, W], or asked for indices')
        return
    average = rewriter.shape(node) is not None and 'avg' in str(getattr(node.target, '__name__', node.target))
    average = average or node.target is F.adaptive_avg_pool2d
    pool = F.adaptive_avg_pool3d if average else F.adaptive_max_pool3d
    if isinstance(size, int):
        size = (size, size)
    size = (1, *size) if isinstance(size, (tuple, list)) else rewriter.call(picture_size, rewriter.new(size))
    pooled = rewriter.call(pool, rewriter.at(x, 2), rewriter.new(size))
    rewriter.put(node, rewriter.call('squeeze', pooled, 2), None)


def average_pool(rewriter, node):
    """Pool every frame; over time as well where the window is all of the map."""
    x, kernel = arguments(node, 'input', 'kernel_size')
    rewriter.per_frame(node)
    shape, result = rewriter.shape(x), rewriter.shape(node)
    whole = isinstance(kernel, fx.Node) or kernel == shape[-1] or list(_pair(kernel)) == list(shape[-2:])
    if whole and shape[-2:] != (1, 1) and result[-2:] == (1, 1):
        rewriter.pool_over_time(node)


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def channel_norm(rewriter, node):
    """Move time behind the channels, on axis 1, and call the function for any number of axes."""
    x = node.args[0] if node.args else node.kwargs['input']
    layout = rewriter.layout(x)
    if not isinstance(layout, Layout) or layout.rank < 2 or rewriter.clips_in(node) != [x]:
        rewriter.problem(node, 'is called with other than one tensor [N, C, ...] that has time')
        return
    layout = layout.at(2)
    new = {x: rewriter.at(x, 2)}
    args, kwargs = (
        fx.map_arg(value, lambda source: new.get(source) or rewriter.new(source)) for value in (node.args, node.kwargs)
    )
    rewriter.put(node, rewriter.again(node, args, kwargs), layout)


def channel_dropout(rewriter, node):
    """Drop a channel in all frames."""
    x, p, training, inplace = arguments(node, 'input', 'p', 'training', 'inplace')
    layout = rewriter.layout(x)
    if not isinstance(layout, Layout) or layout.rank != 4 or node.target is not F.dropout2d:
        rewriter.problem(node, 'is called with other than a tensor [N, C, H, W]')
        return
    options = {'p': p, 'training': training, 'inplace': inplace}
    options = {name: value for name, value in options.items() if value is not None}
    rewriter.put(node, rewriter.call(F.dropout3d, rewriter.at(x, 2), **options), IMAGE)


def last_axes(rewriter, node):
    """Move time in front of the axes that the function works on, which are the last ones."""
    x, shape = arguments(node, 'input', 'normalized_shape')
    layout = rewriter.layout(x)
    many = len(shape) if isinstance(shape, (tuple, list)) else 1
    if not isinstance(layout, Layout) or rewriter.clips_in(node) != [x] or layout.rank <= many:
        rewriter.problem(node, 'is called with other than one tensor [N, ...] that has time')
        return
    layout = layout.at(min(layout.time, layout.rank - many))
    new = {x: rewriter.at(x, layout.time)}
    args, kwargs = (
        fx.map_arg(value, lambda source: new.get(source) or rewriter.new(source)) for value in (node.args, node.kwargs)
    )
    rewriter.put(node, rewriter.again(node, args, kwargs), layout)
