# Cascade Mask R-CNN, IC-ResNet-101: published with 45.7 box AP, 38.7 mask AP (IC-Conv, CVPR 2021).
_base_ = ['./cascade-mask-rcnn_ic-r50_fpn_1x_coco.py']

model = dict(
    backbone=dict(
        depth=101,
        pattern='segmentation_r101_k9',
        init_cfg=dict(checkpoint='checkpoints/ic_resnet101_segmentation.pth.tar'),
    )
)
