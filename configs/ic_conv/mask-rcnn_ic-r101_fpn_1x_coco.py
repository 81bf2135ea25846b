# Mask R-CNN, IC-ResNet-101: published with 42.6 box AP, 37.9 mask AP (IC-Conv, CVPR 2021).
_base_ = ['./mask-rcnn_ic-r50_fpn_1x_coco.py']

model = dict(
    backbone=dict(
        depth=101,
        pattern='segmentation_r101_k9',
        init_cfg=dict(checkpoint='checkpoints/ic_resnet101_segmentation.pth.tar'),
    )
)
