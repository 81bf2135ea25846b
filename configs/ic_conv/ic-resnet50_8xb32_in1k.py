# IC-ResNet-50 on ImageNet. The original released weights of this retraining for its detection, segmentation
# and pose patterns, but neither recipe nor accuracy: all but the backbone is mmpretrain's own config.
_base_ = ['mmpretrain::resnet/resnet50_8xb32_in1k.py']
custom_imports = dict(imports=['mmext'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='mmext.ICResNet', depth=50, pattern='detection_r50_k9', out_indices=(3,))
)
