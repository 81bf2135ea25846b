"""Functions that work along axes: those that leave one value of several, and those that keep all."""

from torch import fx

from .arguments import arguments, integers
from .axes import COMPUTED
from .elementwise import elementwise
from .layouts import Layout

__all__ = ['along', 'reduce']

# where the axis is among the positional arguments
POSITION = {'chunk': 2, 'split': 2, 'roll': 2, 'normalize': 2}
# over frames as well where they are over a picture; a sum would grow by the number of frames
OVER_TIME = ('mean', 'amax', 'amin')


def _name(node):
    return node.target if node.op == 'call_method' else node.target.__name__


def reduce(rewriter, node):
    """Rewrite what makes one value of several; over time as well where it is over a whole picture."""
    name = _name(node)
    x, dims, keepdim = arguments(node, 'input', 'dim', 'keepdim')
    layout = rewriter.layout(x)
    if isinstance(dims, fx.Node) and name in ('max', 'min'):
        elementwise(rewriter, node)
        return
    numbers = None if dims is None else integers(dims)
    if numbers is None or isinstance(keepdim, fx.Node) or any(dim % layout.rank == 0 for dim in numbers):
        rewriter.problem(node, 'is over the batch, or ' + COMPUTED)
        return
    whole = layout.covers_picture(numbers)
    if whole and name not in OVER_TIME:
        rewriter.problem(node, 'is over a whole picture, and not the same over a still clip')
        return
    axes = [layout.axis(dim) for dim in numbers]
    keepdim = bool(keepdim)
    options = {'keepdim': keepdim}
    options.update({key: value for key, value in node.kwargs.items() if key not in ('input', 'dim', 'axis', 'keepdim')})
    if len(node.args) > 3:
        rewriter.problem(node, 'is called with more arguments than are known')
        return
    single = isinstance(dims, int)
    new = rewriter.again(node, (rewriter.new(x), axes[0] if single and not whole else [*axes, *[layout.time] * whole]))
    new.kwargs = options
    if whole:
        new = rewriter.call('squeeze', new, layout.time) if keepdim else new
        rewriter.put(node, new, None)
        return
    gone = set() if keepdim else {dim % layout.rank for dim in numbers}
    frame = tuple(axis for index, axis in enumerate(layout.frame) if index not in gone)
    reduced = Layout(frame, layout.time - sum(dim < layout.time for dim in gone))
    two = isinstance(node.meta['frame_shape'], list)
    rewriter.put(node, new, (reduced, reduced) if two else reduced)


def along(rewriter, node):
    """Rewrite what works along an axis and keeps the number of axes."""
    name = _name(node)
    position = 1 if name == 'flip' else POSITION.get(name, 1)
    x = node.args[0]
    layout = rewriter.layout(x)
    key = 'dims' if name in ('flip', 'roll') else 'dim'
    default = {'normalize': 1, 'glu': -1, 'chunk': 0, 'split': 0}.get(name)
    dims = node.args[position] if len(node.args) > position else node.kwargs.get(key, default)
    numbers = None if dims is None else integers(dims)
    batch = {'chunk', 'split', 'roll', 'flip'} & {name}
    if numbers is None or rewriter.clips_in(node) != [x] or (batch and any(d % layout.rank == 0 for d in numbers)):
        rewriter.problem(node, 'is along the batch, or ' + COMPUTED)
        return
    axes = [layout.axis(dim) for dim in numbers]
    args = [rewriter.new(value) for value in node.args[:position]]
    kwargs = {name: rewriter.new(value) for name, value in node.kwargs.items() if name != key}
    rest = node.args[position + 1 :]
    new = rewriter.again(node, args, {**kwargs, key: axes[0] if isinstance(dims, int) and name != 'flip' else axes})
    if rest:
        new.args = (*args, new.kwargs[key], *rewriter.new(rest))
        new.kwargs = kwargs
    several = node.meta['frame_shape']
    rewriter.put(node, new, tuple(layout for _ in several) if isinstance(several, list) else layout)
