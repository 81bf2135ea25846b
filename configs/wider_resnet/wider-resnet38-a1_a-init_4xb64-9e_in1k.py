# Wider-ResNet Model A1, tuned for nine epochs from Model A: published with 19.54 / 4.75 top-1 / top-5 error.
_base_ = ['./_base_/in1k.py']

model = dict(
    # Model A as published, put here by the user: the two models have the same parameters
    init_cfg=dict(
        type='mmext.PublishedCheckpoint',
        source='ademxapp',
        checkpoint='checkpoints/ilsvrc-cls_rna-a_cls1000_ep-0001.params',
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
train_cfg = dict(max_epochs=9)
param_scheduler = dict(end=9, end_factor=1e-4)
