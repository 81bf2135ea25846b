"""Functions that work along axes: those that leave one value of several, and those that keep all."""

import operator

from torch import fx

from .arguments import Refused, bind, integers
from .axes import COMPUTED
from .elementwise import elementwise
from .layouts import Layout

__all__ = ['along', 'reduce']

# over frames as well where they are over a picture; a sum would grow by the number of frames
OVER_TIME = ('mean', 'amax', 'amin')
# arguments that mean the same along whatever axis
STATISTICS = ('unbiased', 'correction', 'dtype')
# not places, which say nothing of a picture's values
NUMBERS = ('amax', 'amin', 'logsumexp', 'max', 'mean', 'min', 'prod', 'std', 'sum', 'var')
# what leaves values as they are
KEEPING = (
    *('clone', 'contiguous', 'detach', 'flatten', 'permute', 'reshape', 'squeeze', 'swapaxes', 'swapdims'),
    *('transpose', 'unflatten', 'unsqueeze', 'view'),
)
ALONG = ('chunks', 'split_size', 'split_size_or_sections', 'shifts', 'p', 'eps', 'dtype', '_stacklevel')


def _axes(layout, dims):
    """Return axes as a tuple of frames' axes that are not the batch.

    Raises:
        Refused: If they are not given as numbers, are all, or hold the batch.
    """
    if dims is None or dims in ((), []):
        raise Refused('names no axis; give dim')
    numbers = integers(dims)
    if numbers is None:
        raise Refused(COMPUTED)
    if any(layout.frame[dim % layout.rank] == 'N' for dim in numbers):
        raise Refused('works along the batch')
    return numbers


def _reduced(rewriter, node):
    """Return the axes along which a tensor is what has been made one value of several."""
    while 'reduced' not in node.meta and node.all_input_nodes:
        first = node.target is operator.getitem and node.args[1] == 0
        values = first or (node.target is getattr and node.args[1] == 'values')  # of a maximum and its place
        if not values and (node.op not in ('call_function', 'call_method') or rewriter.name(node) not in KEEPING):
            break
        node = node.all_input_nodes[0]
    return node.meta.get('reduced', frozenset())


def reduce(rewriter, node):
    """Rewrite what makes one value of several; over time as well where it is over a whole picture."""
    name = rewriter.name(node)
    call = bind(node, known=('dim', 'keepdim', 'other'), passed=STATISTICS)
    if call['other'] is not None:
        elementwise(rewriter, node)
        return
    layout = rewriter.clip(call.tensor)
    if isinstance(call['keepdim'], fx.Node):
        raise Refused(COMPUTED)
    numbers = _axes(layout, call['dim'])
    whole = layout.covers_picture(numbers)
    if name in NUMBERS:
        # over rows, and then over columns, is over the picture
        node.meta['reduced'] = _reduced(rewriter, call.tensor).union(
            *(layout.frame[dim % layout.rank] for dim in numbers)
        )
        whole = whole or {'H', 'W'} <= node.meta['reduced']
    if whole and name not in OVER_TIME:
        raise Refused('is over a whole picture, and not the same over a static clip')
    axes = [layout.axis(dim) for dim in numbers]
    one = isinstance(call['dim'], int) and not whole
    new = call.again(rewriter, rewriter.new(call.tensor), dim=axes[0] if one else [*axes, *[layout.time] * whole])
    keepdim = bool(call['keepdim'])
    if whole:
        rewriter.put(node, rewriter.call('squeeze', new, layout.time) if keepdim else new, None)
        return
    gone = set() if keepdim else {dim % layout.rank for dim in numbers}
    frame = tuple(axis for index, axis in enumerate(layout.frame) if index not in gone)
    reduced = Layout(frame, layout.time - sum(dim < layout.time for dim in gone))
    two = isinstance(node.meta['frame_shape'], list)
    rewriter.put(node, new, (reduced, reduced) if two else reduced)


def along(rewriter, node):
    """Rewrite what works along an axis and keeps the number of axes."""
    call = bind(node, known=('dim', 'dims'), passed=ALONG)
    key = 'dims' if rewriter.name(node) in ('flip', 'roll') else 'dim'
    layout = rewriter.clip(call.tensor)
    if rewriter.clips_in(node) != [call.tensor]:
        raise Refused('takes several tensors with time')
    numbers = _axes(layout, call[key])
    axes = [layout.axis(dim) for dim in numbers]
    one = isinstance(call[key], int) and key == 'dim'
    new = call.again(rewriter, rewriter.new(call.tensor), **{key: axes[0] if one else axes})
    several = node.meta['frame_shape']
    rewriter.put(node, new, tuple(layout for _ in several) if isinstance(several, list) else layout)
