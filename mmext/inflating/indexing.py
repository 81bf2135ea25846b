"""Indices: of several results, or of the axes of a tensor."""

from .axes import COMPUTED
from .layouts import Layout

__all__ = ['getitem']


def getitem(rewriter, node):
    """Rewrite an index: of several results, or of the axes of a tensor."""
    x, index = node.args
    layout = rewriter.layout(x)
    if isinstance(layout, tuple):
        if isinstance(index, (int, slice)):
            rewriter.put(node, rewriter.again(node, (rewriter.new(x), index)), layout[index])
        else:
            rewriter.problem(node, COMPUTED)
        return
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(not (isinstance(part, (int, slice)) or part is Ellipsis) for part in parts) or parts.count(Ellipsis) > 1:
        rewriter.problem(node, 'indexes by a tensor, or ' + COMPUTED)
        return
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    place = parts.index(Ellipsis)
    parts[place : place + 1] = [slice(None)] * (layout.rank - len(parts) + 1)
    if isinstance(parts[0], int):
        rewriter.problem(node, 'takes one sample out of the batch')
        return
    gone = [axis for axis, part in enumerate(parts) if isinstance(part, int)]
    parts.insert(layout.time, slice(None))
    frame = tuple(name for axis, name in enumerate(layout.frame) if axis not in gone)
    new = rewriter.again(node, (rewriter.new(x), rewriter.new(tuple(parts))))
    rewriter.put(node, new, Layout(frame, layout.time - sum(axis < layout.time for axis in gone)))
