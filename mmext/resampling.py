"""Resizing as Pillow does it, for pictures and, on any device, for maps of floats."""

from math import ceil

import numpy as np
import torch
from PIL import Image

__all__ = [
    'FILTERS',
    'MAX_PIXELS',
    'apply_weights',
    'check_pixels',
    'resampling_filter',
    'resampling_weights',
    'resize_image',
    'resize_maps',
]

_PILLOW = {
    'nearest': Image.NEAREST,
    'bilinear': Image.BILINEAR,
    'bicubic': Image.BICUBIC,
    'lanczos': Image.LANCZOS,
}
FILTERS = tuple(_PILLOW)
MAX_PIXELS = 2**28  # of what a step makes: 800 MB in colour. Images of 1 x 20000 pixels can ask for any number


def check_pixels(height, width, source_size, step):
    """Refuse a step of a pipeline that would make an image of more than :data:`MAX_PIXELS` pixels.

    Args:
        height (int): Of the image to make, in pixels.
        width (int): The same.
        source_size (tuple[int, int]): Height and width of the image there is.
        step (str): What the message calls the step.

    Raises:
        ValueError: If there are more.
    """
    if height * width > MAX_PIXELS:
        raise ValueError(
            f'{step} would make {height} x {width} pixels of an image of {source_size[0]} x {source_size[1]} (height x '
            f'width), and {MAX_PIXELS:,} are the most; leave this image out of the dataset, or cut or resize it first'
        )


def resampling_filter(source_size, target_size):
    """Choose the filter for a change of size: the rule of the published Wider-ResNet code.

    Source: the code of "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den
    Hengel, 2016); the paper does not state it.

    Args:
        source_size (tuple[int, int]): Height and width in pixels, each at least 1.
        target_size (tuple[int, int]): Height and width in pixels, each at least 1.

    Returns:
        str: ``'lanczos'`` if both sides shrink, ``'bicubic'`` if both grow, else ``'bilinear'``.

    Raises:
        ValueError: If a size is not a pair of whole numbers of at least 1.
    """
    (height, width), (new_height, new_width) = _size('source_size', source_size), _size('target_size', target_size)
    if new_height < height and new_width < width:
        return 'lanczos'
    return 'bicubic' if new_height > height and new_width > width else 'bilinear'


def resize_image(image, size, filter=None):
    """Resize a picture by Pillow, along the rows first. One of that size already is returned as it is, not copied.

    Args:
        image (np.ndarray): Picture [H, W] or [H, W, C], uint8. Channels are resized one by one, so that their order
            does not matter.
        size (tuple[int, int]): New height and width in pixels, each at least 1.
        filter (str, optional): ``'nearest'``, ``'bilinear'``, ``'bicubic'`` or ``'lanczos'``. Default: None, as
            :func:`resampling_filter` chooses.

    Returns:
        np.ndarray: Picture [*size] or [*size, C], uint8.

    Raises:
        TypeError: If the picture is not an array of uint8.
        ValueError: If its shape, the size or the filter is none of the above.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = f'an array of {image.dtype}' if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f'image must be an array of uint8, but is {kind}')
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f'image must have the shape [H, W] or [H, W, C] without a 0, but has {image.shape}')
    size = _size('size', size)
    filter = _filter(filter, FILTERS) or resampling_filter(image.shape[:2], size)
    if image.shape[:2] == size:
        return image
    if image.ndim == 3 and image.shape[2] != 3:  # Pillow takes four channels for transparency and weighs by the last
        return np.stack([resize_image(channel, size, filter) for channel in np.moveaxis(image, 2, 0)], axis=2)
    # Along the rows first, as the Pillow of the published code did. Pillow 13 begins with either axis, by the sizes;
    # values are rounded and clipped between the two, so that the order matters.
    narrowed = Image.fromarray(image).resize((size[1], image.shape[0]), _PILLOW[filter])
    return np.array(narrowed.resize(size[::-1], _PILLOW[filter]))


def resize_maps(maps, size, filter=None):
    """Resize maps of floats with Pillow's filters, as its resizing of float pictures (mode ``F``) does.

    The centre of pixel i lies at i + 0.5. Where a side shrinks, the filter is widened (antialiased). Bicubic has
    a = -0.5, Lanczos a = 3. A filter that reaches over the border is cut there and normalised.

    Args:
        maps (Tensor): Maps [..., H, W] of a floating type, on any device. float16 and bfloat16 are computed in
            float32.
        size (tuple[int, int]): New height and width in pixels, each at least 1.
        filter (str, optional): ``'bilinear'``, ``'bicubic'`` or ``'lanczos'``. Default: None, as
            :func:`resampling_filter` chooses.

    Returns:
        Tensor: Maps [..., *size] of the same type, differentiable. Maps of that size already are returned as they are.

    Raises:
        TypeError: If ``maps`` is not a tensor of a floating type.
        ValueError: If its shape, the size or the filter is none of the above.
    """
    if not isinstance(maps, torch.Tensor) or not maps.is_floating_point():
        kind = f'a tensor of {maps.dtype}' if isinstance(maps, torch.Tensor) else type(maps).__name__
        raise TypeError(f'maps must be a tensor of a floating type, but is {kind}')
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise ValueError(f'maps must have the shape [..., H, W] with H and W above 0, but has {tuple(maps.shape)}')
    size = _size('size', size)
    source = tuple(maps.shape[-2:])
    filter = _filter(filter, FILTERS[1:]) or resampling_filter(source, size)
    if source == size:
        return maps
    rows, columns = (resampling_weights(*sides, filter) for sides in zip(source, size))
    return apply_weights(maps, rows, columns)


def apply_weights(maps, rows, columns):
    """Resample maps by one matrix per side, as :func:`resampling_weights` makes them or products of such.

    Args:
        maps (Tensor): Maps [..., H, W] of a floating type; float16 and bfloat16 are computed in float32.
        rows (Tensor): Weights [H', H].
        columns (Tensor): Weights [W', W].

    Returns:
        Tensor: Maps [..., H', W'] of the same type and on the same device.
    """
    kind = maps.dtype if maps.dtype in (torch.float32, torch.float64) else torch.float32
    rows, columns = rows.to(maps.device, kind), columns.to(maps.device, kind)
    with torch.autocast(maps.device.type, enabled=False):  # would take products of matrices to half precision
        return (rows @ (maps.to(kind) @ columns.T)).to(maps.dtype)


def resampling_weights(source, target, filter):
    """Return the matrix that resamples a line of pixels.

    Args:
        source (int): Number of pixels, at least 1.
        target (int): New number of pixels, at least 1.
        filter (str): ``'bilinear'``, ``'bicubic'`` or ``'lanczos'``.

    Returns:
        Tensor: Weights [target, source], float64. Each row sums to 1.
    """
    function, reach = _FUNCTIONS[filter]
    step = source / target
    widening = max(step, 1)
    reach *= widening
    centres = (torch.arange(target, dtype=torch.float64) + 0.5) * step
    # The pixels that Pillow visits: those whose place, rounded, lies within reach.
    first = (centres - reach + 0.5).trunc().clamp(min=0)
    last = (centres + reach + 0.5).trunc().clamp(max=source)
    taps = min(ceil(reach) * 2 + 1, source)
    places = first.long()[:, None] + torch.arange(taps)
    weights = function((places + 0.5 - centres[:, None]) / widening)
    weights[places >= last[:, None]] = 0
    weights /= weights.sum(1, keepdim=True)
    return torch.zeros(target, source, dtype=torch.float64).scatter_add_(1, places.clamp(max=source - 1), weights)


def _bilinear(x):
    return (1 - x.abs()).clamp(min=0)


def _bicubic(x):
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


def _lanczos(x):
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0)


_FUNCTIONS = {'bilinear': (_bilinear, 1), 'bicubic': (_bicubic, 2), 'lanczos': (_lanczos, 3)}


def _size(name, size):
    sides = tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(isinstance(side, (int, np.integer)) and side >= 1 for side in sides):
        raise ValueError(f'{name}={size!r} must be a pair (height, width) of whole numbers of at least 1')
    return tuple(int(side) for side in sides)


def _filter(filter, known):
    if filter is not None and filter not in known:
        raise ValueError(f'filter={filter!r} must be one of {", ".join(map(repr, known))}, or None for the rule')
    return filter
