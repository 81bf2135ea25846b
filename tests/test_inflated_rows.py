"""The rows of the inflated networks: what they say, a training step, and mmaction2's own scripts on clips."""

import runpy
import sys
from pathlib import Path

import mini_clips
import mmengine
import pytest
import row_steps
import running
import torch
from mmengine.hub import get_config
from mmengine.registry import MODELS
from test_ic_conv_rows import without_scope

from mmext.models import InflatedDenseNet, InflatedResNet

FOLDER = Path(__file__).parent.parent / 'configs' / 'inflated'
# row -> backbone, depth, channels of its last map
ROWS = {
    f'inflated-{name}{depth}_imagenet-pretrained-{name[0]}{depth}_8xb8-32x2x1-100e_kinetics400-rgb': (
        kind,
        depth,
        width,
    )
    for name, kind, depth, width in (
        ('resnet', InflatedResNet, 50, 2048),
        ('resnet', InflatedResNet, 101, 2048),
        ('resnet', InflatedResNet, 152, 2048),
        ('densenet', InflatedDenseNet, 121, 1024),
        ('densenet', InflatedDenseNet, 161, 2208),
        ('densenet', InflatedDenseNet, 169, 1664),
        ('densenet', InflatedDenseNet, 201, 1920),
    )
}
NARROW_DENSENET = dict(growth=4, stem_channels=8, pretrained=None)
NARROW_RESNET = dict(stem_channels=8, base_channels=4, pretrained=None)
I3D = 'mmaction::recognition/i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py'


def load(row):
    return row_steps.load(FOLDER / f'{row}.py')


def narrow(backbone):
    """Make a backbone's config narrow; its depth stays."""
    densenet = backbone.type == 'mmext.InflatedDenseNet'
    backbone.update(NARROW_DENSENET if densenet else NARROW_RESNET)
    with torch.device('meta'):
        return MODELS.build(backbone).feat_dim


def test_every_row_is_listed():
    assert sorted(path.stem for path in FOLDER.glob('*.py')) == sorted(ROWS)
    assert len(ROWS) == 7


@pytest.mark.parametrize('row', ROWS)
def test_builds_at_full_size(row):
    cfg, (kind, depth, width) = load(row), ROWS[row]
    name = 'resnet' if kind is InflatedResNet else 'densenet'
    assert cfg.model.backbone.pretrained == f'torchvision://{name}{depth}'
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        clips = torch.empty(2, 1, 3, 32, 224, 224)
        maps = model(clips)
        assert model(clips, stage='head').shape == (2, 400)
    assert type(model.backbone) is kind
    assert model.backbone.pretrained2d
    assert maps.shape == (2, width, 2 if kind is InflatedResNet else 4, 7, 7)
    kernels = {module.kernel_size for module in model.modules() if isinstance(module, torch.nn.Conv3d)}
    expected = {(1, 1, 1), (3, 3, 3), (3, 7, 7) if kind is InflatedResNet else (1, 7, 7)}
    assert kernels == expected
    assert {parameter.requires_grad for parameter in model.parameters()} == {True}


@pytest.mark.parametrize('row', ROWS)
def test_all_but_backbone_and_decoding_is_mmaction2s_i3d(row):
    found, expected = (without_scope(cfg.to_dict()) for cfg in (load(row), get_config(I3D)))
    assert found.pop('custom_imports')['imports'] == ['mmext', 'mmext.video']
    assert found['model'].pop('backbone')['type'].startswith('mmext.Inflated')
    expected['model'].pop('backbone')
    width = found['model']['cls_head']['in_channels']
    assert (width, found['model']['cls_head']['type']) == (ROWS[row][2], 'I3DHead')
    expected['model']['cls_head']['in_channels'] = width
    for split in ('train', 'val', 'test'):
        for pipeline in (found[f'{split}_pipeline'], found[f'{split}_dataloader']['dataset']['pipeline']):
            for number, name in ((0, 'DecordInit'), (2, 'DecordDecode')):
                assert pipeline[number]['type'] == f'mmext.{name}'
                pipeline[number]['type'] = name
    assert found == expected


@pytest.mark.parametrize('row', ROWS)
def test_recipe(row):
    cfg = load(row)
    assert (
        cfg.optim_wrapper.optimizer.to_dict().items()
        >= dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4).items()
    )
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=40, norm_type=2)
    (steps,) = cfg.param_scheduler
    assert (steps.type, steps.milestones, steps.gamma, cfg.train_cfg.max_epochs) == ('MultiStepLR', [40, 80], 0.1, 100)
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (8, 64)
    for split, clips in (('train', 1), ('val', 1), ('test', 10)):
        sample = cfg[f'{split}_dataloader'].dataset.pipeline[1]
        assert (sample.clip_len, sample.frame_interval, sample.num_clips) == (32, 2, clips)
    assert cfg.test_dataloader.dataset.pipeline[4].type == 'ThreeCrop'


@pytest.mark.parametrize('row', ROWS)
def test_one_step_moves_every_parameter(row):
    cfg = load(row)
    cfg.model.cls_head.in_channels = narrow(cfg.model.backbone)
    row_steps.take_a_step(cfg)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return mini_clips.make(tmp_path_factory.mktemp('data'))


def options(row, folder):
    """What mmaction2's scripts are told to run a row on mini clips: narrow, 8 frames of 32 x 32 pixels, one epoch."""
    cfg = load(row)
    densenet = cfg.model.backbone.type == 'mmext.InflatedDenseNet'
    changed = {
        f'model.backbone.{key}': value for key, value in (NARROW_DENSENET if densenet else NARROW_RESNET).items()
    }
    changed['model.cls_head.in_channels'] = narrow(cfg.model.backbone)
    sizes = dict(SampleFrames=dict(clip_len=8), CenterCrop=dict(crop_size=32), ThreeCrop=dict(crop_size=36))
    sizes |= dict(MultiScaleCrop=dict(input_size=32))
    for split, name in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        loader = f'{split}_dataloader'
        batch = 1 if split == 'test' else 2
        changed |= {f'{loader}.{key}': value for key, value in (('num_workers', 0), ('batch_size', batch))}
        changed[f'{loader}.persistent_workers'] = False
        changed[f'{loader}.dataset.ann_file'] = folder / f'kinetics400_{name}_list_videos.txt'
        changed[f'{loader}.dataset.data_prefix.video'] = folder / f'videos_{name}'
        for number, step in enumerate(cfg[loader].dataset.pipeline):
            new = dict(sizes.get(step.type, {}))
            if step.type == 'Resize':
                new['scale'] = '(-1,36)' if step.scale[0] == -1 else '(32,32)'
            changed |= {f'{loader}.dataset.pipeline.{number}.{key}': value for key, value in new.items()}
    changed |= {'train_cfg.max_epochs': 1, 'default_hooks.checkpoint.interval': 1, 'env_cfg.dist_cfg.backend': 'gloo'}
    changed['default_hooks.checkpoint.save_best'] = None
    return [f'{key}={value}' for key, value in changed.items()]


@pytest.mark.parametrize('row', ROWS)
def test_mmaction2s_scripts_train_and_test(row, folder, tmp_path, monkeypatch):
    """``tools/train.py`` and ``tools/test.py`` as mmaction2 installed them, in this process."""
    seen = []
    for kind in (InflatedResNet, InflatedDenseNet):
        forward = kind.forward
        monkeypatch.setattr(
            kind, 'forward', lambda self, x, forward=forward: seen.append(tuple(x.shape)) or forward(self, x)
        )
    config = FOLDER / f'{row}.py'

    def script(name, *arguments):
        path = str(running.script('mmaction', name))
        command = [path, config, *arguments, '--work-dir', tmp_path, '--cfg-options', *options(row, folder)]
        monkeypatch.setattr(sys, 'argv', list(map(str, command)))
        monkeypatch.setenv('LOCAL_RANK', '0')  # the script would leave it behind
        runpy.run_path(path, run_name='__main__')

    script('train.py')
    assert seen == [(2, 3, 8, 32, 32)] * 2 + [(2, 3, 8, 32, 32)]  # an epoch of four clips, a validation of two
    seen.clear()
    script('test.py', tmp_path / 'epoch_1.pth', '--dump', tmp_path / 'scores.pkl')
    assert seen == [(30, 3, 8, 36, 36)] * 2  # ten clips in three crops, of two videos
    scores = [sample['pred_score'] for sample in mmengine.load(tmp_path / 'scores.pkl')]
    assert [tuple(score.shape) for score in scores] == [(400,)] * 2
    assert all(score.sum().item() == pytest.approx(1) for score in scores)


def test_of_one_frame_the_network_is_the_2d_one():
    """The mini config on single frames measures what the 2D network can do."""
    mini = FOLDER.parent / 'mini'
    moving, single = (
        row_steps.load(mini / f'{name}_mini-kinetics.py') for name in ('inflated-resnet18', 'resnet18-2d')
    )
    assert single.model == moving.model
    assert [cfg.train_dataloader.dataset.pipeline[1].clip_len for cfg in (moving, single)] == [8, 1]
    backbone = MODELS.build(single.model.backbone).eval()
    frame = torch.rand(1, 3, 1, 64, 64)
    with torch.no_grad():
        before = backbone(frame)
        for module in backbone.modules():
            if isinstance(module, torch.nn.Conv3d) and module.kernel_size[0] == 3:
                module.weight[:, :, 0] = module.weight[:, :, 2] = 7.0  # whatever the outer taps are
        torch.testing.assert_close(backbone(frame), before)
