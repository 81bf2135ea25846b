"""Counting of parameters and multiply-adds, on the meta device: no weights, no images, seconds for any network."""

from .count import CONVENTIONS, Complexity, Part, complexity
from .published import to_printed

__all__ = ['CONVENTIONS', 'Complexity', 'Part', 'complexity', 'to_printed']
