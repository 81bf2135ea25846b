"""Networks and necks that need no toolbox, only mmengine and mmcv (mmcv-lite is enough)."""

from .ic_resnet import ICResNet, ICResNeXt
from .involution_fpn import InvolutionFPN
from .rednet import RedNet
from .wider_resnet import WiderResNet

__all__ = ['ICResNeXt', 'ICResNet', 'InvolutionFPN', 'RedNet', 'WiderResNet']
