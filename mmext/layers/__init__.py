"""``nn.Module`` layers over :mod:`mmext.ops`."""

from .inception_conv import InceptionConv2d
from .involution import Involution
from .supernet_conv import SupernetConv2d

__all__ = ['InceptionConv2d', 'Involution', 'SupernetConv2d']
