"""Segmentor with the test of Wider-ResNet: padding, shifted passes, probabilities enlarged by Pillow's filters."""

from math import ceil

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample

from mmext.registry import MODELS
from mmext.resampling import apply_weights, resampling_filter, resampling_weights

__all__ = ['SteppedEncoderDecoder']

_DEFAULTS = dict(mode='steps', steps=1, stride=8, flip=True, pad='square')
_PADS = ('square', 'multiple')
_AXES = dict(horizontal=(-1,), vertical=(-2,), diagonal=(-2, -1))  # of mmcv's flip_direction


@MODELS.register_module()
class SteppedEncoderDecoder(EncoderDecoder):
    """mmseg's ``EncoderDecoder`` that knows the test mode ``steps``. Training and the other modes are mmseg's.

    ``test_cfg=dict(mode='steps', steps=1, stride=8, flip=True, pad='square')`` means for a picture that the pipeline
    resized (for instance by :class:`mmext.seg.ResizeLongerSide`) and the data preprocessor normalised:

    1. It is padded with zeros at the right and the bottom: ``pad='square'``, to a square whose side is the longer side
       of the picture raised to a multiple of ``stride``; ``pad='multiple'``, each side to a multiple of ``stride``.
    2. The network runs ``steps`` x ``steps`` times with the picture shifted by parts of the stride, so that the scores,
       interleaved, lie ``stride // steps`` pixels apart.
    3. With ``flip``, each of these passes is also done with the mirrored picture; the two maps of probabilities
       (softmax) are averaged.
    4. Each class map is enlarged by ``stride // steps`` with Pillow's bicubic filter, cut to the picture and, where the
       original has another size, resized to that with the filter of :func:`mmext.resampling.resampling_filter`. (The
       published code compares the heights only.) The class of a pixel is the one of the largest value.

    Source: "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den Hengel, 2016), test
    of the segmentation networks, with the rules of its published code. Published: 'multiple' and 1 step for
    Cityscapes, 'square' and 1 step for PASCAL VOC, 'square' and 2 steps for ADE20K, all with ``flip``.

    Args:
        *args: Those of mmseg's ``EncoderDecoder``.
        **kwargs: Those of mmseg's ``EncoderDecoder``, of which ``test_cfg`` (dict) may also have ``mode='steps'`` with
            ``steps`` (int), at least 1 and a divisor of ``stride``, default 1; ``stride`` (int), that of the network's
            scores in pixels, default 8; ``flip`` (bool), default True; ``pad``, 'square' or 'multiple', default
            'square'. The head then needs at least two ``out_channels``.

    Raises:
        ValueError: If ``test_cfg`` has ``mode='steps'`` with any other key or value than these, or the head has one
            channel.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self._in_steps:
            _settings(self.test_cfg)
            if self.out_channels == 1:
                raise ValueError("mode='steps' compares classes: set out_channels of decode_head to num_classes, not 1")

    @property
    def _in_steps(self):
        return (self.test_cfg or {}).get('mode') == 'steps'

    def predict(self, inputs, data_samples=None):
        """Find the class of each pixel.

        Args:
            inputs (Tensor): Pictures [N, 3, H, W], resized and normalised.
            data_samples (list[SegDataSample], optional): Their meta information: ``ori_shape``; if the data
                preprocessor padded, where; and whether the pipeline mirrored them, which is taken back. Default: None,
                the pictures were not resized, padded or mirrored.

        Returns:
            list[SegDataSample]: The samples with ``pred_sem_seg`` [1, *ori_shape], int64, and ``seg_logits``
            [out_channels, *ori_shape]. In mode ``steps`` these are probabilities in float32, without gradient, which
            after a bicubic filter may lie a little outside of 0 to 1.

        Raises:
            ValueError: If ``stride`` of ``test_cfg`` is not that of the network.
        """
        if not self._in_steps:
            return super().predict(inputs, data_samples)
        settings = _settings(self.test_cfg)
        if data_samples is None:
            data_samples = [SegDataSample(metainfo=dict(ori_shape=tuple(inputs.shape[2:]))) for _ in inputs]
        with torch.no_grad():
            maps = self._probabilities(_padded(inputs, settings), **settings)
            for sample, probabilities in zip(data_samples, maps):
                found = _enlarged(probabilities, inputs.shape[2:], sample.metainfo, **settings)
                classes = found.argmax(0, keepdim=True)
                sample.set_data(dict(seg_logits=PixelData(data=found), pred_sem_seg=PixelData(data=classes)))
        return data_samples

    def _probabilities(self, inputs, steps, stride, flip, **_):
        """Return the maps [N, C, H * steps / stride, W * steps / stride] of padded pictures [N, 3, H, W]."""
        if steps == 1:
            return self._one_pass(inputs, stride, flip)
        maps = None
        for row in range(steps):
            for column in range(steps):
                down, right = (_shift(step, steps, stride) for step in (row, column))
                found = self._one_pass(F.pad(inputs, (right, -right, down, -down)), stride, flip)
                if maps is None:
                    maps = found.new_empty(*found.shape[:2], *(side * steps for side in found.shape[2:]))
                maps[:, :, row::steps, column::steps] = found
        return maps

    def _one_pass(self, inputs, stride, flip):
        """Return the probabilities [N, C, H / stride, W / stride], with flip averaged with the mirror image's."""
        scores = self._forward(inputs)
        expected = tuple(side // stride for side in inputs.shape[2:])
        if tuple(scores.shape[2:]) != expected:
            raise ValueError(
                f'test_cfg has stride={stride}, for which an input of {tuple(inputs.shape[2:])} pixels gives scores of '
                f"{expected} cells, but the network gave {tuple(scores.shape[2:])}: set stride to the network's own"
            )
        probabilities = scores.float().softmax(1)
        if flip:
            mirrored = self._forward(inputs.flip(-1)).float().softmax(1)
            probabilities = (probabilities + mirrored.flip(-1)) / 2
        return probabilities


def _settings(test_cfg):
    """Return test_cfg with defaults filled in; an error for what mode ``steps`` does not know."""
    unknown = sorted(set(test_cfg) - set(_DEFAULTS))
    if unknown:
        raise ValueError(
            f"test_cfg with mode='steps' has {', '.join(unknown)}, but knows {', '.join(_DEFAULTS)} only; a config "
            'that inherits another mode needs _delete_=True in test_cfg'
        )
    settings = {**_DEFAULTS, **test_cfg}
    for name in ('steps', 'stride'):
        if not isinstance(settings[name], int) or settings[name] < 1:
            raise ValueError(f'test_cfg has {name}={settings[name]!r}: it must be a whole number of at least 1')
    if settings['stride'] % settings['steps']:
        raise ValueError('test_cfg has steps={steps}: it must divide stride={stride}'.format(**settings))
    if settings['pad'] not in _PADS:
        raise ValueError(f'test_cfg has pad={settings["pad"]!r}: it must be one of {", ".join(map(repr, _PADS))}')
    if not isinstance(settings['flip'], bool):
        raise ValueError(f'test_cfg has flip={settings["flip"]!r}: it must be True or False')
    return settings


def _shift(step, steps, stride):
    """Return by how many pixels the picture moves right or down in a pass, so that cells take turns from the left."""
    spacing = stride // steps
    return stride // 2 - (spacing // 2 + spacing * step)


def _padded(inputs, settings):
    """Return the pictures with zeros at the right and the bottom."""
    stride = settings['stride']
    height, width = (ceil(side / stride) * stride for side in inputs.shape[2:])
    if settings['pad'] == 'square':
        height = width = max(height, width)
    return F.pad(inputs, (0, width - inputs.shape[3], 0, height - inputs.shape[2]))


def _enlarged(maps, size, metainfo, steps, stride, **_):
    """Return maps [C, h, w] of a padded picture, of which ``size`` entered the segmentor, in its original size.

    To enlarge, to cut and to resize are linear along each side: one matrix per side does the three at once, and the
    enlarged maps are never held.
    """
    left, right, top, bottom = metainfo.get('img_padding_size', metainfo.get('padding_size', (0, 0, 0, 0)))
    scaled = size[0] - top - bottom, size[1] - left - right
    original = tuple(metainfo['ori_shape'][:2])
    filter = resampling_filter(scaled, original)
    sides = []
    for cells, start, length, target in zip(maps.shape[1:], (top, left), scaled, original):
        weights = resampling_weights(cells, cells * (stride // steps), 'bicubic')[start : start + length]
        sides.append(weights if scaled == original else resampling_weights(length, target, filter) @ weights)
    found = apply_weights(maps, *sides)
    if metainfo.get('flip'):
        found = found.flip(_AXES[metainfo['flip_direction']])
    return found
