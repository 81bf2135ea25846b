# Cityscapes, second of the two published runs: 64 epochs from the first one's weights, the learning rate falling in a
# line. Published with 78.08 mIoU on val, one scale with flip.
_base_ = ['./fcn_wider-resnet38-a1-d8_4xb4-26k_cityscapes-500x500.py']

load_from = 'work_dirs/fcn_wider-resnet38-a1-d8_4xb4-26k_cityscapes-500x500/iter_25900.pth'
model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(optimizer=dict(lr=0.0008))
train_cfg = dict(max_iters=11840, val_interval=11840)
# lr (1 - n / (N + 1)) down to 1e-6, which is reached just before the end
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=1e-6 / 0.0008, begin=0, end=11827, by_epoch=False)
]
