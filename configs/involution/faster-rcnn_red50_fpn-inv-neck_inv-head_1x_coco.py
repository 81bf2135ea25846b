# Faster R-CNN, RedNet-50, involution in neck and RPN head: published with 39.2 box AP (involution, CVPR 2021).
_base_ = ['./faster-rcnn_red50_fpn-inv-neck_conv-head_1x_coco.py']

model = dict(rpn_head=dict(type='mmext.InvolutionRPNHead'))
optim_wrapper = dict(clip_grad=dict(max_norm=5, norm_type=2))
