"""Every shipped config parses over the installed toolboxes and builds; a published row has the published recipe."""

import re
from pathlib import Path

import golden
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


def load(path):
    cfg = Config.fromfile(ROOT / path)
    init_default_scope(cfg.default_scope)
    return cfg


def build(cfg):
    from mmengine.registry import MODELS

    return MODELS.build(cfg.model)


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_builds(path):
    cfg = load(path)
    assert cfg.custom_imports.allow_failed_imports is False
    assert cfg.auto_scale_lr.base_batch_size > 0
    with torch.device('meta'):
        assert sum(p.numel() for p in build(cfg).parameters()) > 0


def test_faster_rcnn_with_involution_neck_and_head():
    cfg = load('configs/involution/faster-rcnn_red50_fpn-inv-neck_inv-head_1x_coco.py')
    case = golden.Case('involution', 'rows/faster_rcnn_red50_neck_fpn_head')
    with torch.device('meta'):
        model = build(cfg)
    assert sorted((key, tuple(value.shape)) for key, value in model.state_dict().items()) == sorted(
        case.keys_and_shapes()
    )
    assert sum(p.numel() for p in model.parameters()) == case['params']
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == case['params_trainable']

    # the published recipe: SGD 0.02, momentum 0.9, decay 1e-4; clip at 5; 2000 warm-up steps from 0.001; 12 epochs,
    # steps after 8 and 11; 8 GPUs x 2 pictures
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5, norm_type=2)
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.begin, warmup.end, warmup.by_epoch) == (0.001, 0, 2001, False)
    assert (steps.begin, steps.end, steps.milestones, steps.gamma) == (0, 12, [8, 11], 0.1)
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.model.rpn_head.anchor_generator.scales == [8]
    backbone = cfg.model.backbone
    assert (backbone.frozen_stages, backbone.norm_eval, backbone.stem_kernel) == (1, True, 7)


def test_the_config_shown_in_the_readme(tmp_path):
    (shown,) = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.S)
    assert len(shown.strip().splitlines()) <= 10
    path = tmp_path / 'readme.py'
    path.write_text(shown)
    with torch.device('meta'):
        model = build(load(path))
    assert type(model.neck).__name__ == 'InvolutionFPN'
    assert type(model.rpn_head).__name__ == 'InvolutionRPNHead'
    assert model.backbone.depth == 50
