# Mask R-CNN, RedNet-50, convolution in neck and heads: published with 39.9 box AP, 35.7 mask AP (involution, CVPR 2021).
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
custom_imports = dict(imports=['mmext', 'mmext.det'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmext.RedNet',
        depth=50,
        stem_kernel=7,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        # the published ImageNet classifier as it is, put here by the user; its stem kernel is checked at load
        init_cfg=dict(
            type='mmext.PublishedCheckpoint',
            source='involution',
            checkpoint='checkpoints/rednet50_in1k.pth',
            prefix='backbone.',
        ),
    )
)

# 500 warm-up steps as mmcv 1.x counted them: the step after the last one runs at the full rate
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
