# Associative embedding, ResNet-50: published with 51.0 AP in one scale, 55.8 in three (IC-Conv, CVPR 2021).
_base_ = ['./_base_/associative_embedding_640_coco.py']

model = dict(
    backbone=dict(
        type='ResNet',
        depth=50,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    )
)
