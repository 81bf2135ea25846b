"""Steps of a pipeline in which the longer side of the picture sets the scale."""

from math import ceil

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmext.registry import TRANSFORMS
from mmext.resampling import check_pixels, resize_image

__all__ = ['RandomLongerSideCrop', 'ResizeLongerSide']


@TRANSFORMS.register_module()
class ResizeLongerSide(BaseTransform):
    """Resize a picture so that its longer side has a given size; smaller pictures are enlarged.

    The filter is that of :func:`mmext.resampling.resampling_filter`. Labels are left at their size: in a test pipeline
    they stand for the original picture.

    Needs ``img`` [H, W] or [H, W, C], uint8. Sets ``img``, ``img_shape`` (height, width), ``scale`` (width, height),
    ``scale_factor`` (width, height) and ``keep_ratio``.

    Source: "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den Hengel, 2016), test
    of the segmentation networks, with the filters of its published code.

    Args:
        size (int): New length of the longer side in pixels, at least 1. The other is rounded. Published: 500 for
            PASCAL VOC and ADE20K, 2048 for Cityscapes.

    Raises:
        ValueError: If ``size`` is not a whole number of at least 1.
    """

    def __init__(self, size):
        self.size = _whole('size', size)

    def transform(self, results):
        """Resize ``results['img']``.

        Args:
            results (dict): Sample of the pipeline.

        Returns:
            dict: The same sample.

        Raises:
            TypeError: If the picture is not an array of uint8.
        """
        sides = results['img'].shape[:2]
        height, width = (max(1, round(side * self.size / max(sides))) for side in sides)
        check_pixels(height, width, sides, repr(self))
        results['img'] = resize_image(results['img'], (height, width))
        results['img_shape'] = (height, width)
        results['scale'] = (width, height)
        results['scale_factor'] = (width / sides[1], height / sides[0])
        results['keep_ratio'] = True
        return results

    def __repr__(self):
        return f'{type(self).__name__}(size={self.size})'


@TRANSFORMS.register_module()
class RandomLongerSideCrop(BaseTransform):
    """Scale a picture at random and cut a square out of it at random, for training.

    The size of the longer side after scaling is drawn from whole numbers in ``scale_range`` times ``origin_size``. The
    square is cut out of the original and then resized, which costs the same for every scale and size of the picture.
    It may begin up to half a stride before the picture and, where it is larger, end behind it; there the picture
    continues with ``pad_val`` and the labels with ``ignore_index``. Pictures are resized with the filter of
    :func:`mmext.resampling.resampling_filter`, labels by the nearest pixel.

    The label map keeps every pixel. Sampled at the stride of the network only in the head
    (:class:`mmext.seg.DilatedFCNHead`), it can be mirrored by ``RandomFlip`` in between without moving against the
    picture; in the published code mirrored labels were off by one pixel.

    Needs ``img`` [H, W] or [H, W, C] and the label maps [H, W] that ``seg_fields`` names, uint8. Sets these,
    ``img_shape`` (height, width), ``scale_factor`` (width, height) and ``keep_ratio``.

    Source: "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den Hengel, 2016),
    training of the segmentation networks, with the rules of its published code.

    Args:
        crop_size (int): Side of the square in pixels after scaling, at least 1; it is raised to a multiple of
            ``stride``. Published: 500.
        origin_size (int): Length of the longer side that stands for scale 1, in pixels, at least 1. Published for
            Cityscapes: 2048.
        scale_range (tuple[float, float]): Smallest and largest scale, above 0. Default: (0.7, 1.3).
        stride (int): Stride of the network in pixels, at least 1. Default: 8.
        pad_val (tuple[int, ...] or int): Colour, 0 to 255, in the picture's order of channels. Of three numbers a
            greyscale picture gets their mean, and one of four channels 0 (transparent) as the fourth. Default:
            (103, 116, 123), the mean of ImageNet in the order of mmcv: blue, green, red.
        ignore_index (int): Label, 0 to 255. Default: 255.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self, crop_size, origin_size, scale_range=(0.7, 1.3), stride=8, pad_val=(103, 116, 123), ignore_index=255
    ):
        self.stride = _whole('stride', stride)
        self.crop_size = ceil(_whole('crop_size', crop_size) / self.stride) * self.stride
        self.origin_size = _whole('origin_size', origin_size)
        if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
            raise ValueError(f'scale_range={scale_range} must be (smallest, largest), above 0')
        self.scale_range = tuple(scale_range)
        self._target_sizes = tuple(int(scale * self.origin_size) for scale in scale_range)
        if self._target_sizes[0] < 1:
            raise ValueError(f'scale_range={scale_range} of origin_size={origin_size} gives pictures without pixels')
        if not all(0 <= value <= 255 for value in np.atleast_1d(pad_val)):
            raise ValueError(f'pad_val={pad_val} must be of 0 to 255')
        self.pad_val = pad_val
        if not 0 <= ignore_index <= 255:
            raise ValueError(f'ignore_index={ignore_index} must be of 0 to 255')
        self.ignore_index = ignore_index

    @cache_randomness
    def _draw_target_size(self):
        """Draw the length of the longer side after scaling."""
        low, high = self._target_sizes
        return np.random.randint(low, high + 1)

    @cache_randomness
    def _draw_corner(self, ends):
        """Draw the upper left corner of the square, counted from the earliest one, each coordinate below its end."""
        return tuple(np.random.randint(end) for end in ends)

    def transform(self, results):
        """Cut and resize the picture and its labels.

        Args:
            results (dict): Sample of the pipeline.

        Returns:
            dict: The same sample.

        Raises:
            TypeError: If the picture or a label map is not an array of uint8.
            ValueError: If a label map has not the picture's size, ``pad_val`` does not fit its channels, or the square
                has more than 2^28 pixels of it.
        """
        sides = results['img'].shape[:2]
        for key in results.get('seg_fields', ()):
            if results[key].shape != sides:
                raise ValueError(
                    f'{key} has the shape {results[key].shape}, but img the size {sides}: put RandomLongerSideCrop '
                    'before every step that resizes only one of them'
                )
        rate = self._draw_target_size() / max(sides)
        square = max(1, int(self.crop_size / rate))
        check_pixels(square, square, sides, repr(self))
        cell = self.stride / rate  # of the network, in pixels of the original
        margin = max(1, int(cell // 2))
        ends = [int(max(1, cell, margin + side - square + 1)) for side in sides]
        top, left = (place - margin for place in self._draw_corner(ends))

        size = (self.crop_size, self.crop_size)
        results['img'] = resize_image(_cut(results['img'], top, left, square, self._fill(results['img'])), size)
        for key in results.get('seg_fields', ()):
            labels = _cut(results[key], top, left, square, self.ignore_index)
            results[key] = resize_image(labels, size, 'nearest')
        results['img_shape'] = size
        results['scale_factor'] = (self.crop_size / square, self.crop_size / square)
        results['keep_ratio'] = True
        return results

    def _fill(self, image):
        """Return the colour for the channels that a picture has."""
        fill = np.atleast_1d(self.pad_val)
        channels = image.shape[2] if image.ndim == 3 else 1
        if len(fill) == 3 and channels == 1:
            return round(float(fill.mean()))
        if len(fill) == 3 and channels == 4:
            return (*fill, 0)
        if len(fill) not in (1, channels):
            raise ValueError(
                f'pad_val={self.pad_val} has {len(fill)} values, and img {channels} channels; give as many'
            )
        return fill if image.ndim == 3 else fill[0]

    def __repr__(self):
        names = ('crop_size', 'origin_size', 'scale_range', 'stride', 'pad_val', 'ignore_index')
        return f'{type(self).__name__}({", ".join(f"{name}={getattr(self, name)}" for name in names)})'


def _cut(image, top, left, side, fill):
    """Cut a square [side, side, ...] out of a picture, filled where it lies outside."""
    square = np.full((side, side, *image.shape[2:]), fill, image.dtype)
    part = image[max(top, 0) : top + side, max(left, 0) : left + side]
    y, x = max(-top, 0), max(-left, 0)
    square[y : y + part.shape[0], x : x + part.shape[1]] = part
    return square


def _whole(name, value):
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f'{name}={value!r} must be a whole number of pixels, at least 1')
    return int(value)
