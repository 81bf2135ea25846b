"""The mini config through mmpose's own installed scripts and its inferencer, on a handful of pictures."""

import json
import math

import numpy as np
import pytest
import running
from mmengine.config import Config

CONFIG = running.ROOT / 'configs/mini/ae_res18_mini-coco-keypoints.py'
# one option set per way of testing: what is given to test.py on top
WAYS = {
    'one scale, flip': [],
    'three scales, no flip': ['model.test_cfg.multiscale_test=True', 'model.test_cfg.flip_test=False'],
}


@pytest.fixture(scope='module')
def options(tmp_path_factory):
    out = tmp_path_factory.mktemp('mini')
    running.run('tools/make_mini_datasets.py', 'coco_keypoints', '--out', out, '--train', '8', '--val', '3')
    data = f'{out}/coco_keypoints/'
    return [
        '--cfg-options',
        *(f'{name}_dataloader.dataset.data_root={data}' for name in ('train', 'val', 'test')),
        *(f'{name}_evaluator.ann_file={data}annotations/person_keypoints_val2017.json' for name in ('val', 'test')),
        'train_dataloader.batch_size=4',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'default_hooks.checkpoint.interval=1',
        'default_hooks.logger.interval=1',
    ]


@pytest.fixture(scope='module')
def trained(options, tmp_path_factory):
    """A checkpoint after two steps in mixed precision."""
    work_dir = tmp_path_factory.mktemp('work')
    output = running.run(running.script('mmpose', 'train.py'), CONFIG, '--amp', '--work-dir', work_dir, *options)
    assert "type='AmpOptimWrapper'" in output
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line for line in logged if 'loss' in line]
    assert len(steps) == 2
    assert all(math.isfinite(step[f'loss_{name}']) for step in steps for name in ('kpt', 'pull', 'push'))
    assert 'coco/AP' in logged[-1]
    return (work_dir / 'last_checkpoint').read_text().strip()


@pytest.mark.parametrize('way', WAYS)
def test_checkpoint_is_tested(way, trained, options, tmp_path):
    settings = WAYS[way]
    if 'three' in way:
        pipeline = Config.fromfile(CONFIG).multiscale_pipeline
        assert pipeline[1].aug_scales == [2, 0.5]
        settings = [*settings, 'test_dataloader.dataset.pipeline.1.aug_scales=[2,0.5]']
    test = [running.script('mmpose', 'test.py'), CONFIG, trained, '--work-dir', tmp_path, *options, *settings]
    running.run(*test)
    metrics = json.loads(next(tmp_path.glob('*/*.json')).read_text().splitlines()[-1])
    assert 0 <= metrics['coco/AP'] <= 1


@pytest.mark.parametrize('several', [False, True])
def test_inferencer(several, trained):
    from mmpose.apis import MMPoseInferencer

    config = Config.fromfile(CONFIG)
    if several:
        config.model.test_cfg.multiscale_test = True
        config.test_dataloader.dataset.pipeline = config.multiscale_pipeline
    config.model.head.decoder.decode_keypoint_thr = -1.0  # two steps do not teach it to be sure of anything
    inferencer = MMPoseInferencer(pose2d=config, pose2d_weights=trained, device='cpu', show_progress=False)
    picture = np.random.default_rng(0).integers(0, 255, (120, 200, 3)).astype(np.uint8)
    (result,) = inferencer(picture, return_vis=True)
    (persons,) = result['predictions']
    assert len(persons) > 0
    assert np.asarray(persons[0]['keypoints']).shape == (17, 2)
    assert result['visualization'][0].shape == picture.shape
