"""mmcv's NMS and RoIAlign have no bfloat16, and on the CPU no float16, so that detectors fail in mixed precision there.

No upstream issue is known to us. The two operators are run in float32 where they lack the type, and RoI features come
back in the type of the features, as they do for the types that mmcv has.
"""

import torch

from .after_import import after_import

__all__ = ['apply']


def _lacks(tensor):
    return tensor.dtype == torch.bfloat16 or (tensor.dtype == torch.float16 and tensor.device.type == 'cpu')


def _cure_nms(module):
    forward = module.NMSop.forward

    def in_float32(ctx, bboxes, scores, *args):
        if _lacks(bboxes) or _lacks(scores):
            bboxes, scores = bboxes.float(), scores.float()
        return forward(ctx, bboxes, scores, *args)

    module.NMSop.forward = staticmethod(in_float32)


def _cure_roi_align(module):
    function = module.RoIAlignFunction
    forward, backward = function.forward, function.backward

    def forward_in_float32(ctx, features, rois, *args):
        if not _lacks(features):
            return forward(ctx, features, rois, *args)
        return forward(ctx, features.float(), rois.float(), *args).to(features.dtype)

    def backward_in_float32(ctx, grad):
        return backward(ctx, grad.float() if _lacks(grad) else grad)  # autograd brings the result to the input's type

    function.forward = staticmethod(forward_in_float32)
    function.backward = staticmethod(backward_in_float32)


def apply():
    """Let mmcv's NMS and RoIAlign take every floating point type."""
    after_import('mmcv.ops.nms', _cure_nms)
    after_import('mmcv.ops.roi_align', _cure_roi_align)
