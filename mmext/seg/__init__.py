"""What needs mmseg: training and test of Wider-ResNet. Imported by ``custom_imports`` or the first look-up from mmseg.

The loss, the head, the two transforms, the segmentor and the merging of scales are of use with any backbone.
"""

from .average_probability_tta import AverageProbabilityTTA
from .bootstrapped_loss import BootstrappedCrossEntropyLoss
from .dilated_fcn_head import DilatedFCNHead
from .stepped_encoder_decoder import SteppedEncoderDecoder
from .transforms import RandomLongerSideCrop, ResizeLongerSide

__all__ = [
    'AverageProbabilityTTA',
    'BootstrappedCrossEntropyLoss',
    'DilatedFCNHead',
    'RandomLongerSideCrop',
    'ResizeLongerSide',
    'SteppedEncoderDecoder',
]
