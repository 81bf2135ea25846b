"""The mini config through mmdet's own installed scripts, on a handful of pictures and a still narrower network."""

import json
from pathlib import Path

import pytest
import running
import torch

import mmext  # noqa: F401 (what mmengine saves then loads)

CONFIG = running.ROOT / 'configs/mini/faster-rcnn_red26_fpn-inv-neck_inv-head_mini-coco.py'


@pytest.fixture(scope='module')
def options(tmp_path_factory):
    """--cfg-options that shrink the run: 8 pictures an epoch, 3 epochs."""
    out = tmp_path_factory.mktemp('mini')
    running.run('tools/make_mini_datasets.py', 'coco', '--out', out, '--train', '16', '--val', '4', '--size', '96')
    data = f'{out}/coco/'
    return [
        '--cfg-options',
        *(f'{name}_dataloader.dataset.data_root={data}' for name in ('train', 'val', 'test')),
        *(f'{name}_evaluator.ann_file={data}annotations/instances_val2017.json' for name in ('val', 'test')),
        'train_dataloader.batch_size=2',
        'model.backbone.base_channels=16',
        'model.backbone.stem_channels=32',
        'model.neck.in_channels=[64,128,256,512]',
        'train_cfg.max_epochs=3',
        'default_hooks.logger.interval=1',
    ]


def checkpoint(work_dir):
    return torch.load((Path(work_dir) / 'last_checkpoint').read_text().strip(), map_location='cpu')


def test_killed_training_resumes_and_its_checkpoint_is_tested(options, tmp_path):
    train = [running.script('mmdet', 'train.py'), CONFIG, '--work-dir', tmp_path, *options]
    running.kill_when(running.start(*train), lambda line: 'Epoch(train) [2][3/8]' in line)
    before = checkpoint(tmp_path)
    assert before['meta']['epoch'] == 1

    output = running.run(*train[:4], '--resume', *train[4:])
    assert 'resumed epoch: 1, iter: 8' in output
    assert 'Epoch(train) [1]' not in output
    assert 'Epoch(train) [2][1/8]' in output
    after = checkpoint(tmp_path)
    assert (after['meta']['epoch'], after['meta']['iter']) == (3, 24)
    assert len(after['message_hub']['log_scalars']['train/loss'].data[0]) == 24
    steps = {state['step'].item() for state in after['optimizer']['state'].values()}
    assert steps == {24.0}

    test = [
        running.script('mmdet', 'test.py'),
        CONFIG,
        tmp_path / 'epoch_3.pth',
        '--work-dir',
        tmp_path / 'test',
        *options,
    ]
    running.run(*test)
    metrics = json.loads(next((tmp_path / 'test').glob('*/*.json')).read_text().splitlines()[-1])
    assert 0 <= metrics['coco/bbox_mAP_50'] <= 1
