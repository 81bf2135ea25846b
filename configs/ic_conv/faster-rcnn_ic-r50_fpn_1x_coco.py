# Faster R-CNN, IC-ResNet-50: published with 38.9 box AP (IC-Conv, CVPR 2021). The original published neither config nor
# schedule, only "1x": all but the backbone is mmdet's own 1x config.
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py']
custom_imports = dict(imports=['mmext'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmext.ICResNet',
        depth=50,
        pattern='detection_r50_k9',
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        # the published ImageNet classifier as it is, put here by the user
        init_cfg=dict(
            type='mmext.PublishedCheckpoint',
            source='ic-conv',
            checkpoint='checkpoints/ic_resnet50_detection.pth.tar',
            prefix='backbone.',
        ),
    )
)
