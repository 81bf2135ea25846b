# The published segmentation recipe of Wider-ResNet Model A1 on the mini Cityscapes data of
# tools/make_mini_datasets.py: an eighth of the width, drawn street scenes of 256 x 128 pixels, from scratch in minutes on
# two CPU cores; so statistics are not frozen and the rate is higher.
_base_ = ['../wider_resnet/fcn_wider-resnet38-a1-d8_4xb4-26k-12k_cityscapes-500x500.py']

data_root = 'data/mini/cityscapes/'
crop_size = (128, 128)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(width=1 / 8, norm_eval=False, dropout=(0.0, 0.0)),
    decode_head=dict(in_channels=512, channels=64, dilation=4),
    test_cfg=dict(steps=2),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='mmext.RandomLongerSideCrop', crop_size=128, origin_size=256, scale_range=(0.7, 1.3)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmext.ResizeLongerSide', size=256),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmext.ResizeLongerSide', size=size) for size in (256, 384)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]

load_from = None
max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
# fixed, then in a line to the last rate, as the two published runs together
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='LinearLR', start_factor=1.0, end_factor=1e-6 / 0.05, by_epoch=False, begin=max_iters // 2, end=max_iters
    ),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, max_keep_ckpts=2))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
