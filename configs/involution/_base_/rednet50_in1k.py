# The one ImageNet recipe of all five RedNets: 130 epochs, 64 GPUs x 32 pictures. Rows change the depth alone.
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs2048_coslr.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['mmext'], allow_failed_imports=False)

model = dict(
    # 7 as in the published table; the published classification code has 3, and a checkpoint with 3 says so at load
    backbone=dict(_delete_=True, type='mmext.RedNet', depth=50, stem_kernel=7, out_indices=(3,)),
    head=dict(loss=dict(_delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
)

# 3130 warm-up steps, 5 epochs of 626, multiplied onto a cosine that runs from the first epoch (not from the fifth)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.25, by_epoch=False, begin=0, end=3131),
    dict(type='CosineAnnealingLR', T_max=130, eta_min=0, by_epoch=True, begin=0, end=130),
]
train_cfg = dict(max_epochs=130)
