"""The rows of the Wider-ResNet family: what they say, and one training step of each, an eighth of the width."""

from pathlib import Path

import pytest
import row_steps
import torch
from mmengine.registry import MODELS
from torch import nn

FOLDER = Path(__file__).parent.parent / 'configs' / 'wider_resnet'
# row -> Model, pooling, base rate, epochs
CLASSIFICATION = {
    'wider-resnet38-a_4xb64-90e_in1k': ('A', 'ceil', 0.1, 90),
    'wider-resnet38-a_4xb64-90e_in1k_floor': ('A', 'floor', 0.1, 90),
    'wider-resnet38-a1_4xb64-90e_in1k': ('A1', 'ceil', 0.1, 90),
    'wider-resnet38-a1_a-init_4xb64-9e_in1k': ('A1', 'ceil', 0.01, 9),
}
# row -> Model, classes, base rate, iterations, whether the rate falls, length of the longer side, padding, test steps
SEGMENTATION = {
    'fcn_wider-resnet38-a1-d8_4xb4-26k_cityscapes-500x500': ('A1', 19, 0.0016, 25900, False, 2048, 'multiple', 1),
    'fcn_wider-resnet38-a1-d8_4xb4-26k-12k_cityscapes-500x500': ('A1', 19, 0.0008, 11840, True, 2048, 'multiple', 1),
    'fcn_wider-resnet38-a2-d8_4xb4-26k-12k_cityscapes-500x500_test': (
        *('A2', 19, 0.0008, 11840, True, 2048, 'multiple', 1),
    ),
    'fcn_wider-resnet38-a1-d8_4xb4-30k_voc12aug-500x500': ('A1', 21, 0.0016, 30000, True, 500, 'square', 1),
    'fcn_wider-resnet38-a1-d8_4xb4-60k_voc12aug-coco-500x500': ('A1', 21, 0.0016, 60000, True, 500, 'square', 1),
    'fcn_wider-resnet38-a1-d8_4xb4-80k_ade20k-500x500': ('A1', 150, 0.0016, 80000, True, 500, 'square', 2),
}
ROWS = *CLASSIFICATION, *SEGMENTATION


def load(row):
    return row_steps.load(FOLDER / f'{row}.py')


def test_every_row_is_listed():
    assert sorted(path.stem for path in FOLDER.glob('*.py')) == sorted(ROWS)


@pytest.mark.parametrize('row', ROWS)
def test_one_step_moves_every_trainable_parameter(row):
    cfg = load(row)
    cfg.model.backbone.pop('init_cfg', None)  # the published file
    cfg.model.pop('init_cfg', None)
    cfg.model.backbone.width = 1 / 8  # the networks at full size are those of the golden cases
    cfg.model['decode_head' if row in SEGMENTATION else 'head'].in_channels = 512
    if row in SEGMENTATION:
        cfg.model.data_preprocessor.size = (64, 128)  # small pictures instead of padding them to the crop
        cfg.model.decode_head.dilation = 2  # so that the outer taps meet more than margins
    model = row_steps.take_a_step(cfg)
    assert all(p.requires_grad for p in model.parameters())
    assert len(list(model.backbone.parameters())) == 1 + 74 + 36 + 6  # convolutions, norms, shortcuts


def rate(cfg, steps, per_epoch=1):
    """Return the rate at some steps."""
    from mmengine.registry import PARAM_SCHEDULERS

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
    built = []
    for scheduler in schedulers:
        scheduler = dict(scheduler)
        cls = PARAM_SCHEDULERS.get(scheduler.pop('type'))
        if scheduler.pop('convert_to_iter_based', False):
            built.append(cls.build_iter_from_epoch(optimizer, epoch_length=per_epoch, **scheduler))
        else:
            built.append(cls(optimizer, **scheduler))
    rates = []
    for _ in range(max(steps) + 1):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    return [rates[step] for step in steps]


@pytest.mark.parametrize('row', CLASSIFICATION)
def test_classification_recipe(row):
    cfg = load(row)
    arch, pooling, base, epochs = CLASSIFICATION[row]
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.get('pooling', 'ceil')) == (arch, pooling)
    assert 'dropout' not in backbone
    assert 'norm_eval' not in backbone  # statistics of the batch
    assert dict(cfg.optim_wrapper.optimizer) == dict(
        type='SGD', lr=base, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys == {'.bias': dict(decay_mult=0.0)}
    assert cfg.train_cfg.max_epochs == epochs
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (64, 256)
    assert cfg.train_dataloader.drop_last is True
    per_epoch = 50
    total = per_epoch * epochs
    steps = [0, 1, total // 3, total // 2, total - 1]
    for step, found in zip(steps, rate(cfg, steps, per_epoch)):
        published = max(base * (1 - step / (total + 1)), 1e-6)
        assert found == pytest.approx(published, abs=2.5 * base / total)
    assert rate(cfg, [total - 1], per_epoch) == [pytest.approx(1e-6)]
    test = {step.type: step for step in cfg.test_dataloader.dataset.pipeline}
    resize, crop = test['mmext.ResizeShorterSide'], test['mmext.SideCrop']
    assert (resize['size'], resize['filter'], crop['size']) == (320, 'bicubic', 320)
    assert not any('Flip' in name for name in test)
    if 'init_cfg' in cfg.model:
        assert cfg.model.init_cfg.checkpoint == 'checkpoints/ilsvrc-cls_rna-a_cls1000_ep-0001.params'
    assert ('init_cfg' in cfg.model) == ('a-init' in row)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) == 109_167_912


@pytest.mark.parametrize('row', SEGMENTATION)
def test_segmentation_recipe(row):
    cfg = load(row)
    arch, classes, base, iterations, falls, longer_side, pad, steps = SEGMENTATION[row]
    backbone, head = cfg.model.backbone, cfg.model.decode_head
    assert (backbone.arch, backbone.output_stride, backbone.dropout, backbone.norm_eval) == (arch, 8, (0.3, 0.5), True)
    assert head.num_classes == classes
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=base, momentum=0.9, weight_decay=5e-4)
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys == {'.bias': dict(lr_mult=2.0, decay_mult=0.0)}
    assert cfg.train_cfg.max_iters == iterations
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (4, 16)
    steps_at = [0, 1, iterations // 2, iterations - 20, iterations - 1]
    for step, found in zip(steps_at, rate(cfg, steps_at)):
        published = max(base * (1 - step / (iterations + 1)), 1e-6) if falls else base
        assert found == pytest.approx(published, abs=2e-5 * base)
    crop = next(step for step in cfg.train_pipeline if step.type == 'mmext.RandomLongerSideCrop')
    assert (crop.crop_size, crop.origin_size, crop.scale_range) == (500, longer_side, (0.7, 1.3))
    assert [step.type for step in cfg.train_pipeline].index('RandomFlip') == 3  # after the crop
    test = cfg.test_dataloader.dataset.pipeline
    assert next(step for step in test if step.type == 'mmext.ResizeLongerSide')['size'] == longer_side
    assert cfg.model.test_cfg == dict(mode='steps', steps=steps, stride=8, flip=True, pad=pad)
    loss = head.loss_decode
    assert (loss.type, loss.thresh, loss.min_kept) == ('mmext.BootstrappedCrossEntropyLoss', 0.6, 256)
    assert cfg.model.data_preprocessor['size'] == (504, 504)
    assert ('load_from' in cfg and cfg.load_from is not None) == ('26k-12k' in row and 'a2' not in row)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) == {19: 124_033_363, 21: 124_042_581, 150: 124_637_142}[classes]


def test_the_second_run_starts_from_the_first():
    first, second = list(SEGMENTATION)[:2]
    cfg = load(second)
    assert cfg.load_from == f'work_dirs/{first}/iter_{load(first).train_cfg.max_iters}.pth'
    assert cfg.model.backbone.init_cfg is None


def test_the_test_set_of_cityscapes_is_written_for_its_server():
    cfg = load('fcn_wider-resnet38-a2-d8_4xb4-26k-12k_cityscapes-500x500_test')
    evaluator = cfg.test_evaluator
    assert (evaluator.type, evaluator.format_only, evaluator.keep_results) == ('CityscapesMetric', True, True)
    assert cfg.test_dataloader.dataset.data_prefix.img_path == 'leftImg8bit/test'
    assert cfg.val_evaluator.type == 'IoUMetric'


@pytest.mark.parametrize('arch', ['A', 'A1', 'A2'])
def test_an_fpn_over_its_levels_trains_in_mmdet(arch):
    cfg = _detector(arch)
    model = row_steps.take_a_step(cfg)
    assert not hasattr(model.backbone, 'level7')


def _detector(arch):
    from mmengine.hub import get_config
    from mmengine.registry import init_default_scope

    cfg = get_config('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    init_default_scope('mmdet')
    cfg.model.backbone = dict(
        type='mmext.WiderResNet', arch=arch, width=1 / 8, out_indices=(2, 3, 4, 5), norm_eval=True
    )
    cfg.model.neck.in_channels = [32, 64, 128, 256]
    cfg.optim_wrapper.optimizer.lr = 1e-3
    return cfg
