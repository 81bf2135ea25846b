# Cityscapes test set with Model A2: published with 78.4 class IoU in one scale, 79.4 in several (fine annotations),
# 79.9 and 80.6 with the coarse ones. Neither the training command nor weights of Model A2 were published: training is
# that of Model A1, here. test.py writes the files that the benchmark's server takes, with label ids.
_base_ = ['./fcn_wider-resnet38-a1-d8_4xb4-26k-12k_cityscapes-500x500.py']

load_from = None
model = dict(
    backbone=dict(
        arch='A2',
        # Model A's or A1's classifier: the three models have the same parameters
        init_cfg=dict(
            _delete_=True,
            type='mmext.PublishedCheckpoint',
            source='ademxapp',
            checkpoint='checkpoints/ilsvrc-cls_rna-a_cls1000_ep-0001.params',
            prefix='backbone.',
        ),
    )
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmext.ResizeLongerSide', size=2048),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmext.ResizeLongerSide', size=size) for size in (1024, 1536, 2048, 2560)],
            [dict(type='PackSegInputs')],
        ],
    ),
]
test_dataloader = dict(
    dataset=dict(data_prefix=dict(img_path='leftImg8bit/test', seg_map_path=''), pipeline=test_pipeline, test_mode=True)
)
test_evaluator = dict(
    _delete_=True,
    type='CityscapesMetric',
    format_only=True,
    keep_results=True,
    output_dir='work_dirs/cityscapes_test',
)
