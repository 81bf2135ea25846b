# Associative embedding, IC-ResNet-101: published with 63.3 AP in one scale, 68.5 in three (IC-Conv, CVPR 2021).
_base_ = ['./ae_res101_8xb12-300e_coco-640x640.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmext.ICResNet',
        depth=101,
        pattern='pose_r101_k13',
        out_indices=(3,),
        # the published ImageNet classifier as it is, put here by the user
        init_cfg=dict(
            type='mmext.PublishedCheckpoint',
            source='ic-conv',
            checkpoint='checkpoints/ic_resnet101_pose.pth.tar',
            prefix='backbone.',
        ),
    )
)
