"""Networks and necks that need no toolbox, only mmengine and mmcv (mmcv-lite is enough)."""

from .involution_fpn import InvolutionFPN
from .rednet import RedNet

__all__ = ['InvolutionFPN', 'RedNet']
