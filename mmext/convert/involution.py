"""Checkpoints of the involution project: mmcls 0.x classifiers, mmdet 2.x detectors, mmseg 0.x segmentors.

Source: https://github.com/d-li14/involution, "Involution: Inverting the Inherence of Convolution for Visual
Recognition" (CVPR 2021). Our networks carry the original's names, so the mapping changes none; what it does is to tell
the architecture from the keys and shapes, and to compare every key with what that architecture has.
"""

import re

import torch

from .involution_parts import PARTS
from .report import ConversionError, ConversionReport, name_keys
from .shapes import Shapes, under

__all__ = ['plan']

BACKBONE = 'backbone.'
STEM = 'stem.1.conv2.conv.weight'
GROUP_CHANNELS = 16

# What a checkpoint without involutions is, told by a key.
LOOKS_LIKE = (
    (r'(^|\.)layer1\.0\.conv2\.weight$', 'a ResNet with ordinary convolutions'),
    (r'(^|\.)(cls_token|patch_embed\..*)$', 'a vision transformer'),
)


def plan(state_dict):
    """Map the keys of a checkpoint of the involution project.

    Args:
        state_dict (Mapping[str, Tensor]): The checkpoint. A backbone alone, without ``backbone.`` before its keys, is
            taken too, and gets it.

    Returns:
        tuple[ConversionReport, dict[str, tuple]]: The report, with nothing in ``missing``, and the shape of every key
        of the network that the checkpoint describes.

    Raises:
        ConversionError: If it is a checkpoint of another architecture, or lacks a key that a setting is read off.
    """
    added = ''
    if not any(key.startswith(BACKBONE) for key in state_dict) and Shapes(state_dict, '').has('stem.'):
        added = BACKBONE
        state_dict = {added + key: value for key, value in state_dict.items()}
    _refuse_others(state_dict)
    shapes = Shapes(state_dict, BACKBONE)
    settings = _backbone_settings(shapes)
    expected = under('backbone', _backbone_keys(settings))
    levels = [settings['base_channels'] * settings['expansion'] * 2**stage for stage in range(4)]
    if added:
        settings['part'] = 'backbone alone'
    for prefix, keys_of in PARTS.items():
        part = Shapes(state_dict, prefix)
        if part.shapes:
            expected |= {prefix + key: shape for key, shape in keys_of(part, settings, levels).items()}
    report = ConversionReport('involution', settings)
    averages = {f'{added}ema_{key.removeprefix(added).replace(".", "_")}' for key in expected}
    for key in state_dict:
        if key in expected:
            report.mapped[key.removeprefix(added)] = key
        elif key in averages:
            report.dropped[key.removeprefix(added)] = "second set of values of mmcv 1.x's EMAHook, for resuming only"
    return report, expected


def _refuse_others(state_dict):
    if any(key.endswith((STEM, '.conv2.conv2.conv.weight')) for key in state_dict):
        return
    for pattern, name in LOOKS_LIKE:
        matches = [key for key in state_dict if re.search(pattern, key)]
        if matches:
            looks = f'it looks like {name} (it has {matches[0]})'
            break
    else:
        looks = f'it has {name_keys(state_dict)}'
    raise ConversionError(
        f'this is no checkpoint of the involution project: {looks}, where a RedNet has {BACKBONE}{STEM} and '
        f'{BACKBONE}layer1.0.conv2.conv2.conv.weight; give a RedNet checkpoint, or the source that fits'
    )


def _backbone_settings(shapes):
    from mmext.models import RedNet

    blocks = tuple(shapes.count(f'layer{stage}') for stage in (1, 2, 3, 4))
    depths = RedNet.arch_settings
    # of a checkpoint that lacks blocks: the smallest network that holds all others
    fitting = [depth for depth, sizes in depths.items() if all(a <= b for a, b in zip(blocks, sizes))]
    if not fitting:
        known = ', '.join(f'RedNet-{depth} {sizes}' for depth, sizes in depths.items())
        raise ConversionError(f'the stages have {blocks} blocks, which no RedNet has ({known}); give one of these')
    base_channels = shapes.size('layer1.0.conv1.weight', 0)
    stem_channels = shapes.size('stem.4.conv.weight', 0)
    return dict(
        depth=fitting[0],
        stem_kernel=_stem_kernel(shapes, stem_channels // 2),
        in_channels=shapes.size('stem.0.conv.weight', 1),
        stem_channels=stem_channels,
        base_channels=base_channels,
        expansion=shapes.size('layer1.0.conv3.weight', 0) // max(base_channels, 1),
        avg_down=shapes.has('layer2.0.downsample.2.'),
    )


def _stem_kernel(shapes, channels):
    maps = shapes.size(STEM, 0)
    kernel = round((maps * GROUP_CHANNELS / max(channels, 1)) ** 0.5)
    if kernel % 2 == 0 or channels // GROUP_CHANNELS * kernel**2 != maps:
        raise ConversionError(
            f'{shapes.prefix}{STEM} makes {maps} maps for {channels} channels in groups of {GROUP_CHANNELS}; a kernel '
            f'of k x k taps, k odd, needs {channels // GROUP_CHANNELS} * k * k; give an undamaged checkpoint'
        )
    return kernel


def _backbone_keys(settings):
    from mmext.models import RedNet

    try:
        with torch.device('meta'):
            backbone = RedNet(**settings)
    except ValueError as error:
        raise ConversionError(f'the widths in the checkpoint make no RedNet: {error}') from None
    return {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
