"""Every row of the Wider-ResNet family trains and is tested by its toolbox's runner: its own data set, pipelines, loss,
schedule, metric and several scales, on a few pictures in the data set's own format. Narrow, and small crops."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import row_steps
import torch
from mmengine.config import ConfigDict
from mmengine.runner import Runner
from PIL import Image
from test_wider_resnet_rows import CLASSIFICATION, FOLDER, SEGMENTATION

SIZE = 40, 56  # height and width of the pictures in pixels


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def picture(rng):
    return rng.integers(256, size=(*SIZE, 3), dtype=np.uint8)


def labels(rng, values):
    """Four patches, with some of the border ignored."""
    found = rng.choice(values, size=(2, 2)).astype(np.uint8).repeat(SIZE[0] // 2, 0).repeat(SIZE[1] // 2, 1)
    found[:3] = 255
    return found


def make_cityscapes(root, rng):
    for split in ('train', 'val', 'test'):
        for number in range(2):
            name = f'city/city_{number:06}_000019'
            write(root / 'leftImg8bit' / split / f'{name}_leftImg8bit.png', picture(rng))
            write(root / 'gtFine' / split / f'{name}_gtFine_labelTrainIds.png', labels(rng, range(19)))


def make_voc(root, rng):
    names = {'train.txt': ['a', 'b'], 'aug.txt': ['c', 'd'], 'val.txt': ['e', 'f']}
    for file, pictures in names.items():
        (root / 'ImageSets/Segmentation').mkdir(parents=True, exist_ok=True)
        (root / 'ImageSets/Segmentation' / file).write_text('\n'.join(pictures))
        for name in pictures:
            write(root / 'JPEGImages' / f'{name}.jpg', picture(rng))
            folder = 'SegmentationClassAug' if file == 'aug.txt' else 'SegmentationClass'
            write(root / folder / f'{name}.png', labels(rng, range(21)))


def make_coco(root, rng):
    for name in ('g', 'h'):
        write(root / 'train2017' / f'{name}.jpg', picture(rng))
        write(root / 'voc_labels/train2017' / f'{name}.png', labels(rng, range(21)))
    (root / 'voc_labels/train2017.txt').write_text('g\nh')


def make_ade(root, rng):
    for split in ('training', 'validation'):
        for name in ('a', 'b'):
            write(root / 'images' / split / f'{name}.jpg', picture(rng))
            write(root / 'annotations' / split / f'{name}.png', labels(rng, range(151)))


def make_imagenet(root, rng):
    for split in ('train', 'val'):
        for label in ('n0', 'n1'):
            for number in range(2):
                write(root / split / label / f'{number}.JPEG', picture(rng))


MAKERS = {
    'data/cityscapes/': make_cityscapes,
    'data/VOCdevkit/VOC2012': make_voc,
    'data/coco': make_coco,
    'data/ade/ADEChallengeData2016': make_ade,
    'data/imagenet': make_imagenet,
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """The folder of each ``data_root`` of the configs."""
    made = tmp_path_factory.mktemp('data')
    folders = {}
    for number, (root, make) in enumerate(MAKERS.items()):
        folders[root] = made / str(number)
        make(folders[root], np.random.default_rng(number))
    return folders


def adapt(value, folders):
    """Put the small pictures' folders and sizes into a config, wherever the originals stand."""
    if isinstance(value, dict):
        if value.get('type') == 'mmext.ResizeLongerSide':
            value['size'] = value['size'] // (32 if value['size'] > 1000 else 8)
        elif value.get('type') == 'mmext.ResizeShorterSide':
            value['size'] = value['size'] // 5
        elif value.get('type') == 'mmext.SideCrop':
            value['size'] = 64  # the least that Model A's pooling leaves something of
        elif value.get('type') == 'mmext.RandomLongerSideCrop':
            value.update(crop_size=60, origin_size=64)
        elif value.get('type') == 'mmext.RandomSizedCrop':
            value['size'] = 64
        for key in value:
            if key == 'data_root':
                value[key] = str(folders[value[key]])
            else:
                adapt(value[key], folders)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            adapt(entry, folders)


def run(row, folders, work_dir, tta=False):
    """Train two iterations and test; returns the metrics of the test and the runner."""
    cfg = row_steps.load(FOLDER / f'{row}.py')
    adapt(cfg._cfg_dict, folders)
    cfg.work_dir, cfg.load_from, cfg.log_level = str(work_dir), None, 'ERROR'
    cfg.model.pop('init_cfg', None)
    cfg.model.backbone.update(init_cfg=None, width=1 / 8)
    head = cfg.model['decode_head' if row in SEGMENTATION else 'head']
    head.in_channels = 512
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False, batch_size=2)
    if row in SEGMENTATION:
        head.update(channels=32, dilation=2)
        cfg.model.data_preprocessor.size = (64, 64)
        cfg.train_cfg.update(max_iters=2, val_interval=2)
        cfg.default_hooks.checkpoint.interval = 2
    else:
        cfg.train_cfg.update(max_epochs=1)
        cfg.val_dataloader.dataset.metainfo = cfg.test_dataloader.dataset.metainfo = dict(classes=('n0', 'n1'))
        cfg.train_dataloader.dataset.metainfo = dict(classes=('n0', 'n1'))
    if tta:  # as the toolboxes' test.py does
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
        cfg.model.module.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    cfg.env_cfg.dist_cfg.backend = 'gloo'
    cfg.experiment_name = f'{row}{"_tta" if tta else ""}_{work_dir.name}'
    runner = Runner.from_cfg(cfg)
    if not tta:
        before = {key: value.clone() for key, value in runner.model.named_parameters()}
        runner.train()
        assert any(not torch.equal(value, before[key]) for key, value in runner.model.named_parameters())
    return runner.test(), runner


@pytest.mark.parametrize('row', CLASSIFICATION)
def test_classification_rows_train_and_are_tested(row, data, tmp_path):
    metrics, _ = run(row, data, tmp_path)
    assert 0 <= metrics['accuracy/top1'] <= metrics['accuracy/top5'] <= 100


@pytest.mark.parametrize('row', [row for row in SEGMENTATION if '_test' not in row])
def test_segmentation_rows_train_and_are_tested(row, data, tmp_path):
    metrics, _ = run(row, data, tmp_path)
    assert 0 <= metrics['aAcc'] <= 100
    assert 0 <= metrics['mIoU'] <= 100


@pytest.mark.parametrize(
    'row',
    [
        'wider-resnet38-a1_4xb64-90e_in1k',
        'fcn_wider-resnet38-a1-d8_4xb4-26k-12k_cityscapes-500x500',
        'fcn_wider-resnet38-a1-d8_4xb4-30k_voc12aug-500x500',
        'fcn_wider-resnet38-a1-d8_4xb4-80k_ade20k-500x500',
    ],
)
def test_rows_are_tested_in_several_scales(row, data, tmp_path):
    metrics, runner = run(row, data, tmp_path, tta=True)
    assert type(runner.model).__name__ in ('AverageClsScoreTTA', 'AverageProbabilityTTA')
    assert all(0 <= value <= 100 for value in metrics.values())
    assert metrics


# train id -> id of Cityscapes' labels, of which cityscapesscripts has a table; it is no part of the tested stack
IDS = dict(enumerate([7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]))


def test_the_test_set_of_cityscapes_is_written(data, tmp_path, monkeypatch):
    from mmseg.evaluation.metrics import citys_metric

    table = SimpleNamespace(trainId2label={train_id: SimpleNamespace(id=id) for train_id, id in IDS.items()})
    monkeypatch.setattr(citys_metric, 'CSLabels', table)
    monkeypatch.setattr(citys_metric, 'CSEval', SimpleNamespace())
    monkeypatch.chdir(tmp_path)
    _, runner = run('fcn_wider-resnet38-a2-d8_4xb4-26k-12k_cityscapes-500x500_test', data, tmp_path)
    written = sorted((tmp_path / 'work_dirs/cityscapes_test').iterdir())
    assert [path.name for path in written] == [f'city_{number:06}_000019_leftImg8bit.png' for number in range(2)]
    predicted = [sample for batch in runner.test_dataloader for sample in runner.model.eval().test_step(batch)]
    for path, sample in zip(written, predicted):
        found = np.array(Image.open(path))
        assert found.shape == SIZE
        expected = np.vectorize(IDS.get)(sample.pred_sem_seg.data[0].numpy())
        assert np.array_equal(found, expected)
