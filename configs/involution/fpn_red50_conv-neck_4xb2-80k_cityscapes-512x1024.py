# Semantic FPN, RedNet-50, convolution in the neck: published with 78.0 mIoU (involution, CVPR 2021).
_base_ = [
    'mmseg::_base_/models/fpn_r50.py',
    'mmseg::_base_/datasets/cityscapes.py',
    'mmseg::_base_/schedules/schedule_80k.py',
    'mmseg::_base_/default_runtime.py',
]
custom_imports = dict(imports=['mmext'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='mmext.RedNet',
        depth=50,
        stem_kernel=7,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        # the published ImageNet classifier as it is, put here by the user; its stem kernel is checked at load
        init_cfg=dict(
            type='mmext.PublishedCheckpoint',
            source='involution',
            checkpoint='checkpoints/rednet50_in1k.pth',
            prefix='backbone.',
        ),
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
