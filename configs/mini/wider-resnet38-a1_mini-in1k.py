# The published recipe of Wider-ResNet Model A1 on the mini ImageNet data of tools/make_mini_datasets.py: an eighth of
# the width, ten handwritten digits on photographs, from scratch in two minutes on two CPU cores.
_base_ = ['../wider_resnet/wider-resnet38-a1_4xb64-90e_in1k.py']

data_root = 'data/mini/imagenet'
classes = tuple('0123456789')
data_preprocessor = dict(num_classes=len(classes))

model = dict(backbone=dict(width=1 / 8), head=dict(in_channels=512, num_classes=len(classes), topk=(1,)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmext.RandomSizedCrop', size=64, area_range=(0.7, 1.0)),
    dict(type='mmext.UnclippedColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='mmext.ScaledLighting'),
    dict(type='PackInputs'),  # no flip: a mirrored digit is no digit
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmext.ResizeShorterSide', size=64, filter='bicubic'),
    dict(type='mmext.SideCrop', size=64),
    dict(type='PackInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmext.ResizeShorterSide', size=size, filter='bicubic') for size in (64, 72)],
            [dict(type='mmext.SideCrop', size=64, position=position) for position in ('start', 'centre', 'end')],
            [dict(type='PackInputs')],
        ],
    ),
]
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=32, num_workers=1, dataset=dict(pipeline=train_pipeline, **dataset))
val_dataloader = dict(batch_size=50, num_workers=1, dataset=dict(pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator

max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = dict(end=max_epochs, end_factor=5e-5)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(max_keep_ckpts=2))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
