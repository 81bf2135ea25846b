# PASCAL VOC 2012 with SBD: published with 80.84 mIoU on val, one scale with flip; 82.5 on test, 83.1 in several scales.
# No training command was published: crop, rates and loss are those of Cityscapes; the schedule is ours.
_base_ = ['./_base_/fcn_a1-d8.py', 'mmseg::_base_/datasets/pascal_voc12_aug.py']

crop_size = (504, 504)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='mmext.RandomLongerSideCrop', crop_size=500, origin_size=500, scale_range=(0.7, 1.3)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmext.ResizeLongerSide', size=500),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmext.ResizeLongerSide', size=size) for size in (250, 375, 500, 625, 750)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
dataset_train = dict(
    type='PascalVOCDataset',
    data_root='data/VOCdevkit/VOC2012',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    ann_file='ImageSets/Segmentation/train.txt',
    pipeline=train_pipeline,
)
dataset_aug = dict(
    type='PascalVOCDataset',
    data_root='data/VOCdevkit/VOC2012',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
    ann_file='ImageSets/Segmentation/aug.txt',
    pipeline=train_pipeline,
)
train_dataloader = dict(batch_size=4, num_workers=4, dataset=dict(datasets=[dataset_train, dataset_aug]))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(type='IterBasedTrainLoop', max_iters=30000, val_interval=10000)
# lr (1 - n / (N + 1)) down to 1e-6, which is reached just before the end
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=1e-6 / 0.0016, begin=0, end=29983, by_epoch=False)
]
