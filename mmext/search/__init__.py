"""Efficient dilation search: a supernet, and the dilations that its trained kernels choose.

Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), section 3.
"""

from .choice import Choice, choose, dilations, errors

__all__ = ['Choice', 'choose', 'dilations', 'errors']
