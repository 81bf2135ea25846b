"""Crops and sizes of Wider-ResNet's classification: random ones to train, squares along the longer side to test."""

from numbers import Real

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmext.registry import TRANSFORMS
from mmext.resampling import FILTERS, check_pixels, resize_image

__all__ = ['RandomSizedCrop', 'ResizeShorterSide', 'SideCrop']

POSITIONS = ('start', 'centre', 'end')


@TRANSFORMS.register_module()
class RandomSizedCrop(BaseTransform):
    """Cut out a rectangle of random area, aspect and place, and resize it to a square.

    mmpretrain's ``RandomResizedCrop`` differs in four ways: it draws the aspect on a log scale, does not exchange the
    sides, resizes by OpenCV (or by Pillow with one filter), and falls back to a centred rectangle.

    Source: the code of "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den
    Hengel, 2016).

    It reads and writes ``img`` [H, W, C], uint8, of any colour order, and writes ``img_shape``.

    Args:
        size (int): Side of the result in pixels, at least 1. Published: 224.
        area_range (tuple[float, float]): Least and greatest part of the picture's area, above 0 and at most 1; drawn
            uniformly. Default: (0.08, 1).
        aspect_range (tuple[float, float]): Least and greatest width over height, above 0; drawn uniformly. Then the
            sides are exchanged with probability 1/2. Default: (3/4, 4/3).
        tries (int): Number of draws, at least 1, to find a rectangle that fits into the picture. If none does, the
            centred square of the picture is taken: its shorter side resized to ``size``, then the centre cut out as
            :class:`SideCrop` does. Default: 10.
        filter (str, optional): ``'nearest'``, ``'bilinear'``, ``'bicubic'`` or ``'lanczos'``, by Pillow. Default: None,
            as :func:`mmext.resampling.resampling_filter` chooses (as published).

    Raises:
        ValueError: If an argument is out of its range or, when called, if no try fitted and the picture is so long that
            resizing its shorter side makes more than 2^28 pixels.
        TypeError: When called, if the picture is not uint8.
    """

    def __init__(self, size, area_range=(0.08, 1), aspect_range=(3 / 4, 4 / 3), tries=10, filter=None):
        self.size = _whole('size', size)
        self.area_range = _range('area_range', area_range, highest=1)
        self.aspect_range = _range('aspect_range', aspect_range)
        self.tries = _whole('tries', tries)
        self.filter = _filter(filter)

    @cache_randomness
    def draw(self, height, width):
        """Draw a rectangle within a picture.

        Args:
            height (int): Height of the picture in pixels.
            width (int): Width of the picture in pixels.

        Returns:
            tuple[int, int, int, int] | None: Top, left, height and width in pixels; None if no try fitted.
        """
        for _ in range(self.tries):
            area = np.random.uniform(*self.area_range) * height * width
            aspect = np.random.uniform(*self.aspect_range)
            crop_height, crop_width = round((area / aspect) ** 0.5), round((area * aspect) ** 0.5)
            if np.random.randint(2) == 0:
                crop_height, crop_width = crop_width, crop_height
            if 1 <= crop_height <= height and 1 <= crop_width <= width:
                top = np.random.randint(height - crop_height + 1)
                left = np.random.randint(width - crop_width + 1)
                return top, left, crop_height, crop_width
        return None

    def transform(self, results):
        """Crop and resize the picture of a sample.

        Args:
            results (dict): Sample of the pipeline.

        Returns:
            dict: The same, with ``img`` [size, size, C].
        """
        image = results['img']
        crop = self.draw(*image.shape[:2])
        if crop is None:
            image = _resize_shorter_side(image, self.size, self.filter)
            results['img'] = _cut_square(image, self.size, 'centre')
        else:
            top, left, height, width = crop
            image = image[top : top + height, left : left + width]
            results['img'] = resize_image(image, (self.size, self.size), self.filter)
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self):
        return (
            f'{type(self).__name__}(size={self.size}, area_range={self.area_range}, aspect_range={self.aspect_range}, '
            f'tries={self.tries}, filter={self.filter!r})'
        )


@TRANSFORMS.register_module()
class ResizeShorterSide(BaseTransform):
    """Resize a picture by Pillow so that its shorter side has a given length.

    The longer side is rounded to the nearest whole number (a half to the even one), where mmpretrain's ``ResizeEdge``
    drops the fraction. A picture of that size already is left as it is.

    Source: the code of "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den
    Hengel, 2016).

    It reads and writes ``img`` [H, W, C], uint8, of any colour order, and writes ``img_shape`` and ``scale_factor``
    (width, height).

    Args:
        size (int): Length of the shorter side in pixels, at least 1. Published: 320 to test.
        filter (str, optional): ``'nearest'``, ``'bilinear'``, ``'bicubic'`` or ``'lanczos'``; None: as
            :func:`mmext.resampling.resampling_filter` chooses. Default: ``'bicubic'``, with which the published errors
            were measured.

    Raises:
        ValueError: If an argument is out of its range or, when called, if the picture is so long that the result has
            more than 2^28 pixels.
        TypeError: When called, if the picture is not uint8.
    """

    def __init__(self, size, filter='bicubic'):
        self.size = _whole('size', size)
        self.filter = _filter(filter)

    def transform(self, results):
        """Resize the picture of a sample.

        Args:
            results (dict): Sample of the pipeline.

        Returns:
            dict: The same, with ``img`` [H', W', C] whose shorter side is ``size``.
        """
        height, width = results['img'].shape[:2]
        results['img'] = _resize_shorter_side(results['img'], self.size, self.filter)
        results['img_shape'] = new_height, new_width = results['img'].shape[:2]
        results['scale_factor'] = (new_width / width, new_height / height)
        return results

    def __repr__(self):
        return f'{type(self).__name__}(size={self.size}, filter={self.filter!r})'


@TRANSFORMS.register_module()
class SideCrop(BaseTransform):
    """Cut a square out of a picture: from its centre, or from one end of its longer side.

    The centred square begins at ``ceil((side - size) / 2)`` on both axes, where mmpretrain's ``CenterCrop`` rounds a
    half to the even number. The three positions together are the test with three crops: see ``TestTimeAug``.

    Source: the code of "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den
    Hengel, 2016).

    It reads and writes ``img`` [H, W, C] or [H, W] of any type, and writes ``img_shape``.

    Args:
        size (int, optional): Side of the square in pixels, at least 1. Default: None, that is the picture's shorter
            side, so that one crop serves a test in several scales.
        position (str): ``'start'`` (left or top), ``'centre'`` or ``'end'`` of the longer side; the other axis is
            always centred. In a square picture the width counts as the longer side. Default: ``'centre'``.

    Raises:
        ValueError: If an argument is out of its range or, when called, if the picture is smaller than the square.
    """

    def __init__(self, size=None, position='centre'):
        self.size = None if size is None else _whole('size', size)
        if position not in POSITIONS:
            raise ValueError(f'position={position!r} must be one of {", ".join(map(repr, POSITIONS))}')
        self.position = position

    def transform(self, results):
        """Crop the picture of a sample.

        Args:
            results (dict): Sample of the pipeline.

        Returns:
            dict: The same, with ``img`` [size, size, C].
        """
        height, width = results['img'].shape[:2]
        size = min(height, width) if self.size is None else self.size
        if min(height, width) < size:
            raise ValueError(
                f'the picture has {height} x {width} pixels (height x width) and is too small for a square of '
                f'{size}: put mmext.ResizeShorterSide(size={size}) before mmext.SideCrop, or set a smaller size'
            )
        results['img'] = _cut_square(results['img'], size, self.position)
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self):
        return f'{type(self).__name__}(size={self.size}, position={self.position!r})'


def _resize_shorter_side(image, size, filter):
    height, width = image.shape[:2]
    if min(height, width) == size:
        return image
    longer = round(size * max(height, width) / min(height, width))
    check_pixels(*((longer, size) if height > width else (size, longer)), (height, width), f'a shorter side of {size}')
    return resize_image(image, (longer, size) if height > width else (size, longer), filter)


def _cut_square(image, size, position):
    height, width = image.shape[:2]
    places = {'start': lambda side: 0, 'centre': lambda side: (side - size + 1) // 2, 'end': lambda side: side - size}
    top, left = places['centre'](height), places['centre'](width)
    if height > width:
        top = places[position](height)
    else:
        left = places[position](width)
    return image[top : top + size, left : left + size]


def _whole(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f'{name}={value!r} must be a whole number of at least 1')
    return int(value)


def _range(name, values, highest=float('inf')):
    pair = tuple(values) if isinstance(values, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(value, Real) for value in pair) or not 0 < pair[0] <= pair[1] <= highest:
        limit = '' if highest == float('inf') else f' and at most {highest}'
        raise ValueError(f'{name}={values!r} must be two numbers (least, greatest) above 0{limit}')
    return pair


def _filter(filter):
    if filter is not None and filter not in FILTERS:
        raise ValueError(f'filter={filter!r} must be one of {", ".join(map(repr, FILTERS))}, or None for the rule')
    return filter
