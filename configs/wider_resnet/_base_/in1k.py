# Wider-ResNet on ImageNet: the published pipelines. Training at 224 x 224; testing one crop of 320 x 320 pixels.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs64_pil_resize.py', 'mmpretrain::_base_/default_runtime.py']
custom_imports = dict(imports=['mmext', 'mmext.cls'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmext.WiderResNet', arch='A1'),
    neck=dict(type='GlobalAveragePooling'),
    # without init_cfg the layer starts as PyTorch's own, U(-1 / 64, 1 / 64), which is the published start
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=4096,
        init_cfg=None,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmext.RandomSizedCrop', size=224),
    dict(type='mmext.UnclippedColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='mmext.ScaledLighting'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
size = 320
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmext.ResizeShorterSide', size=size, filter='bicubic'),
    dict(type='mmext.SideCrop', size=size),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline), drop_last=True)
val_dataloader = dict(batch_size=10, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# three crops, each with its mirror image, in three scales: `test.py --tta`
tta_model = dict(type='mmext.AverageClsScoreTTA')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmext.ResizeShorterSide', size=scale, filter='bicubic') for scale in (320, 352, 384)],
            [dict(type='mmext.SideCrop', size=size, position=position) for position in ('start', 'centre', 'end')],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='PackInputs')],
        ],
    ),
]

# Weight decay on weights and on the norms' gammas, not on biases and betas.
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True),
    paramwise_cfg=dict(custom_keys={'.bias': dict(decay_mult=0.0)}),
)
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
val_cfg = dict()
test_cfg = dict()
# lr (1 - n / N), down to the published last rate of 1e-6
param_scheduler = dict(
    type='LinearLR', start_factor=1.0, end_factor=1e-5, begin=0, end=90, by_epoch=True, convert_to_iter_based=True
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
