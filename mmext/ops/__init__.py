"""Operators as functions: no ``nn.Module``, no toolbox, no state."""

from .inception_conv import inception_conv2d
from .involution import involution

__all__ = ['inception_conv2d', 'involution']
