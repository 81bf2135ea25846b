"""Indices: of several results, or of the axes of a tensor."""

from .arguments import Refused
from .axes import COMPUTED
from .layouts import Layout

__all__ = ['getitem']


def getitem(rewriter, node):
    """Rewrite an index: of several results, or of the axes of a tensor."""
    x, index = node.args
    layout = rewriter.layout(x)
    if isinstance(layout, tuple):
        if not isinstance(index, (int, slice)):
            raise Refused(COMPUTED)
        rewriter.put(node, rewriter.again(node, (rewriter.new(x), index)), layout[index])
        return
    layout = rewriter.clip(x)
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(type(part) not in (int, slice, type(Ellipsis)) for part in parts) or parts.count(Ellipsis) > 1:
        raise Refused('indexes by something else than integers, slices and ..., or ' + COMPUTED)
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    place = parts.index(Ellipsis)
    parts[place : place + 1] = [slice(None)] * (layout.rank - len(parts) + 1)
    if any(isinstance(part, int) and name == 'N' for part, name in zip(parts, layout.frame)):
        raise Refused('takes one sample out of the batch')
    gone = [axis for axis, part in enumerate(parts) if isinstance(part, int)]
    parts.insert(layout.time, slice(None))
    frame = tuple(name for axis, name in enumerate(layout.frame) if axis not in gone)
    new = rewriter.again(node, (rewriter.new(x), rewriter.new(tuple(parts))))
    rewriter.put(node, new, Layout(frame, layout.time - sum(axis < layout.time for axis in gone)))
