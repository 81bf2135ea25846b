# Inflated ResNet-50 on Kinetics-400, from ImageNet weights that are inflated when training starts. No training recipe was
# published: this is mmaction2's for I3D.
_base_ = ['./_base_/kinetics400_32x2x1-100e.py']

model = dict(
    backbone=dict(_delete_=True, type='mmext.InflatedResNet', depth=50, pretrained='torchvision://resnet50'),
)
