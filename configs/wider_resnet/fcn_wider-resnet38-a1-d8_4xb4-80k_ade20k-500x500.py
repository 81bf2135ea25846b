# ADE20K: published with 80.55 pixel accuracy and 43.34 mIoU on val, one scale with flip and two test steps.
# No training command was published: crop, rates and loss are those of Cityscapes; the schedule is ours.
_base_ = ['./_base_/fcn_a1-d8.py', 'mmseg::_base_/datasets/ade20k.py']

model = dict(
    decode_head=dict(num_classes=150),
    test_cfg=dict(steps=2),  # scores every 4 pixels, from four shifted passes
)

crop_size = (504, 504)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='mmext.RandomLongerSideCrop', crop_size=500, origin_size=500, scale_range=(0.7, 1.3)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmext.ResizeLongerSide', size=500),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmext.ResizeLongerSide', size=size) for size in (375, 500, 625)],
            [dict(type='LoadAnnotations', reduce_zero_label=True)],
            [dict(type='PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(batch_size=4, num_workers=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
# lr (1 - n / (N + 1)) down to 1e-6, which is reached just before the end
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=1e-6 / 0.0016, begin=0, end=79952, by_epoch=False)
]
