"""How each kind of model is run for counting, and what publications count of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ['KINDS', 'Kind', 'kind_of']


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes:
        name: What error messages call it.
        run: ``(model, images, run_part)``, which calls ``run_part(name, *inputs) -> outputs`` for each part in turn.
        shape: Height and width of the image that published figures belong to, in pixels.
        trainable_only: Whether published parameters are those with ``requires_grad``.
        leave_out: Parts whose multiply-adds are not in published figures.
        frames: Frames of the clip that figures belong to; None for a model that takes pictures.
    """

    name: str
    run: Callable
    shape: tuple
    trainable_only: bool = False
    leave_out: tuple = ()
    frames: int | None = None


def _features(model, images, run_part):
    features = run_part('backbone', images)
    return run_part('neck', features) if model.with_neck else features


def _run_classifier(model, images, run_part):
    run_part('head', _features(model, images, run_part))


def _run_pose_estimator(model, images, run_part):
    run_part('head', _features(model, images, run_part))


def _run_clip_recognizer(model, clips, run_part):
    features = run_part('backbone', clips)
    if model.with_neck:
        features, _ = run_part('neck', features)  # and the losses of its own classifiers
    run_part('cls_head', features)


def _run_picture_recognizer(model, images, run_part):
    features = run_part('backbone', images)
    run_part('cls_head', features[0] if isinstance(features, tuple) else features, 1)  # one segment


def _run_single_stage_detector(model, images, run_part):
    run_part('bbox_head', _features(model, images, run_part))


def _run_two_stage_detector(model, images, run_part):
    run_part('rpn_head', _features(model, images, run_part))
    # neither proposals nor detections depend on the image here: there are as many as the test settings allow
    _run_roi_heads(model.roi_head, 'bbox', model.test_cfg.rpn.max_per_img, run_part)
    if model.roi_head.with_mask:
        _run_roi_heads(model.roi_head, 'mask', model.test_cfg.rcnn.max_per_img, run_part)


def _run_roi_heads(roi_head, name, regions, run_part):
    extractors = getattr(roi_head, f'{name}_roi_extractor')
    cascade = isinstance(extractors, nn.ModuleList)
    for stage, extractor in enumerate(extractors if cascade else [extractors]):
        shape = regions, extractor.out_channels, *extractor.roi_layers[0].output_size
        run_part(f'roi_head.{name}_head' + (f'.{stage}' if cascade else ''), torch.empty(shape, device='meta'))


def _run_encoder_decoder(model, images, run_part):
    features = _features(model, images, run_part)
    if not isinstance(model.decode_head, nn.ModuleList):
        run_part('decode_head', features)
        return
    earlier = ()
    for stage in range(len(model.decode_head)):
        earlier = (run_part(f'decode_head.{stage}', features, *earlier),)


# Package and name of a model's class, or of one it derives from. By name, so that no toolbox is imported for a table.
KINDS = {
    'mmpretrain.ImageClassifier': Kind(
        'image classifier of mmpretrain', _run_classifier, shape=(224, 224), leave_out=('head',)
    ),
    'mmpose.BottomupPoseEstimator': Kind('bottom-up pose estimator of mmpose', _run_pose_estimator, shape=(640, 640)),
    'mmdet.TwoStageDetector': Kind(
        'two-stage detector of mmdet', _run_two_stage_detector, shape=(800, 1280), trainable_only=True
    ),
    'mmdet.SingleStageDetector': Kind(
        'single-stage detector of mmdet', _run_single_stage_detector, shape=(800, 1280), trainable_only=True
    ),
    'mmaction.Recognizer3D': Kind(
        'recognizer of clips of mmaction2', _run_clip_recognizer, shape=(224, 224), frames=32
    ),
    'mmaction.Recognizer2D': Kind('recognizer of pictures of mmaction2', _run_picture_recognizer, shape=(224, 224)),
    'mmseg.EncoderDecoder': Kind('encoder-decoder of mmseg', _run_encoder_decoder, shape=(1024, 2048)),
}


def kind_of(model):
    """Return how to run a model.

    Args:
        model (nn.Module): A whole model of a toolbox.

    Returns:
        Kind: The entry of :data:`KINDS`.

    Raises:
        ValueError: If the model is of no known kind.
    """
    for cls in type(model).__mro__:
        kind = KINDS.get(f'{cls.__module__.partition(".")[0]}.{cls.__name__}')
        if kind is not None:
            return kind
    raise ValueError(
        f'{type(model).__name__} is of no kind whose parts can be run one by one; known are: '
        + ', '.join(kind.name for kind in KINDS.values())
    )
