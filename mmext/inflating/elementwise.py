"""Functions that work on every element by itself, and those that put tensors together."""

import torch
from torch import fx

from . import runtime
from .arguments import Refused, bind
from .layouts import Layout

__all__ = ['concatenate', 'convert', 'elementwise', 'keep']


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
    target = _target(rewriter, tensors) if tensors else None
    if target is None or any(isinstance(rewriter.layout(source), tuple) for source in node.all_input_nodes):
        raise Refused('puts together tensors with and without time in a way that is not known')
    if rewriter.shape(node) is None or len(rewriter.shape(node)) != target.rank:
        raise Refused('does not give one value for each element')
    aligned = {}
    for tensor in tensors:
        time = target.time - (target.rank - len(rewriter.shape(tensor)))
        if rewriter.layout(tensor) is None:
            new = rewriter.new(tensor)
            # such as a scale [C, 1, 1] of [N, C, T, H, W]
            aligned[tensor] = rewriter.call('unsqueeze', new, time) if time > 0 else new
        elif time < 0:
            raise Refused('adds axes in front of time')
        else:
            aligned[tensor] = rewriter.at(tensor, time)
    name = node.target if node.op == 'call_method' else getattr(node.target, '__name__', '')
    if name.endswith('_') and not name.endswith('__') and rewriter.layout(node.args[0]) is None:
        raise Refused('writes clips in place into a tensor without time; use the function without _')
    rewriter.put(node, _again(rewriter, node, aligned), target)


def convert(rewriter, node):
    """Rewrite a conversion, ``x.to(...)`` and its kin: the result has the axes of its first argument."""
    if isinstance(rewriter.layout(node.args[0]), tuple):
        raise Refused('converts several tensors at once')
    rewriter.put(node, _again(rewriter, node, {}), rewriter.layout(node.args[0]))


def _again(rewriter, node, aligned):
    """Call a node's function again, on aligned tensors."""

    def new(value):
        return fx.map_arg(value, lambda source: aligned.get(source, rewriter.new(source)))

    def memory_format(value):
        return torch.channels_last_3d if value is torch.channels_last else value

    args = [memory_format(value) for value in new(node.args)]
    return rewriter.again(node, args, {name: memory_format(value) for name, value in new(node.kwargs).items()})


def concatenate(rewriter, node):
    """Rewrite ``torch.cat`` or ``torch.stack``: what has no time is repeated."""
    call = bind(node, known=('dim',))
    tensors, dim = call.tensor, call['dim']
    if not isinstance(tensors, (tuple, list)) or not isinstance(dim, int):
        raise Refused('gets its tensors or its axis from a computation')
    first = next((tensor for tensor in tensors if isinstance(rewriter.layout(tensor), Layout)), None)
    target = None if first is None else _target(rewriter, tensors)
    if target is None:
        raise Refused('puts together what has no time axis')
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
