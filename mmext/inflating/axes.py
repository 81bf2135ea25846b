"""Functions that name axes: their numbers are those of frames, and time stands somewhere among them."""

from . import runtime
from .arguments import Refused, bind, integers
from .elementwise import inserted
from .layouts import Layout, reshaped

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
RESULTS = ('values', 'indices')


def attribute(rewriter, node):
    """Rewrite ``x.shape`` and its kin: the shape is that of frames."""
    x, name = node.args[:2]
    layout = rewriter.layout(x)
    if isinstance(layout, tuple) and name in RESULTS:  # of max and min along an axis
        rewriter.put(node, rewriter.again(node, (rewriter.new(x), name)), layout[RESULTS.index(name)])
    elif name in ('dtype', 'device', 'is_cuda', 'requires_grad', 'layout'):
        rewriter.keep(node)
    elif name == 'shape' and isinstance(layout, Layout):
        rewriter.put(node, rewriter.call(runtime.frame_shape, rewriter.new(x), layout.time), None)
    elif name == 'ndim' and isinstance(layout, Layout):
        rewriter.put(node, rewriter.call(runtime.as_rank, rewriter.new(x), layout.rank), None)
    else:
        raise Refused(f'asks for {name!r}, which is not known for clips')


def size(rewriter, node):
    """Rewrite ``x.size()``, which is that of frames."""
    call = bind(node, known=('dim',))
    layout = rewriter.clip(call.tensor)
    if call['dim'] is None:
        new = rewriter.call(runtime.frame_shape, rewriter.new(call.tensor), layout.time)
    elif isinstance(call['dim'], int):
        new = rewriter.call('size', rewriter.new(call.tensor), layout.axis(call['dim']))
    else:
        raise Refused(COMPUTED)
    rewriter.put(node, new, None)


def number_of_axes(rewriter, node):
    """Rewrite ``x.dim()``, which is that of frames."""
    layout = rewriter.clip(node.args[0])
    rewriter.put(node, rewriter.call(runtime.as_rank, rewriter.new(node.args[0]), layout.rank), None)


def permute(rewriter, node):
    """Rewrite a permutation; time stays in front of the axis that it is in front of."""
    call = bind(node, known=('dims',))
    order = integers(call['dims'])
    if order is None:
        raise Refused(COMPUTED)
    layout, axes = rewriter.clip(call.tensor).permuted(order)
    rewriter.put(node, rewriter.call('permute', rewriter.new(call.tensor), axes), layout)


def transpose(rewriter, node):
    """Rewrite an exchange of two axes, as a permutation."""
    call = bind(node, known=('dim0', 'dim1', 'axis0', 'axis1'))
    pair = integers(tuple(call.given.values()))
    if pair is None or len(pair) != 2:
        raise Refused(COMPUTED)
    layout = rewriter.clip(call.tensor)
    order = list(range(layout.rank))
    one, other = pair
    order[one], order[other] = order[other], order[one]
    layout, axes = layout.permuted(order)
    rewriter.put(node, rewriter.call('permute', rewriter.new(call.tensor), axes), layout)


def flatten(rewriter, node):
    """Rewrite the joining of axes: time goes in front of them."""
    call = bind(node, known=('start_dim', 'end_dim'))
    x, start, end = call.tensor, call['start_dim'], call['end_dim']
    layout = rewriter.clip(x)
    if integers((start, end)) is None:
        raise Refused(COMPUTED)
    start, end = start % layout.rank, end % layout.rank
    if 'N' in layout.frame[start : end + 1] and start != end:
        raise Refused('joins the batch with other axes')
    time = start if start <= layout.time <= end else layout.time
    moved = layout.at(time)
    new = rewriter.call('flatten', rewriter.at(x, time), moved.axis(start), moved.axis(end))
    frame = (*layout.frame[:start], ''.join(layout.frame[start : end + 1]), *layout.frame[end + 1 :])
    rewriter.put(node, new, Layout(frame, time if time <= end else time - (end - start)))


def unflatten(rewriter, node):
    """Rewrite the splitting of an axis."""
    call = bind(node, known=('dim', 'sizes'))
    dim, sizes = call['dim'], call['sizes']
    layout = rewriter.clip(call.tensor)
    if not isinstance(dim, int) or not isinstance(sizes, (tuple, list)):
        raise Refused(COMPUTED)
    dim = dim % layout.rank
    if layout.frame[dim] == 'N':
        raise Refused('splits the batch')
    new = rewriter.call('unflatten', rewriter.new(call.tensor), layout.axis(dim), rewriter.new(tuple(sizes)))
    before, after = rewriter.shape(call.tensor), rewriter.shape(node)
    parts = reshaped(layout.frame[dim : dim + 1], before[dim : dim + 1], after[dim : dim + len(sizes)])
    frame = (*layout.frame[:dim], *parts, *layout.frame[dim + 1 :])
    rewriter.put(node, new, Layout(frame, layout.time + (len(sizes) - 1) * (dim < layout.time)))


def reshape(rewriter, node):
    """Rewrite a new shape, which has to keep the batch: it becomes the shape of every frame's tensor."""
    call = bind(node, known=('size', 'shape'))
    x = call.tensor
    shape = call['shape'] if 'shape' in call.given else call['size']
    before, after = rewriter.shape(x), rewriter.shape(node)
    layout = rewriter.clip(x)
    if not after or after[0] != before[0] or layout.frame[0] != 'N':
        raise Refused('gives a shape without the batch as its first axis')
    shape = rewriter.new(tuple(shape) if isinstance(shape, (tuple, list)) else (shape,))
    new = rewriter.call(runtime.reshape_frames, rewriter.new(x), layout.time, shape)
    frame = list(reshaped(layout.frame, before, after))
    if len(after) == 4 and '?' in frame[1]:
        frame[1] = 'C'
    rewriter.put(node, new, Layout(tuple(frame), 1))


def unsqueeze(rewriter, node):
    """Rewrite a new axis."""
    call = bind(node, known=('dim',))
    dim = call['dim']
    layout = rewriter.clip(call.tensor)
    if not isinstance(dim, int):
        raise Refused(COMPUTED)
    if dim % (layout.rank + 1) == 0:
        raise Refused('puts an axis in front of the batch')
    axis, new_layout = inserted(layout, dim)
    rewriter.put(node, rewriter.call('unsqueeze', rewriter.new(call.tensor), axis), new_layout)


def squeeze(rewriter, node):
    """Rewrite the removal of axes; never that of time."""
    call = bind(node, known=('dim',))
    x = call.tensor
    layout, shape = rewriter.clip(x), rewriter.shape(x)
    dims = tuple(range(layout.rank)) if 'dim' not in call.given else integers(call['dim'])
    if dims is None:
        raise Refused(COMPUTED)
    gone = sorted({dim % layout.rank for dim in dims if shape[dim] == 1})
    if 'N' in [layout.frame[dim % layout.rank] for dim in gone]:
        raise Refused('removes the axis of the batch')
    new = rewriter.call('squeeze', rewriter.new(x), tuple(layout.axis(dim) for dim in gone))
    frame = tuple(axis for index, axis in enumerate(layout.frame) if index not in gone)
    rewriter.put(node, new, Layout(frame, layout.time - sum(dim < layout.time for dim in gone)))
