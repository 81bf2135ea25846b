"""Counting of mmaction2's recognizers: clips have frames beside height and width."""

import pytest
import torch
import torchvision
from mmengine.config import Config

from mmext.complexity import complexity

RESNET50 = 'inflated-resnet50_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb'
DENSENET121 = 'inflated-densenet121_imagenet-pretrained-d121_8xb8-32x2x1-100e_kinetics400-rgb'


def by_hand(size):
    """Multiply-adds of ResNet-50's convolutions for one frame, the larger kernels with three times the taps."""
    network, total = torchvision.models.resnet50(), 0
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda layer, args, out: counts.append((layer, out)))
    counts = []
    with torch.device('meta'), torch.no_grad():
        network.to('meta').eval()(torch.empty(1, 3, size, size))
    for layer, out in counts:
        taps = layer.weight[0].numel() * (1 if layer.kernel_size == (1, 1) else 3)
        total += taps * out.numel()
    return total


def test_one_frame_by_hand():
    found = complexity(RESNET50, shape=(64, 64), frames=1)
    assert found.parts['backbone'].multiply_adds == dict(convolution=by_hand(64), aggregation=0, rest=0)
    assert found.parts['cls_head'].multiply_adds == dict(convolution=0, aggregation=0, rest=2048 * 400)
    assert found.parts['cls_head'].parameters == 2049 * 400
    assert (found.frames, found.shape) == (1, (64, 64))


def test_twice_the_frames_are_twice_the_count():
    one, two = (complexity(RESNET50, frames=frames).parts['backbone'].total for frames in (16, 32))
    assert two == 2 * one
    assert complexity(RESNET50).frames == 32
    assert complexity(RESNET50).shape == (224, 224)


def test_parameters_are_the_references():
    assert complexity(RESNET50).parameters == 46980944  # of the inflated ResNet-50 with 400 classes


def test_recognizer_of_pictures():
    backbone = dict(type='mmpretrain.ResNet', depth=18)
    head = dict(type='TSNHead', num_classes=7, in_channels=512)
    cfg = Config(dict(default_scope='mmaction', model=dict(type='Recognizer2D', backbone=backbone, cls_head=head)))
    found = complexity(cfg)
    assert found.frames is None
    assert found.parts['backbone'].total == 1814073344 - 512 * 1000  # ResNet-18 without its classifier
    assert found.parts['cls_head'].total == 512 * 7


@pytest.mark.parametrize('frames', [0, -1, 2.0, True, '8'])
def test_bad_frames(frames):
    with pytest.raises(ValueError, match=r'frames=.* must be an integer of at least 1'):
        complexity(RESNET50, frames=frames)


def test_frames_of_a_model_that_takes_pictures():
    with pytest.raises(
        ValueError, match="frames=8 is for models that take clips, this one is of kind 'image classifier of mmpretrain'"
    ):
        complexity('rednet26_64xb32-130e_in1k', frames=8)


def test_clip_too_short():
    message = r'Recognizer3D cannot be run part by part on 4 frames of 64 x 64 pixels: .*the default is 32 x 224 x 224'
    with pytest.raises(ValueError, match=message):
        complexity(DENSENET121, shape=(64, 64), frames=4)


def test_no_published_convention_for_clips():
    with pytest.raises(ValueError, match="convention='published' has no rules for clips"):
        complexity(RESNET50, convention='published')
