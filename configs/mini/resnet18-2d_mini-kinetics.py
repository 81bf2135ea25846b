# The network of inflated-resnet18_mini-kinetics.py on single frames, trained alike: of one frame, the outer taps of its
# kernels see padding alone, so that it is the 2D network. It sees no motion and should do no better than chance.
_base_ = ['./inflated-resnet18_mini-kinetics.py']

sample = dict(type='SampleFrames', clip_len=1, num_clips=1)
train_pipeline = [
    dict(type='mmext.DecordInit', io_backend='disk'),
    sample,
    dict(type='mmext.DecordDecode'),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
val_pipeline = [
    dict(type='mmext.DecordInit', io_backend='disk'),
    dict(sample, test_mode=True),
    dict(type='mmext.DecordDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = val_pipeline
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
