"""The 16 published rows of the involution family: keys, recipe, and one training step of each network at full size."""

import copy
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
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
    cfg = Config.fromfile(FOLDER / f'{row}.py')
    init_default_scope(cfg.default_scope)
    return cfg


def labels(rng, count):
    return torch.from_numpy(rng.integers(count, size=2))


def pictures(rng, height, width):
    return [torch.from_numpy(rng.integers(256, size=(3, height, width), dtype=np.uint8)) for _ in range(2)]


def classification_batch(rng):
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(label) for label in labels(rng, 1000)]
    return dict(inputs=torch.stack(pictures(rng, 64, 64)), data_samples=samples)


def detection_batch(rng):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    corners = [(2, 2, 40, 44), (4, 8, 125, 126)]
    samples = []
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(img_shape=(128, 128), ori_shape=(128, 128), scale_factor=(1, 1)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(corners, dtype=torch.float32),
            labels=torch.from_numpy(rng.integers(80, size=2)),
            masks=BitmapMasks(rng.integers(2, size=(2, 128, 128), dtype=np.uint8), 128, 128),
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        samples.append(sample)
    return dict(inputs=pictures(rng, 128, 128), data_samples=samples)


def segmentation_batch(rng):
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 128), ori_shape=(64, 128)))
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(rng.integers(19, size=(1, 64, 128))))
        samples.append(sample)
    return dict(inputs=pictures(rng, 64, 128), data_samples=samples)


BATCHES = {'mmpretrain': classification_batch, 'mmdet': detection_batch, 'mmseg': segmentation_batch}


def set_statistics(model, batch):
    """Give the backbone's BatchNorms the statistics of a batch, as a trained network has them.

    Detection keeps these layers in eval mode. With the initial statistics they would normalise nothing, and an
    involution, quadratic in its input, would overflow.
    """
    norms = [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        model.backbone(model.data_preprocessor(copy.deepcopy(batch), True)['inputs'])
    for norm in norms:
        norm.momentum = 0.1


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
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    for name, module in model.backbone.named_modules():
        if name.endswith('.bn3'):  # zero at first, by which the block's other layers would get no gradient
            nn.init.constant_(module.weight, 0.2)
    batch = BATCHES[cfg.default_scope](np.random.default_rng(0))
    set_statistics(model, batch)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    wrapper.zero_grad = lambda: None  # train_step would clear the gradients after the step
    losses = model.train().train_step(batch, wrapper)
    assert all(torch.isfinite(loss).all() for loss in losses.values()), losses
    without = [
        name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not (p.grad != 0).any())
    ]
    assert without == []
    for name, p in model.named_parameters():
        assert torch.isfinite(p).all(), name
        assert torch.equal(p, before[name]) != p.requires_grad, name
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
