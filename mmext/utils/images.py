"""Reading of an image that a user names."""

import warnings

import numpy as np

__all__ = ['FORMATS', 'MAX_PIXELS', 'read_square', 'square']

FORMATS = ('BMP', 'GIF', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM', 'TIFF', 'WEBP')  # none that starts other programs
MAX_PIXELS = 89_478_485  # Pillow's own limit, where it begins to warn
DEEP = 65_535  # white, in 16 bits


def read_square(path, size):
    """Read the centred square of an image as RGB, resized.

    Taken are colour and greyscale images with or without transparency, which is left out, palettes, 16 bits, CMYK, and
    the first frame of animated ones, in the formats of :data:`FORMATS`.

    Args:
        path (str or Path): The file.
        size (int): Side of the result in pixels, at least 1.

    Returns:
        np.ndarray: [size, size, 3], uint8, writable.

    Raises:
        ValueError: If it is no such image, is damaged, or has more than :data:`MAX_PIXELS` pixels.
        OSError: If there is no such file.
    """
    from PIL import Image

    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # not every build of Pillow has all
    with open(path, 'rb') as file, warnings.catch_warnings():
        warnings.simplefilter('error', Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:  # also where a program has changed Pillow's limit
                    raise Image.DecompressionBombError
                return square(_rgb(image), size)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(
                f'{path} cannot be read as a picture: it has more than {MAX_PIXELS:,} pixels; give a smaller one'
            ) from error
        except Exception as error:  # Pillow's decoders fail on damaged files in as many ways as there are bytes
            text = str(error).replace(repr(file), 'the file')
            raise ValueError(f'{path} cannot be read as a picture: {text}; give another file') from error


def square(image, size):
    """Cut the centred square out of a Pillow image and resize it.

    Args:
        image (PIL.Image.Image): In mode RGB.
        size (int): Side of the result in pixels, at least 1.

    Returns:
        np.ndarray: [size, size, 3], uint8, writable.
    """
    from PIL import Image

    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    # cut first: an image of 1 x 20000 pixels resized as a whole takes gigabytes
    return np.array(image.crop((left, top, left + side, top + side)).resize((size, size), Image.BILINEAR))


def _rgb(image):
    from PIL import Image

    if image.mode == 'F' or image.mode.startswith('I'):
        values = np.asarray(image)
        if values.dtype.kind == 'f' or values.min() < 0 or values.max() > DEEP:
            raise ValueError(f'its values are not of 8 or 16 bits (mode {image.mode})')
        return Image.fromarray((values.astype(np.float32) * (255 / DEEP)).round().astype(np.uint8)).convert('RGB')
    if image.mode in ('P', 'PA') and 'transparency' in image.info:
        image = image.convert('RGBA')  # as Pillow asks for
    return image.convert('RGB')
