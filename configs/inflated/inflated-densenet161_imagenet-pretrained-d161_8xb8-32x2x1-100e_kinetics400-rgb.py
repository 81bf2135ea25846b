# Inflated DenseNet-161 on Kinetics-400, from ImageNet weights that are inflated when training starts. The 3x3 convolutions
# see three frames, as in the original's demonstration. No training recipe was published: this is mmaction2's for I3D.
_base_ = ['./_base_/kinetics400_32x2x1-100e.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmext.InflatedDenseNet',
        depth=161,
        inflate_block_convs=True,
        pretrained='torchvision://densenet161',
    ),
    cls_head=dict(in_channels=2208),
)
