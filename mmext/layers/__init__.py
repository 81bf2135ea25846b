"""``nn.Module`` layers over :mod:`mmext.ops`."""

from .inception_conv import InceptionConv2d
from .involution import Involution

__all__ = ['InceptionConv2d', 'Involution']
