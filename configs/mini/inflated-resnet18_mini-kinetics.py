# Inflated ResNet-18 on the mini Kinetics data of tools/make_mini_datasets.py, whose classes are told by motion alone: a
# quarter of the width, eight frames of 64 x 64 pixels, from scratch in minutes on two CPU cores.
_base_ = ['../inflated/inflated-resnet50_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py']

data_root = 'data/mini/kinetics400/'
classes = ('rise', 'fall', 'slide', 'rest')

model = dict(
    backbone=dict(depth=18, stem_channels=16, base_channels=16, pretrained=None),
    cls_head=dict(in_channels=128, num_classes=len(classes), dropout_ratio=0.2, topk=(1,)),
)

sample = dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=1)
train_pipeline = [
    dict(type='mmext.DecordInit', io_backend='disk'),
    sample,
    dict(type='mmext.DecordDecode'),
    dict(type='Flip', flip_ratio=0.5),  # a mirrored clip is of the same class
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
val_pipeline = [
    dict(type='mmext.DecordInit', io_backend='disk'),
    dict(sample, test_mode=True),
    dict(type='mmext.DecordDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = val_pipeline
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        ann_file='kinetics400_train_list_videos.txt',
        data_root=data_root,
        data_prefix=dict(video='videos_train'),
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=20,
    num_workers=1,
    dataset=dict(
        ann_file='kinetics400_val_list_videos.txt',
        data_root=data_root,
        data_prefix=dict(video='videos_val'),
        metainfo=dict(classes=classes),
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(metric_options=dict(top_k_accuracy=dict(topk=(1,))))
test_evaluator = val_evaluator

max_epochs = 40
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True
    ),
]
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(logger=dict(interval=5), checkpoint=dict(interval=max_epochs, max_keep_ckpts=2, save_best=None))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
