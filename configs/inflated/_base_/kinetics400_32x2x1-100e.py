# Kinetics-400 as mmaction2's own I3D-50 trains and tests it: 32 frames, every second one; 100 epochs; a test of ten clips
# in three crops. All but the backbone is that config. Its classifier, the mean over frames and a linear layer, starts as
# an inflated one does and takes clips of any length; `mmext.InflatedLinearHead` would tie a network to 32 frames.
_base_ = ['mmaction::recognition/i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py']
custom_imports = dict(imports=['mmext', 'mmext.video'], allow_failed_imports=False)

# mmaction2's two steps of decoding, in the form that names a clip that cannot be read
train_pipeline = [
    dict(type='mmext.DecordInit', io_backend='disk'),
    _base_.train_pipeline[1],
    dict(type='mmext.DecordDecode'),
    *_base_.train_pipeline[3:],
]
val_pipeline = [
    dict(type='mmext.DecordInit', io_backend='disk'),
    _base_.val_pipeline[1],
    dict(type='mmext.DecordDecode'),
    *_base_.val_pipeline[3:],
]
test_pipeline = [
    dict(type='mmext.DecordInit', io_backend='disk'),
    _base_.test_pipeline[1],
    dict(type='mmext.DecordDecode'),
    *_base_.test_pipeline[3:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
