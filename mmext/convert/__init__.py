"""Checkpoints of the original projects: one module per format, each maps its keys to ours, totally.

:func:`convert` is the one way in. Every key of a file is mapped or dropped with a reason, and every key of the network
that the file describes is filled or listed as missing; anything else is a :class:`ConversionError` that names the keys.
``mmext convert`` writes the result to a file, ``init_cfg=dict(type='mmext.PublishedCheckpoint', ...)`` puts it into a
network without one.
"""

from .conversion import SOURCES, convert
from .reading import read_checkpoint
from .report import ConversionError, ConversionReport

__all__ = ['SOURCES', 'ConversionError', 'ConversionReport', 'convert', 'read_checkpoint']
