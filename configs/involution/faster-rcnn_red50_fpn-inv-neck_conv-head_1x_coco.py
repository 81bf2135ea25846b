# Faster R-CNN, RedNet-50, involution in the neck: published with 40.2 box AP (involution, CVPR 2021).
_base_ = ['./faster-rcnn_red50_fpn-conv-neck_conv-head_1x_coco.py']

model = dict(neck=dict(type='mmext.InvolutionFPN'))

# 2000 warm-up steps as mmcv 1.x counted them: the step after the last one runs at the full rate
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=2001),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
