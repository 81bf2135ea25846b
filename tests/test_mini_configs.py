"""The mini configs through the toolboxes' own installed scripts: in mixed precision, and (two of them) to the end."""

import json
import math

import pytest
import running

MINI = running.ROOT / 'configs/mini'
# config -> toolbox, dataset, options of a few short steps, and whether its test script knows --tta
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
    'fpn_red26_inv-neck_mini-cityscapes': (
        'mmseg',
        'cityscapes',
        ['train_cfg.max_iters=4', 'default_hooks.checkpoint.interval=4', 'train_dataloader.batch_size=4'],
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


def metrics(work_dir):
    """Return the figures of the newest test."""
    newest = max(path for path in work_dir.glob('*/*.json'))
    return json.loads(newest.read_text().splitlines()[-1])


def test_every_mini_config_is_listed():
    assert sorted(path.stem for path in MINI.glob('*.py')) == sorted(CONFIGS)


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
