"""The 16 published rows of the involution family: keys, recipe, and one training step of each network at full size."""

from pathlib import Path

import golden
import numpy as np
import pytest
import row_steps
import torch
from mmengine.registry import MODELS
from torch import nn

FOLDER = Path(__file__).parent.parent / 'configs' / 'involution'

# row -> its list of keys in the golden data (the list of RedNet-38 is not there)
CLASSIFICATION = {
    'rednet26_64xb32-130e_in1k': 'rednet26',
    'rednet38_64xb32-130e_in1k': None,
    'rednet50_64xb32-130e_in1k': 'rednet50',
    'rednet101_64xb32-130e_in1k': 'rednet101',
    'rednet152_64xb32-130e_in1k': 'rednet152',
}
# row -> golden keys, learning rate, warm-up steps, largest gradient norm
DETECTION = {
    'faster-rcnn_red50_fpn-conv-neck_conv-head_1x_coco': ('faster_rcnn_red50_fpn', 0.02, 500, None),
    'faster-rcnn_red50_fpn-inv-neck_conv-head_1x_coco': ('faster_rcnn_red50_neck_fpn', 0.02, 2000, None),
    'faster-rcnn_red50_fpn-inv-neck_inv-head_1x_coco': ('faster_rcnn_red50_neck_fpn_head', 0.02, 2000, 5),
    'mask-rcnn_red50_fpn-conv-neck_conv-head_1x_coco': ('mask_rcnn_red50_fpn', 0.02, 500, None),
    'mask-rcnn_red50_fpn-inv-neck_conv-head_1x_coco': ('mask_rcnn_red50_neck_fpn', 0.02, 2000, None),
    'mask-rcnn_red50_fpn-inv-neck_inv-head_1x_coco': ('mask_rcnn_red50_neck_fpn_head', 0.02, 2000, 5),
    'retinanet_red50_fpn-conv-neck_1x_coco': ('retinanet_red50_fpn', 0.01, 2000, None),
    'retinanet_red50_fpn-inv-neck_1x_coco': ('retinanet_red50_neck_fpn', 0.01, 2000, 40),
}
SEGMENTATION = {
    'fpn_red50_conv-neck_4xb2-80k_cityscapes-512x1024': 'fpn_red50',
    'fpn_red50_inv-neck_4xb2-80k_cityscapes-512x1024': 'fpn_red50_neck',
    'upernet_red50_conv-neck_4xb2-80k_cityscapes-512x1024': 'upernet_red50',
}
KEYS = {**CLASSIFICATION, **{row: settings[0] for row, settings in DETECTION.items()}, **SEGMENTATION}


def load(row):
    return row_steps.load(FOLDER / f'{row}.py')


def test_every_published_row_is_listed():
    assert sorted(path.stem for path in FOLDER.glob('*.py')) == sorted(KEYS)
    assert len(KEYS) == 16


@pytest.mark.parametrize('row', [row for row, keys in KEYS.items() if keys])
def test_state_dict_has_the_published_keys(row):
    case = golden.Case('involution', f'rows/{KEYS[row]}')
    cfg = load(row)
    if row in CLASSIFICATION:
        cfg.model.backbone.stem_kernel = 3  # as in the published code, from which the list was made
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    keys = sorted((key, tuple(value.shape)) for key, value in model.state_dict().items())
    assert keys == sorted(case.keys_and_shapes())
    assert sum(p.numel() for p in model.parameters()) == case['params']
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == case['params_trainable']


@pytest.mark.parametrize('row', KEYS)
def test_one_step_moves_every_trainable_parameter(row):
    cfg = load(row)
    cfg.model.backbone.pop('init_cfg', None)  # the published file
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (64, 128)  # small pictures instead of padding them to the crop
    model = row_steps.take_a_step(cfg)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert all(name.startswith(('backbone.stem.', 'backbone.layer1.')) for name in frozen)
    assert bool(frozen) == (row in DETECTION)


@pytest.mark.parametrize('row', CLASSIFICATION)
def test_classification_recipe(row):
    cfg = load(row)
    sgd = dict(type='SGD', lr=0.8, momentum=0.9, weight_decay=1e-4, nesterov=True)
    assert {key: cfg.optim_wrapper.optimizer[key] for key in sgd} == sgd
    assert cfg.optim_wrapper.keys() == {'optimizer'}  # no clipping, and weight decay on everything
    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.by_epoch) == ('LinearLR', 0.25, False)
    assert (warmup.begin, warmup.end) == (0, 3131)
    assert (cosine.type, cosine.T_max, cosine.eta_min, cosine.by_epoch) == ('CosineAnnealingLR', 130, 0, True)
    assert (cosine.begin, cosine.end) == (0, 130)
    assert cfg.train_cfg.max_epochs == 130
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (32, 2048)
    loss = cfg.model.head.loss
    assert (loss.type, loss.label_smooth_val, loss.mode) == ('LabelSmoothLoss', 0.1, 'original')
    assert (cfg.model.head.num_classes, cfg.model.head.in_channels, cfg.model.head.topk) == (1000, 2048, (1, 5))
    assert cfg.model.backbone.stem_kernel == 7
    assert [step.type for step in cfg.train_pipeline] == [
        'LoadImageFromFile',
        'RandomResizedCrop',
        'RandomFlip',
        'PackInputs',
    ]


def test_the_warm_up_is_that_of_mmcv_1():
    """Learning rate at each step: (1 - (1 - step / 3130) * 0.75) times the cosine of the epoch, as mmcv 1.x has it."""
    from mmengine.optim import CosineAnnealingLR, LinearLR

    schedulers = load('rednet50_64xb32-130e_in1k').param_scheduler
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.8)
    linear, cosine = (
        cls(optimizer, **{key: value for key, value in cfg.items() if key != 'type'})
        for cls, cfg in zip((LinearLR, CosineAnnealingLR), schedulers)
    )
    for step in range(8 * 626):
        epoch = step // 626
        regular = 0.8 * (1 + np.cos(np.pi * epoch / 130)) / 2
        factor = 1 - (1 - step / 3130) * (1 - 0.25) if step < 3130 else 1
        assert optimizer.param_groups[0]['lr'] == pytest.approx(regular * factor, rel=1e-9)
        optimizer.step()
        linear.step()
        if (step + 1) % 626 == 0:
            cosine.step()


@pytest.mark.parametrize('row', DETECTION)
def test_detection_recipe(row):
    cfg = load(row)
    _, lr, warmup_steps, clip = DETECTION[row]
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4)
    assert cfg.optim_wrapper.get('clip_grad') == (clip and dict(max_norm=clip, norm_type=2))
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.by_epoch, warmup.begin, warmup.end) == (0.001, False, 0, warmup_steps + 1)
    assert (steps.begin, steps.end, steps.milestones, steps.gamma) == (0, 12, [8, 11], 0.1)
    assert cfg.train_cfg.max_epochs == 12
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (2, 16)
    backbone = cfg.model.backbone
    assert (backbone.frozen_stages, backbone.norm_eval, backbone.stem_kernel) == (1, True, 7)
    assert backbone.init_cfg.type == 'mmext.PublishedCheckpoint'
    assert cfg.model.neck.type == ('mmext.InvolutionFPN' if 'inv-neck' in row else 'FPN')
    if 'rpn_head' in cfg.model:
        assert cfg.model.rpn_head.type == ('mmext.InvolutionRPNHead' if 'inv-head' in row else 'RPNHead')
        assert cfg.model.train_cfg.rcnn.assigner.match_low_quality == row.startswith('mask')
    else:
        assert (cfg.model.neck.start_level, cfg.model.neck.add_extra_convs) == (1, 'on_input')
    if row.startswith('mask'):
        mask_head = cfg.model.roi_head.mask_head.type
        assert mask_head == ('mmext.InvolutionMaskHead' if 'inv-head' in row else 'FCNMaskHead')


@pytest.mark.parametrize('row', SEGMENTATION)
def test_segmentation_recipe(row):
    cfg = load(row)
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)
    assert cfg.optim_wrapper.clip_grad is None
    (poly,) = cfg.param_scheduler
    assert (poly.type, poly.power, poly.eta_min, poly.by_epoch) == ('PolyLR', 0.9, 1e-4, False)
    assert (poly.begin, poly.end, cfg.train_cfg.max_iters) == (0, 80000, 80000)
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (2, 8)
    assert cfg.crop_size == (512, 1024) == cfg.model.data_preprocessor['size']
    backbone = cfg.model.backbone
    assert (backbone.norm_cfg.type, backbone.norm_eval, backbone.stem_kernel) == ('SyncBN', False, 7)
    assert 'frozen_stages' not in backbone
    assert ('neck' in cfg.model) == row.startswith('fpn')
    assert ('auxiliary_head' in cfg.model) == row.startswith('upernet')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    # SyncBN everywhere but inside the involutions and after the stem's, where the published code has plain BN
    plain = {name for name, module in model.named_modules() if type(module) is nn.BatchNorm2d}
    assert all(name.endswith('conv1.bn') or name == 'backbone.stem.2' for name in plain)
    assert 'backbone.stem.2' in plain
    assert 'backbone.layer1.0.conv2.conv1.bn' in plain
    assert isinstance(model.backbone.layer1[0].bn1, nn.SyncBatchNorm)
    assert cfg.tta_model.type == 'SegTTAModel'
