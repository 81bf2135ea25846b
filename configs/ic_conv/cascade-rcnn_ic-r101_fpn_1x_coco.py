# Cascade R-CNN, IC-ResNet-101: published with 45.0 box AP (IC-Conv, CVPR 2021).
_base_ = ['./cascade-rcnn_ic-r50_fpn_1x_coco.py']

model = dict(
    backbone=dict(
        depth=101,
        pattern='detection_r101_k9',
        init_cfg=dict(checkpoint='checkpoints/ic_resnet101_detection.pth.tar'),
    )
)
