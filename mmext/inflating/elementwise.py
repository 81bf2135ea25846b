"""Functions that work on every element by itself, and those that put tensors together."""

import operator

from torch import fx

from . import runtime
from .arguments import arguments
from .layouts import Layout

__all__ = ['concatenate', 'elementwise', 'keep']

NOT_IN_PLACE = {
    operator.iadd: operator.add,
    operator.imul: operator.mul,
    operator.isub: operator.sub,
    operator.itruediv: operator.truediv,
}


def keep(rewriter, node):
    """Ask a clip's tensor what would be asked of the frame's."""
    rewriter.keep(node)


def _target(rewriter, tensors):
    """Return the layout that all tensors of a call get: that of the one with the most axes."""
    rank = max(len(rewriter.shape(tensor)) for tensor in tensors)
    layouts = [rewriter.layout(tensor) for tensor in tensors if len(rewriter.shape(tensor)) == rank]
    layouts = [layout for layout in layouts if isinstance(layout, Layout)]
    return min(layouts, key=lambda layout: layout.frame.count('?'), default=None)


def elementwise(rewriter, node):
    """Rewrite an element-wise function: axes are aligned as broadcasting does, from the last one on."""
    tensors = [source for source in node.all_input_nodes if rewriter.shape(source) is not None]
    target = _target(rewriter, tensors)
    if target is None or any(isinstance(rewriter.layout(source), tuple) for source in node.all_input_nodes):
        rewriter.problem(node, 'puts together tensors with and without time in a way that is not known')
        return
    aligned = {}
    for tensor in tensors:
        time = target.time - (target.rank - len(rewriter.shape(tensor)))
        if rewriter.layout(tensor) is None:
            new = rewriter.new(tensor)
            # such as a scale [C, 1, 1] of [N, C, T, H, W]
            aligned[tensor] = rewriter.call('unsqueeze', new, time) if time > 0 else new
        elif time < 0:
            rewriter.problem(node, 'adds axes in front of time')
            return
        else:
            aligned[tensor] = rewriter.at(tensor, time)

    def new(source):
        return aligned[source] if source in aligned else rewriter.new(source)

    result = rewriter.again(node, fx.map_arg(node.args, new), fx.map_arg(node.kwargs, new))
    if node.target in NOT_IN_PLACE and rewriter.layout(node.args[0]) is None:
        result.target = NOT_IN_PLACE[node.target]  # what has no time cannot grow by it
    rewriter.put(node, result, target)


def concatenate(rewriter, node):
    """Rewrite ``torch.cat`` or ``torch.stack``: what has no time is repeated."""
    tensors, dim = arguments(node, 'tensors', 'dim')
    dim = 0 if dim is None else dim
    if not isinstance(tensors, (tuple, list)) or not isinstance(dim, int):
        rewriter.problem(node, 'gets its tensors or its axis from a computation')
        return
    first = next((tensor for tensor in tensors if isinstance(rewriter.layout(tensor), Layout)), None)
    target = None if first is None else _target(rewriter, tensors)
    if target is None:
        rewriter.problem(node, 'puts together what has no time axis')
        return
    length = None
    parts = []
    for tensor in tensors:
        if rewriter.layout(tensor) is None:
            if length is None:
                length = rewriter.call('size', rewriter.new(first), rewriter.layout(first).time)
            parts.append(rewriter.call(runtime.repeat_in_time, rewriter.new(tensor), target.time, length))
        else:
            parts.append(rewriter.at(tensor, target.time))
    if len(rewriter.shape(node)) == target.rank:
        axis, layout = target.axis(dim), target
    else:
        axis, layout = inserted(target, dim)
    rewriter.put(node, rewriter.again(node, (parts, axis)), layout)


def inserted(layout, dim):
    """Return the axis of clips where a new axis of frames goes, and the layout with it."""
    dim = dim % (layout.rank + 1)
    frame = (*layout.frame[:dim], '?', *layout.frame[dim:])
    if dim < layout.time:
        return dim, Layout(frame, layout.time + 1)
    return dim + 1, Layout(frame, layout.time)
