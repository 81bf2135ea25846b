"""The rows of the IC-Conv family: what they say, and one training step of each network at full size."""

from pathlib import Path

import pytest
import row_steps
import torch
from mmengine.hub import get_config
from mmengine.registry import MODELS

from mmext.patterns import load_pattern

FOLDER = Path(__file__).parent.parent / 'configs' / 'ic_conv'
CLASSIFICATION = {
    'ic-resnet50_8xb32_in1k': 'detection_r50_k9',
    'ic-resnet101_8xb32_in1k': 'detection_r101_k9',
    'ic-resnext101-32x4d_8xb32_in1k': None,
}
DETECTION = {
    f'{name}_ic-r{depth}_fpn_1x_coco': f'{task}_r{depth}_k9'
    for name, task in (
        ('faster-rcnn', 'detection'),
        ('cascade-rcnn', 'detection'),
        ('mask-rcnn', 'segmentation'),
        ('cascade-mask-rcnn', 'segmentation'),
    )
    for depth in (50, 101)
}
# row -> pattern, learning rate, pictures per GPU
POSE = {
    'ae_res50_mmpose-lr_8xb16-300e_coco-640x640': (None, 1.5e-3, 16),
    'ae_res50_8xb16-300e_coco-640x640': (None, 1e-3, 16),
    'ae_ic-res50_8xb16-300e_coco-640x640': ('pose_r50_k13', 1e-3, 16),
    'ae_res101_8xb12-300e_coco-640x640': (None, 5e-4, 12),
    'ae_ic-res101_8xb12-300e_coco-640x640': ('pose_r101_k13', 5e-4, 12),
}
ROWS = *CLASSIFICATION, *DETECTION, *POSE


def load(row):
    return row_steps.load(FOLDER / f'{row}.py')


def test_every_row_is_listed():
    multiscale = [f'{row}_multiscale' for row in POSE]
    assert sorted(path.stem for path in FOLDER.glob('*.py')) == sorted([*ROWS, *multiscale])
    assert len(DETECTION) == 8
    assert len(POSE) == 5


@pytest.mark.parametrize('row', ROWS)
def test_one_step_moves_every_trainable_parameter(row):
    cfg = load(row)
    cfg.model.backbone.pop('init_cfg', None)  # a published file
    # mmdet's Cascade R-CNN trains no anchors that reach over the border: those of the last levels need room
    model = row_steps.take_a_step(cfg, **(dict(size=288) if row.startswith('cascade') else {}))
    frozen = {name.split('.')[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == ({'conv1', 'bn1', 'layer1'} if row in DETECTION else set())


@pytest.mark.parametrize('row', [*CLASSIFICATION, *DETECTION])
def test_backbones_have_the_published_patterns(row):
    cfg = load(row)
    name = {**CLASSIFICATION, **DETECTION}[row]
    backbone = cfg.model.backbone
    depth = 101 if '101' in row else 50
    assert (backbone.depth, backbone.pattern) == (depth, name or 'proportional')
    with torch.device('meta'):
        model = MODELS.build({key: value for key, value in backbone.items() if key != 'init_cfg'})
    if name:
        assert model.pattern == load_pattern(name)
    if row in DETECTION:
        assert (backbone.frozen_stages, backbone.norm_eval) == (1, True)
        source = backbone.init_cfg
        assert (source.type, source.source, source.prefix) == ('mmext.PublishedCheckpoint', 'ic-conv', 'backbone.')
        assert source.checkpoint == f'checkpoints/ic_resnet{depth}_{name.partition("_")[0]}.pth.tar'


def without_scope(value):
    """A setting without the scope that mmengine notes in what it inherits from another package."""
    if isinstance(value, dict):
        return {key: without_scope(part) for key, part in value.items() if key != '_scope_'}
    return [without_scope(part) for part in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize('row', DETECTION)
def test_all_but_the_backbone_is_the_toolboxs_1x_config(row):
    cfg, name = load(row), row.partition('_')[0]
    base = get_config(
        f'mmdet::{"cascade_rcnn" if "cascade" in name else name.replace("-", "_")}/{name}_r50_fpn_1x_coco.py'
    )
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader', 'auto_scale_lr', 'model'):
        found, expected = without_scope(cfg.to_dict()[key]), without_scope(base.to_dict()[key])
        if key == 'model':
            assert found.pop('backbone')['type'] == 'mmext.ICResNet'
            assert expected.pop('backbone')['type'] == 'ResNet'
        assert found == expected


@pytest.mark.parametrize('row', POSE)
def test_pose_recipe(row):
    cfg = load(row)
    pattern, lr, batch_size = POSE[row]
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=lr)
    assert 'clip_grad' not in cfg.optim_wrapper
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.by_epoch, warmup.begin, warmup.end) == (0.001, False, 0, 501)
    assert (steps.milestones, steps.gamma, cfg.train_cfg.max_epochs) == ([200, 260], 0.1, 300)
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (batch_size, 8 * batch_size)
    assert cfg.model.backbone.type == ('mmext.ICResNet' if pattern else 'ResNet')
    assert cfg.model.backbone.get('pattern') == pattern
    assert (cfg.codec.input_size, cfg.codec.heatmap_size, cfg.codec.sigma) == ((640, 640), (160, 160), 2)
    assert cfg.model.test_cfg.flip_test
    assert not cfg.model.test_cfg.multiscale_test
    several = load(f'{row}_multiscale')
    assert several.model.test_cfg.multiscale_test
    (resize,) = (step for step in several.test_dataloader.dataset.pipeline if step.type == 'mmext.BottomupResize')
    assert (resize.aug_scales, resize.size_factor) == ([2, 0.5], 64)
    assert several.model.backbone == cfg.model.backbone
    assert several.train_dataloader == cfg.train_dataloader
