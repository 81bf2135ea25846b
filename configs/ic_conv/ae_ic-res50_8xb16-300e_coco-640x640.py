# Associative embedding, IC-ResNet-50: published with 62.2 AP in one scale, 65.8 in three (IC-Conv, CVPR 2021).
_base_ = ['./ae_res50_8xb16-300e_coco-640x640.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmext.ICResNet',
        depth=50,
        pattern='pose_r50_k13',
        out_indices=(3,),
        # the published ImageNet classifier as it is, put here by the user
        init_cfg=dict(
            type='mmext.PublishedCheckpoint',
            source='ic-conv',
            checkpoint='checkpoints/ic_resnet50_pose.pth.tar',
            prefix='backbone.',
        ),
    )
)
