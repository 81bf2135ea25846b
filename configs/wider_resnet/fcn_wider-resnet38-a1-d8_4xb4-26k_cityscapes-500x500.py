# Cityscapes, first of the two published runs: 140 epochs at a fixed learning rate, from the ImageNet classifier.
_base_ = ['./_base_/fcn_a1-d8.py', 'mmseg::_base_/datasets/cityscapes.py']

model = dict(
    decode_head=dict(num_classes=19),
    test_cfg=dict(pad='multiple'),  # pictures are 1024 x 2048
)

crop_size = (504, 504)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='mmext.RandomLongerSideCrop', crop_size=500, origin_size=2048, scale_range=(0.7, 1.3)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmext.ResizeLongerSide', size=2048),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmext.ResizeLongerSide', size=size) for size in (1024, 1536, 2048, 2560)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(batch_size=4, num_workers=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(type='IterBasedTrainLoop', max_iters=25900, val_interval=25900)
param_scheduler = []  # 0.0016 throughout
