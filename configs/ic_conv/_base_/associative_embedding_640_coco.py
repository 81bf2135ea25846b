# The one recipe of the four published associative-embedding rows: 300 epochs on COCO at 640 x 640 pixels. Rows change
# backbone, batch size and learning rate. mmext.* are mmpose's classes of the same name, which neither train nor test in
# several scales.
_base_ = ['mmpose::_base_/default_runtime.py']
custom_imports = dict(imports=['mmext', 'mmext.pose'], allow_failed_imports=False)

train_cfg = dict(max_epochs=300, val_interval=50)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3))
# 500 warm-up steps as mmcv 1.x counted them: the step after the last one runs at the full rate
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', begin=0, end=300, by_epoch=True, milestones=[200, 260], gamma=0.1),
]
# The number of GPUs is not published. 8 is what the learning rates of mmpose 0.x, in which the rows were trained, are
# meant for: 8 x 16 pictures.
auto_scale_lr = dict(base_batch_size=128)
default_hooks = dict(checkpoint=dict(interval=50, save_best='coco/AP', rule='greater'))

codec = dict(
    type='mmext.AssociativeEmbedding',
    input_size=(640, 640),
    heatmap_size=(160, 160),
    sigma=2,
    decode_nms_kernel=5,
    decode_keypoint_thr=0.1,
    decode_tag_thr=1.0,
    decode_topk=30,
    decode_max_instances=30,
    decode_center_shift=0.5,
    # head and trunk first, then outwards
    decode_keypoint_order=[0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16],
)

model = dict(
    type='mmext.BottomupPoseEstimator',
    data_preprocessor=dict(
        type='mmext.PoseDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    head=dict(
        type='mmext.AssociativeEmbeddingHead',
        in_channels=2048,
        num_keypoints=17,
        tag_dim=1,
        tag_per_keypoint=True,
        keypoint_loss=dict(type='KeypointMSELoss'),
        # 0.001 as published: this loss is a mean over the pictures of a batch, as it was in mmpose 0.x. mmpose's class
        # of the same name is a sum, in which the weight would grow with the batch.
        tag_loss=dict(type='mmext.AssociativeEmbeddingLoss', loss_weight=0.001),
        # decoded at the size of the input, see restore_heatmap_size
        decoder=dict(codec, heatmap_size=codec['input_size']),
    ),
    test_cfg=dict(
        multiscale_test=False,
        flip_test=True,
        shift_heatmap=False,
        restore_heatmap_size=True,
        align_corners=False,
    ),
)

dataset_type = 'CocoDataset'
data_mode = 'bottomup'
data_root = 'data/coco/'

# no category_id: a bottom-up sample has one per person, on which CocoMetric fails
meta_keys = (
    'id', 'img_id', 'img_path', 'crowd_index', 'ori_shape', 'img_shape', 'input_size', 'input_center', 'input_scale',
    'flip', 'flip_direction', 'flip_indices', 'raw_ann_info',
)  # fmt: skip
pack = dict(type='mmext.PackPoseInputs', meta_keys=meta_keys)
resize = dict(type='mmext.BottomupResize', input_size=codec['input_size'], size_factor=64, resize_mode='expand')
# the published shift, 40 / 200 of the side, is 0.2 here; mmpose 1.x takes it of the side before scaling
affine = dict(
    type='BottomupRandomAffine',
    input_size=codec['input_size'],
    rotate_factor=30,
    scale_factor=(0.75, 1.5),
    scale_type='short',
    shift_factor=0.2,
    distribution='uniform',
)
train_pipeline = [
    dict(type='LoadImage'),
    affine,
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='mmext.BottomupGetHeatmapMask'),
    pack,
]
val_pipeline = [dict(type='LoadImage'), resize, pack]
# of the configs whose name ends in _multiscale, together with model.test_cfg.multiscale_test=True
multiscale_pipeline = [dict(type='LoadImage'), dict(resize, aug_scales=[2, 0.5]), pack]

train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_mode=data_mode,
        ann_file='annotations/person_keypoints_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,  # pictures are padded to sizes of their own
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_mode=data_mode,
        ann_file='annotations/person_keypoints_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'annotations/person_keypoints_val2017.json',
    nms_mode='none',
    score_mode='bbox',
)
test_evaluator = val_evaluator
