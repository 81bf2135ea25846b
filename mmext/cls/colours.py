"""Colour augmentation of Wider-ResNet's classification.

Between the steps values keep the scale of the picture as loaded, 0 to 255, so that mmpretrain's preprocessor takes its
usual ``mean`` and ``std`` with or without them. Inside a step they are in 0 to 1, as in the original: the same float32
operations, so that results differ by rounding only (below 1e-6 after normalisation).
"""

from numbers import Real

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmext.registry import TRANSFORMS

__all__ = ['ScaledLighting', 'UnclippedColorJitter']

ORDERS = ('bgr', 'rgb')
GREY = np.array([0.299, 0.587, 0.114])  # of red, green, blue
# Of the covariance of ImageNet's colours (red, green, blue) in [0, 1]: "ImageNet Classification with Deep Convolutional
# Neural Networks" (Krizhevsky, Sutskever, Hinton, 2012), section 4.1. A column is an eigenvector.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


@TRANSFORMS.register_module()
class UnclippedColorJitter(BaseTransform):
    """Change brightness, contrast and saturation by random factors, in random order, without clipping.

    A factor ``1 + a``, with ``a`` uniform within plus or minus the argument, blends the picture with black
    (brightness), with the mean of its grey picture (contrast) or with its grey picture (saturation). Grey is
    0.299 red + 0.587 green + 0.114 blue. mmpretrain's ``ColorJitter`` clips and rounds after each of the steps.

    Source: the code of "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den
    Hengel, 2016).

    It reads ``img`` [H, W, 3] in 0 to 255, uint8 or float, and writes it as float32 in the same scale; values may lie
    outside 0 to 255. :class:`ScaledLighting` clips them, and should follow.

    Args:
        brightness (float): Greatest change of the factor, 0 to 1. Default: 0.4.
        contrast (float): As ``brightness``. Default: 0.4.
        saturation (float): As ``brightness``. Default: 0.4.
        channel_order (str): ``'bgr'``, as mmcv loads pictures, or ``'rgb'``. Default: ``'bgr'``.

    Raises:
        ValueError: If an argument is out of its range or, when called, if the picture does not have three channels.
    """

    def __init__(self, brightness=0.4, contrast=0.4, saturation=0.4, channel_order='bgr'):
        for name, value in dict(brightness=brightness, contrast=contrast, saturation=saturation).items():
            if not isinstance(value, Real) or not 0 <= value <= 1:
                raise ValueError(f'{name}={value!r} must be a number from 0 to 1')
        self.ranges = dict(brightness=brightness, contrast=contrast, saturation=saturation)
        self.channel_order = _order(channel_order)

    @cache_randomness
    def draw(self):
        """Draw what is done to a picture.

        Returns:
            list[tuple[str, float]]: Names of the changes in their order, each with its factor.
        """
        names = list(self.ranges)
        names = [names[index] for index in np.random.permutation(len(names))]
        return [(name, 1 + np.random.uniform(-self.ranges[name], self.ranges[name])) for name in names]

    def transform(self, results):
        """Change the colours of a sample.

        Args:
            results (dict): Sample of the pipeline.

        Returns:
            dict: The same, with ``img`` [H, W, 3], float32.
        """
        image = _colour(results['img'], type(self).__name__)
        weights = _ordered(GREY, self.channel_order)
        for name, factor in self.draw():
            blended = np.float32(0)
            if name != 'brightness':
                blended = (image @ weights).astype(np.float32)[..., None]
            if name == 'contrast':
                blended = blended.mean()
            image = image * np.float32(factor) + blended * np.float32(1 - factor)
        results['img'] = image * np.float32(255)
        return results

    def __repr__(self):
        ranges = ', '.join(f'{name}={value}' for name, value in self.ranges.items())
        return f'{type(self).__name__}({ranges}, channel_order={self.channel_order!r})'


@TRANSFORMS.register_module()
class ScaledLighting(BaseTransform):
    """Add a random colour along the principal components of ImageNet's colours, divide, and clip to 0 to 255.

    The colour is the sum of the three eigenvectors, each times its eigenvalue and a normally distributed number (in
    the scale of 0 to 1). The division is the published code's own: it makes pictures darker by a tenth
    in training only.

    Source: the code of "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den
    Hengel, 2016), after "ImageNet Classification with Deep Convolutional Neural Networks" (Krizhevsky, Sutskever,
    Hinton, 2012), section 4.1.

    It reads ``img`` [H, W, 3] in 0 to 255, uint8 or float, and writes it as float32 in 0 to 255, not rounded.
    mmpretrain's preprocessor with ``mean=[123.675, 116.28, 103.53]``, ``std=[58.395, 57.12, 57.375]`` and
    ``to_rgb=True`` makes of it what the original feeds to the network.

    Args:
        std (float): Standard deviation of the three numbers, at least 0. Default: 0.1.
        divisor (float): What the sum is divided by, above 0. Default: 1.1.
        channel_order (str): ``'bgr'``, as mmcv loads pictures, or ``'rgb'``. Default: ``'bgr'``.

    Raises:
        ValueError: If an argument is out of its range or, when called, if the picture does not have three channels.
    """

    def __init__(self, std=0.1, divisor=1.1, channel_order='bgr'):
        if not isinstance(std, Real) or not 0 <= std < float('inf'):
            raise ValueError(f'std={std!r} must be a number of at least 0')
        if not isinstance(divisor, Real) or not 0 < divisor < float('inf'):
            raise ValueError(f'divisor={divisor!r} must be a number above 0')
        self.std = std
        self.divisor = divisor
        self.channel_order = _order(channel_order)

    @cache_randomness
    def draw(self):
        """Draw the factors of the three components.

        Returns:
            np.ndarray: Three numbers.
        """
        return np.random.normal(0, self.std, 3)

    def transform(self, results):
        """Change the colours of a sample.

        Args:
            results (dict): Sample of the pipeline.

        Returns:
            dict: The same, with ``img`` [H, W, 3], float32 in 0 to 255.
        """
        image = _colour(results['img'], type(self).__name__)
        colour = _ordered(EIGENVECTORS @ (EIGENVALUES * np.asarray(self.draw())), self.channel_order)
        image = (image + colour.astype(np.float32)) / np.float32(self.divisor)
        results['img'] = image.clip(0, 1) * np.float32(255)
        return results

    def __repr__(self):
        return f'{type(self).__name__}(std={self.std}, divisor={self.divisor}, channel_order={self.channel_order!r})'


def _ordered(colour, channel_order):
    return colour[::-1] if channel_order == 'bgr' else colour


def _order(channel_order):
    if channel_order not in ORDERS:
        raise ValueError(f'channel_order={channel_order!r} must be one of {", ".join(map(repr, ORDERS))}')
    return channel_order


def _colour(image, name):
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f'mmext.{name} takes pictures [H, W, 3], but this one has the shape {image.shape}: load it in colour '
            "(LoadImageFromFile with color_type='color', its default)"
        )
    return image.astype(np.float32) * np.float32(1 / 255)
