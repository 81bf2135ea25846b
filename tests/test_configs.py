"""Every shipped config parses over the installed toolboxes and builds, and so does the one in the README."""

import re
from pathlib import Path

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
    hooks = [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]
    kept = [hook.get('max_keep_ckpts', -1) for hook in hooks if hook.type.endswith('CheckpointHook')]
    assert len(kept) == 1
    assert kept[0] == -1 or kept[0] >= 2  # a training that is killed while it saves must find one to resume from
    with torch.device('meta'):
        assert sum(p.numel() for p in build(cfg).parameters()) > 0


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
