"""One optimisation step of a row's network at full size, on small pictures made here."""

import copy

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def load(path):
    """Load a config and make its toolbox the current scope."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    return cfg


def labels(rng, count):
    return torch.from_numpy(rng.integers(count, size=2))


def pictures(rng, height, width):
    return [torch.from_numpy(rng.integers(256, size=(3, height, width), dtype=np.uint8)) for _ in range(2)]


def classification_batch(rng):
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(label) for label in labels(rng, 1000)]
    return dict(inputs=torch.stack(pictures(rng, 64, 64)), data_samples=samples)


def detection_batch(rng, size=128):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    corners = [(2, 2, 40, 44), (4, 8, size - 3, size - 2)]
    samples = []
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1, 1)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(corners, dtype=torch.float32),
            labels=torch.from_numpy(rng.integers(80, size=2)),
            masks=BitmapMasks(rng.integers(2, size=(2, size, size), dtype=np.uint8), size, size),
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        samples.append(sample)
    return dict(inputs=pictures(rng, size, size), data_samples=samples)


def segmentation_batch(rng):
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 128), ori_shape=(64, 128)))
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(rng.integers(19, size=(1, 64, 128))))
        samples.append(sample)
    return dict(inputs=pictures(rng, 64, 128), data_samples=samples)


def pose_batch(rng):
    from mmpose.structures import PoseDataSample

    samples = []
    for persons in (1, 2):
        sample = PoseDataSample(metainfo=dict(img_shape=(128, 128)))
        cells = torch.from_numpy(rng.integers(32 * 32, size=(persons, 17)))
        sample.gt_instance_labels = InstanceData(keypoint_indices=torch.stack([cells, torch.ones_like(cells)], -1))
        heatmaps = torch.from_numpy(rng.random((17, 32, 32), np.float32))
        sample.gt_fields = PixelData(heatmaps=heatmaps, heatmap_mask=torch.ones(1, 32, 32, dtype=torch.bool))
        samples.append(sample)
    return dict(inputs=pictures(rng, 128, 128), data_samples=samples)


def video_batch(rng, frames=8, size=64):
    from mmaction.structures import ActionDataSample

    clips = [torch.from_numpy(rng.integers(256, size=(1, 3, frames, size, size), dtype=np.uint8)) for _ in range(2)]
    return dict(inputs=clips, data_samples=[ActionDataSample().set_gt_label(int(n)) for n in labels(rng, 400)])


BATCHES = {
    'mmaction': video_batch,
    'mmpretrain': classification_batch,
    'mmdet': detection_batch,
    'mmpose': pose_batch,
    'mmseg': segmentation_batch,
}


def set_statistics(model, batch):
    """Give the backbone's BatchNorms the statistics of a batch, as a trained network has them.

    Detection keeps these layers in eval mode. With the initial statistics they would normalise nothing, and an
    involution, quadratic in its input, would overflow.
    """
    norms = [module for module in model.backbone.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        inputs = model.data_preprocessor(copy.deepcopy(batch), True)['inputs']
        model.backbone(inputs.flatten(0, 1) if inputs.ndim == 6 else inputs)  # a clip's crops lie in the second axis
    for norm in norms:
        norm.momentum = 0.1


def take_a_step(cfg, **options):
    """Build a row's model and take one step with its own optimiser; every trainable parameter has to move.

    Args:
        cfg (Config): Of :func:`load`, without what needs a file.
        **options: Of the function that makes the batch.

    Returns:
        nn.Module: The model after the step.
    """
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    for name, module in model.backbone.named_modules():
        if name.endswith('.bn3'):  # zero at first, by which the block's other layers would get no gradient
            nn.init.constant_(module.weight, 0.2)
    batch = BATCHES[cfg.default_scope](np.random.default_rng(0), **options)
    set_statistics(model, batch)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    wrapper.zero_grad = lambda: None  # train_step would clear the gradients after the step
    losses = model.train().train_step(batch, wrapper)
    assert all(torch.isfinite(loss).all() for loss in losses.values()), losses
    without = [
        name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not (p.grad != 0).any())
    ]
    assert not without, without
    for name, p in model.named_parameters():
        assert torch.isfinite(p).all(), name
        assert torch.equal(p, before[name]) != p.requires_grad, name
    return model
