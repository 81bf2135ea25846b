"""Functions that know what the axes of a picture are: pools, norms, convolutions, resizing."""

import torch.nn.functional as F
from torch import fx

from .arguments import Refused, bind, example
from .layouts import IMAGE
from .runtime import picture_size

__all__ = [
    'adaptive_indices',
    'adaptive_pool',
    'average_pool',
    'channel_dropout',
    'channels',
    'is_whole',
    'last_axes',
    'lp_pool',
    'max_pool',
    'per_frame',
    'resize',
]


def per_frame(rewriter, node):
    """Let a function do on every frame what it does in 2D."""
    rewriter.per_frame(node)


def adaptive_pool(rewriter, node):
    """Pool over all frames as well, which ends time."""
    call = bind(node, known=('output_size',))
    x, size = call.tensor, call['output_size']
    if rewriter.clip(x).rank != 4:
        raise Refused('is called with other than a tensor [N, C, H, W]')
    pool = F.adaptive_avg_pool3d if rewriter.name(node) == 'adaptive_avg_pool2d' else F.adaptive_max_pool3d
    if isinstance(size, int):
        size = (size, size)
    if isinstance(size, (tuple, list)):
        size = rewriter.new((1, *size))
    else:
        size = rewriter.call(picture_size, rewriter.new(size))
    pooled = rewriter.call(pool, rewriter.at(x, 2), size)
    rewriter.put(node, rewriter.call('squeeze', pooled, 2), None)


def adaptive_indices(rewriter, node):
    """Refuse indices of maxima, which would count through all frames."""
    raise Refused('is called with return_indices=True, which has no 3D form; leave return_indices out')


def average_pool(rewriter, node):
    """Pool every frame; over time as well where the window is all of the map."""
    call = bind(node, known=('kernel_size', 'padding'), passed=AVERAGE)
    rewriter.per_frame(node)
    kernel_size, shape = example(call['kernel_size']), rewriter.shape(call.tensor)
    computed = kernel_size != call['kernel_size']  # from the map's own size, which may be one pixel
    if is_whole(kernel_size, example(call['padding']), shape, rewriter.shape(node), least=1 if computed else 2):
        rewriter.pool_over_time(node)


def max_pool(rewriter, node):
    """Pool every frame; over time as well where the window is the size of the map, which is asked for."""
    call = bind(node, known=('kernel_size', 'padding'), passed=(*MAXIMUM, 'return_indices'))
    rewriter.per_frame(node)
    if _asks_for_all(rewriter, node, call):
        if isinstance(node.meta['frame_shape'], list):
            raise Refused('is over a whole picture with return_indices=True, which has no 3D form')
        rewriter.pool_over_time(node, 'amax')


def lp_pool(rewriter, node):
    """Pool every frame; refused where the window is the size of the map, as a sum grows with the number of frames."""
    call = bind(node, known=('kernel_size',), passed=('norm_type', 'stride', 'ceil_mode'))
    if _asks_for_all(rewriter, node, call):
        raise Refused('is over a whole picture, and not the same over a static clip')
    rewriter.per_frame(node)


def resize(rewriter, node):
    """Resize every frame; refused where this averages all of it."""
    x, size = rewriter.shape(node.all_input_nodes[0]), rewriter.shape(node)
    modes = node.kwargs.get('mode'), *node.args[3:4]
    if 'area' in modes and size is not None and x[-2] * x[-1] > 1 and size[-2] * size[-1] == 1:
        raise Refused('averages a whole picture; use torch.nn.functional.adaptive_avg_pool2d, which is over time too')
    rewriter.per_frame(node)


def _asks_for_all(rewriter, node, call):
    """Say whether the window of a pool is computed to be all of the map, such as by ``x.shape[-2:]``.

    A number of pixels that happens to be this is a window like others, as in a network for small images.
    """
    kernel_size, shapes = example(call['kernel_size']), _first(node.meta['frame_shape'])
    padding = example(call['padding']) or 0
    computed = kernel_size != call['kernel_size']
    return computed and is_whole(kernel_size, padding, rewriter.shape(call.tensor), shapes, least=1)


def _first(shapes):
    return shapes[0] if isinstance(shapes, list) else shapes


MAXIMUM = ('stride', 'dilation', 'ceil_mode')
AVERAGE = ('stride', 'ceil_mode', 'count_include_pad', 'divisor_override')


def is_whole(kernel_size, padding, shape, result, least=2):
    """Say whether the only window of an average pooling is all of a map of at least so many pixels."""
    whole = _pair(kernel_size) == shape[-2:] and shape[-2] * shape[-1] >= least
    return whole and result[-2:] == (1, 1) and _pair(padding) == (0, 0)


def _pair(value):
    value = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return value if len(value) == 2 else value * 2


def channels(rewriter, node):
    """Move time behind the channels, on axis 1, and call the function for any number of axes."""
    x = node.args[0] if node.args else node.kwargs['input']
    layout = rewriter.clip(x)
    if layout.rank < 2 or rewriter.clips_in(node) != [x]:
        raise Refused('is called with other than one tensor [N, C, ...] that has time')
    _on(rewriter, node, x, layout.at(2))


def channel_dropout(rewriter, node):
    """Drop a channel in all frames."""
    call = bind(node, passed=('p', 'training', 'inplace'))
    if rewriter.clip(call.tensor).rank != 4:
        raise Refused('is called with other than a tensor [N, C, H, W]')
    new = rewriter.call(F.dropout3d, rewriter.at(call.tensor, 2), **rewriter.new(call.given))
    rewriter.put(node, new, IMAGE)


def last_axes(rewriter, node):
    """Move time in front of the axes that the function works on, which are the last ones."""
    x = node.args[0] if node.args else node.kwargs['input']
    layout = rewriter.clip(x)
    many = 1
    if rewriter.name(node) == 'layer_norm':
        many = len(example(bind(node, passed=('normalized_shape', 'weight', 'bias', 'eps'))['normalized_shape']))
    if rewriter.clips_in(node) != [x] or layout.rank <= many:
        raise Refused('is called with other than one tensor [N, ...] that has time')
    _on(rewriter, node, x, layout.at(min(layout.time, layout.rank - many)))


def _on(rewriter, node, x, layout):
    """Call a node's function again, with time of one tensor in some place."""
    new = {x: rewriter.at(x, layout.time)}
    args, kwargs = (
        fx.map_arg(value, lambda source: new.get(source) or rewriter.new(source)) for value in (node.args, node.kwargs)
    )
    rewriter.put(node, rewriter.again(node, args, kwargs), layout)
