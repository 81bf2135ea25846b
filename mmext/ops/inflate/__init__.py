"""Inflation of 2D modules to 3D ones: each function returns a new module, which shares nothing with the given one.

Source: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017), section 2.4.
"""

from .conv3d import InflatedConv3d
from .convolutions import inflate_conv, inflate_linear
from .elements import inflate_activation, inflate_dropout, inflate_padding
from .norms import inflate_batch_norm, inflate_norm
from .pools import inflate_pool
from .weights import inflate_weight

__all__ = [
    'InflatedConv3d',
    'inflate_activation',
    'inflate_batch_norm',
    'inflate_conv',
    'inflate_dropout',
    'inflate_linear',
    'inflate_norm',
    'inflate_padding',
    'inflate_pool',
    'inflate_weight',
]
