# Semantic FPN, RedNet-50, involution in the neck: published with 79.1 mIoU (involution, CVPR 2021).
_base_ = ['./fpn_red50_conv-neck_4xb2-80k_cityscapes-512x1024.py']

model = dict(neck=dict(type='mmext.InvolutionFPN'))
