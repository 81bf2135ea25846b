"""The mini configs through the toolboxes' own installed scripts.

All of them a few steps in mixed precision; the one for semantic segmentation also to its end, which takes two minutes,
and tested in one scale and in several. `make demo TASK=...` runs any to its end.
"""

import json
import math
import re

import pytest
import running

MINI = running.ROOT / 'configs/mini'
# config -> toolbox, dataset, options of a few short steps
CONFIGS = {
    'rednet26_mini-in1k': ('mmpretrain', 'imagenet', ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4']),
    'faster-rcnn_red26_fpn-inv-neck_inv-head_mini-coco': (
        'mmdet',
        'coco',
        ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'],
    ),
    'mask-rcnn_red26_fpn-inv-neck_inv-head_mini-coco': (
        'mmdet',
        'coco',
        ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'],
    ),
    'faster-rcnn_ic-r18_fpn_mini-coco': (
        'mmdet',
        'coco',
        ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'],
    ),
    'wider-resnet38-a1_mini-in1k': (
        'mmpretrain',
        'imagenet',
        ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'],
    ),
    'fcn_wider-resnet38-a1-d8_mini-cityscapes': (
        'mmseg',
        'cityscapes',
        ['train_cfg.max_iters=4', 'default_hooks.checkpoint.interval=4', 'train_dataloader.batch_size=4'],
    ),
    'fpn_red26_inv-neck_mini-cityscapes': (
        'mmseg',
        'cityscapes',
        ['train_cfg.max_iters=4', 'default_hooks.checkpoint.interval=4', 'train_dataloader.batch_size=4'],
    ),
    'inflated-resnet18_mini-kinetics': (
        'mmaction',
        'kinetics400',
        ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'],
    ),
    'resnet18-2d_mini-kinetics': (
        'mmaction',
        'kinetics400',
        ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'],
    ),
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A handful of pictures of each dataset."""
    out = tmp_path_factory.mktemp('data')
    names = sorted({dataset for _, dataset, _ in CONFIGS.values()})
    running.run('tools/make_mini_datasets.py', *names, '--out', out, '--train', '20', '--val', '10')
    return out


def scalars(work_dir):
    """Return what mmengine logged in the newest run, one dict a line."""
    newest = max(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in newest.read_text().splitlines()]


def test_every_mini_config_is_listed():
    pose = 'ae_res18_mini-coco-keypoints'  # in tests/pose
    assert sorted(path.stem for path in MINI.glob('*.py')) == sorted([*CONFIGS, pose])


@pytest.mark.parametrize('name', CONFIGS)
def test_mixed_precision(name, data, tmp_path):
    toolbox, dataset, options = CONFIGS[name]
    root = f'{data}/{dataset}/'
    options = [
        *options,
        *(f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val', 'test')),
        'default_hooks.logger.interval=1',
    ]
    if dataset == 'coco':
        options += [f'{split}_evaluator.ann_file={root}annotations/instances_val2017.json' for split in ('val', 'test')]
    config = MINI / f'{name}.py'
    train = [running.script(toolbox, 'train.py'), config, '--amp', '--work-dir', tmp_path, '--cfg-options', *options]
    output = running.run(*train)
    assert "type='AmpOptimWrapper'" in output
    logged = scalars(tmp_path)
    losses = {
        (number, key): value for number, line in enumerate(logged) for key, value in line.items() if 'loss' in key
    }
    assert len([key for key in losses if key[1] == 'loss']) >= 4
    assert all(math.isfinite(loss) for loss in losses.values()), losses


def test_segmentation_learns_and_is_tested_in_several_scales(tmp_path):
    running.run('tools/make_mini_datasets.py', 'cityscapes', '--out', tmp_path)
    config = MINI / 'fpn_red26_inv-neck_mini-cityscapes.py'
    root = f'{tmp_path}/cityscapes/'
    options = [
        '--cfg-options',
        *(f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val', 'test')),
    ]
    running.run(running.script('mmseg', 'train.py'), config, '--work-dir', tmp_path / 'train', *options)
    # 65.5 and 70.1 were measured; the first class everywhere would be 1 or 2
    assert scalars(tmp_path / 'train')[-1]['mIoU'] > 65.45 / 2

    checkpoint = (tmp_path / 'train' / 'last_checkpoint').read_text().strip()
    test = [running.script('mmseg', 'test.py'), config, checkpoint, '--tta', '--work-dir', tmp_path / 'test', *options]
    output = running.run(*test)
    assert float(re.findall(r'mIoU: ([\d.]+)', output)[-1]) > 70.14 / 2
