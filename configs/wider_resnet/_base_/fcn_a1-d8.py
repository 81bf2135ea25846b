# Model A1 at stride 8 with the two-convolution head, as trained and tested for segmentation.
_base_ = ['mmseg::_base_/default_runtime.py']
custom_imports = dict(imports=['mmext', 'mmext.seg'], allow_failed_imports=False)

data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(504, 504),  # 500, raised to whole cells of 8 pixels
)
model = dict(
    type='mmext.SteppedEncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mmext.WiderResNet',
        arch='A1',
        output_stride=8,
        dropout=(0.3, 0.5),
        norm_eval=True,
        with_cp=False,  # True: 41 % of the activation memory, the same results
        # the published ImageNet classifier as it is, put here by the user
        init_cfg=dict(
            type='mmext.PublishedCheckpoint',
            source='ademxapp',
            checkpoint='checkpoints/ilsvrc-cls_rna-a1_cls1000_ep-0001.params',
            prefix='backbone.',
        ),
    ),
    decode_head=dict(
        type='mmext.DilatedFCNHead',
        in_channels=4096,
        channels=512,
        num_classes=21,
        loss_decode=dict(type='mmext.BootstrappedCrossEntropyLoss', thresh=0.6, min_kept=256),
    ),
    train_cfg=dict(),
    # one scale with flip; `test.py --tta` tests in several
    test_cfg=dict(mode='steps', steps=1, stride=8, flip=True, pad='square'),
)

# Weights and gammas decay. Biases and betas do not, and learn twice as fast.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.0016, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys={'.bias': dict(lr_mult=2.0, decay_mult=0.0)}),
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
tta_model = dict(type='mmext.AverageProbabilityTTA')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2000, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
