"""Functions that name axes: their numbers are those of frames, and time stands somewhere among them."""

from . import runtime
from .arguments import arguments, integers
from .elementwise import inserted
from .layouts import Layout

__all__ = [
    'COMPUTED',
    'attribute',
    'flatten',
    'number_of_axes',
    'permute',
    'reshape',
    'size',
    'squeeze',
    'transpose',
    'unflatten',
    'unsqueeze',
]

COMPUTED = 'gets its axes from a computation'


def attribute(rewriter, node):
    """Rewrite ``x.shape`` and its kin: the shape is that of frames."""
    x, name = node.args[:2]
    layout = rewriter.layout(x)
    if name in ('dtype', 'device', 'is_cuda', 'requires_grad', 'layout', 'names'):
        rewriter.keep(node)
    elif name == 'shape' and isinstance(layout, Layout):
        rewriter.put(node, rewriter.call(runtime.frame_shape, rewriter.new(x), layout.time), None)
    elif name == 'ndim' and isinstance(layout, Layout):
        rewriter.put(node, rewriter.call(runtime.as_rank, rewriter.new(x), layout.rank), None)
    else:
        rewriter.problem(node, f'{name!r} is not known')


def size(rewriter, node):
    """Rewrite ``x.size()``, which is that of frames."""
    x, dim = arguments(node, 'input', 'dim')
    layout = rewriter.layout(x)
    if dim is None:
        new = rewriter.call(runtime.frame_shape, rewriter.new(x), layout.time)
    elif isinstance(dim, int):
        new = rewriter.call('size', rewriter.new(x), layout.axis(dim))
    else:
        rewriter.problem(node, COMPUTED)
        return
    rewriter.put(node, new, None)


def number_of_axes(rewriter, node):
    """Rewrite ``x.dim()``, which is that of frames."""
    layout = rewriter.layout(node.args[0])
    rewriter.put(node, rewriter.call(runtime.as_rank, rewriter.new(node.args[0]), layout.rank), None)


def permute(rewriter, node):
    """Rewrite a permutation; time stays in front of the axis that it is in front of."""
    x, order = arguments(node, 'input', '*dims')
    order = integers(order)
    if order is None:
        rewriter.problem(node, COMPUTED)
        return
    layout, axes = rewriter.layout(x).permuted(order)
    rewriter.put(node, rewriter.call('permute', rewriter.new(x), *axes), layout)


def transpose(rewriter, node):
    """Rewrite an exchange of two axes, as a permutation."""
    x, one, other = arguments(node, 'input', 'dim0', 'dim1')
    if integers((one, other)) is None:
        rewriter.problem(node, COMPUTED)
        return
    layout = rewriter.layout(x)
    order = list(range(layout.rank))
    order[one], order[other] = order[other], order[one]
    layout, axes = layout.permuted(order)
    rewriter.put(node, rewriter.call('permute', rewriter.new(x), *axes), layout)


def flatten(rewriter, node):
    """Rewrite the joining of axes: time goes in front of them."""
    x, start, end = arguments(node, 'input', 'start_dim', 'end_dim')
    layout = rewriter.layout(x)
    start, end = (0 if start is None else start), (-1 if end is None else end)
    if integers((start, end)) is None or start % layout.rank == 0:
        rewriter.problem(node, 'joins the batch with other axes')
        return
    start, end = start % layout.rank, end % layout.rank
    time = start if start <= layout.time <= end else layout.time
    moved = layout.at(time)
    new = rewriter.call('flatten', rewriter.at(x, time), moved.axis(start), moved.axis(end))
    frame = (*layout.frame[:start], ''.join(layout.frame[start : end + 1]), *layout.frame[end + 1 :])
    rewriter.put(node, new, Layout(frame, time if time <= end else time - (end - start)))


def unflatten(rewriter, node):
    """Rewrite the splitting of an axis."""
    x, dim, sizes = arguments(node, 'input', 'dim', 'sizes')
    layout = rewriter.layout(x)
    if not isinstance(dim, int) or not isinstance(sizes, (tuple, list)) or dim % layout.rank == 0:
        rewriter.problem(node, 'splits the batch, or ' + COMPUTED)
        return
    dim = dim % layout.rank
    new = rewriter.call('unflatten', rewriter.new(x), layout.axis(dim), rewriter.new(tuple(sizes)))
    frame = (*layout.frame[:dim], *'?' * len(sizes), *layout.frame[dim + 1 :])
    rewriter.put(node, new, Layout(frame, layout.time + (len(sizes) - 1) * (dim < layout.time)))


def reshape(rewriter, node):
    """Rewrite a new shape, which has to keep the batch: it becomes the shape of every frame's tensor."""
    x, shape = arguments(node, 'input', '*shape')
    before, after = rewriter.shape(x), rewriter.shape(node)
    layout = rewriter.layout(x)
    if not after or after[0] != before[0]:
        rewriter.problem(node, 'gives a shape without the batch as its first axis')
        return
    shape = rewriter.new(tuple(shape) if isinstance(shape, (tuple, list)) else (shape,))
    new = rewriter.call(runtime.reshape_frames, rewriter.new(x), layout.time, shape)
    frame = ['N', *'?' * (len(after) - 1)]
    if len(after) > 2 and before[-2:] == after[-2:] and layout.frame[-2:] == ('H', 'W'):
        frame[-2:] = 'H', 'W'
    if before == after:
        frame = layout.frame
    elif len(after) == 4:
        frame[1] = 'C'
    elif len(after) < len(before) and after[-1] == before[-2] * before[-1] and layout.frame[-2:] == ('H', 'W'):
        frame[-1] = 'HW'
    rewriter.put(node, new, Layout(tuple(frame), 1))


def unsqueeze(rewriter, node):
    """Rewrite a new axis."""
    x, dim = arguments(node, 'input', 'dim')
    layout = rewriter.layout(x)
    if not isinstance(dim, int) or dim % (layout.rank + 1) == 0:
        rewriter.problem(node, 'puts an axis in front of the batch, or ' + COMPUTED)
        return
    axis, new_layout = inserted(layout, dim)
    rewriter.put(node, rewriter.call('unsqueeze', rewriter.new(x), axis), new_layout)


def squeeze(rewriter, node):
    """Rewrite the removal of axes; never that of time."""
    x, dims = arguments(node, 'input', '*dim')
    layout, shape = rewriter.layout(x), rewriter.shape(x)
    dims = integers(dims) if dims != () else tuple(range(len(shape)))
    if dims is None:
        rewriter.problem(node, COMPUTED)
        return
    gone = sorted({dim % layout.rank for dim in dims if shape[dim] == 1})
    new = rewriter.call('squeeze', rewriter.new(x), tuple(layout.axis(dim) for dim in gone))
    frame = tuple(axis for index, axis in enumerate(layout.frame) if index not in gone)
    rewriter.put(node, new, Layout(frame, layout.time - sum(dim < layout.time for dim in gone)))
