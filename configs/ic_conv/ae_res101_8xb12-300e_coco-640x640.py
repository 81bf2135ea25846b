# Associative embedding, ResNet-101: published with 55.5 AP in one scale, 60.2 in three (IC-Conv, CVPR 2021).
_base_ = ['./_base_/associative_embedding_640_coco.py']

model = dict(
    backbone=dict(
        type='ResNet',
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101'),
    )
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_dataloader = dict(batch_size=12)
auto_scale_lr = dict(base_batch_size=96)  # 8 GPUs, see the base
