"""``nn.Module`` layers over :mod:`mmext.ops`."""

from .involution import Involution

__all__ = ['Involution']
