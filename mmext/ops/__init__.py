"""Operators as functions: no ``nn.Module``, no toolbox, no state."""

from .involution import involution

__all__ = ['involution']
