# The published associative embedding recipe on the mini COCO person keypoints of tools/make_mini_datasets.py: ResNet-18
# at half width, drawn persons, from scratch in minutes on two CPU cores.
_base_ = ['../ic_conv/_base_/associative_embedding_640_coco.py']

data_root = 'data/mini/coco_keypoints/'
# half the size of the pictures; heatmaps have a cell per 2 pixels, as the last stage dilates instead of striding
codec = dict(_base_.codec, input_size=(128, 128), heatmap_size=(64, 64), sigma=1.5)

model = dict(
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=32,
        base_channels=32,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
    ),
    head=dict(
        in_channels=256,
        deconv_out_channels=(64, 64, 64),
        # From scratch, the published weights either leave all tags equal (push factor 0.5 against the pull) or, with
        # a larger loss_weight, keep the heatmaps from being learnt.
        tag_loss=dict(loss_weight=0.0003, push_loss_factor=3.0),
        decoder=dict(codec, heatmap_size=codec['input_size']),
    ),
)

resize = dict(_base_.resize, input_size=codec['input_size'])
train_pipeline = [
    dict(type='LoadImage'),
    dict(_base_.affine, input_size=codec['input_size'], rotate_factor=15, shift_factor=0.1),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='mmext.BottomupGetHeatmapMask'),
    _base_.pack,
]
val_pipeline = [dict(type='LoadImage'), resize, _base_.pack]
multiscale_pipeline = [dict(type='LoadImage'), dict(resize, aug_scales=[2, 0.5]), _base_.pack]
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=val_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/person_keypoints_val2017.json')
test_evaluator = val_evaluator

max_epochs = 40
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True
    ),
]
optim_wrapper = dict(optimizer=dict(lr=4e-3))
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_epochs, max_keep_ckpts=2))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
