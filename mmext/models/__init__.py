"""Networks and necks that need no toolbox, only mmengine and mmcv (mmcv-lite is enough)."""

from .exchanged_convs import ExchangedConvs
from .ic_resnet import ICResNet, ICResNeXt
from .inflated_densenet import InflatedDenseNet
from .inflated_resnet import InflatedResNet, InflatedResNeXt
from .involution_fpn import InvolutionFPN
from .rednet import RedNet
from .wider_resnet import WiderResNet

__all__ = [
    'ExchangedConvs',
    'ICResNeXt',
    'ICResNet',
    'InflatedDenseNet',
    'InflatedResNeXt',
    'InflatedResNet',
    'InvolutionFPN',
    'RedNet',
    'WiderResNet',
]
