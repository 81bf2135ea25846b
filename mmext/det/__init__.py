"""What needs mmdet: heads with involutions. Imported by ``custom_imports`` or by the first look-up from mmdet."""

from .involution_mask_head import InvolutionMaskHead
from .involution_rpn_head import InvolutionRPNHead

__all__ = ['InvolutionMaskHead', 'InvolutionRPNHead']
