# Mask R-CNN, RedNet-50, involution in neck, RPN and mask head: published with 39.6 box AP, 35.1 mask AP (involution,
# CVPR 2021).
_base_ = ['./mask-rcnn_red50_fpn-inv-neck_conv-head_1x_coco.py']

model = dict(
    rpn_head=dict(type='mmext.InvolutionRPNHead'),
    roi_head=dict(mask_head=dict(type='mmext.InvolutionMaskHead')),
)
# the published file cannot be loaded (it calls a name that does not exist); this is what its line says
optim_wrapper = dict(clip_grad=dict(max_norm=5, norm_type=2))
