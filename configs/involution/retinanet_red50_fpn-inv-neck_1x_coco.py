# RetinaNet, RedNet-50, involution in the neck: published with 38.2 box AP (involution, CVPR 2021).
_base_ = ['./retinanet_red50_fpn-conv-neck_1x_coco.py']

model = dict(neck=dict(type='mmext.InvolutionFPN'))  # its two extra levels stay 3x3 convolutions, as published
optim_wrapper = dict(clip_grad=dict(max_norm=40, norm_type=2))
