"""Dilation patterns of inception convolutions, as data: the published ones, files, and rules that make one."""

from .files import PUBLISHED, load_pattern, save_pattern
from .pattern import Pattern, PatternError
from .rules import make_pattern

__all__ = ['PUBLISHED', 'Pattern', 'PatternError', 'load_pattern', 'make_pattern', 'save_pattern']
