import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmext.utils.images import MAX_PIXELS, read_square

COLOUR = (200, 100, 50)


def uniform(mode, colour, **options):
    return Image.new(mode, (9, 7), colour), options


def palette(transparent):
    image = Image.new('P', (9, 7), 3)
    image.putpalette([0, 0, 0] * 3 + list(COLOUR) + [0, 0, 0] * 252)
    return image, dict(transparency=bytes([0] * 256)) if transparent else {}


def animated():
    frames = [Image.new('RGB', (9, 7), colour) for colour in (COLOUR, (0, 0, 0))]
    return frames[0], dict(save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ('image', 'suffix', 'expected'),
    [
        (uniform('RGB', COLOUR), 'png', COLOUR),
        (uniform('RGBA', (*COLOUR, 7)), 'png', COLOUR),
        (uniform('L', 77), 'png', (77, 77, 77)),
        (uniform('LA', (77, 5)), 'png', (77, 77, 77)),
        (uniform('1', 1), 'png', (255, 255, 255)),
        (palette(False), 'png', COLOUR),
        (palette(True), 'png', COLOUR),
        (uniform('I;16', 77 * 257), 'png', (77, 77, 77)),
        (uniform('I;16', 65535), 'tiff', (255, 255, 255)),
        (uniform('I', 77 * 257), 'tiff', (77, 77, 77)),
        (uniform('CMYK', (*(255 - value for value in COLOUR), 0)), 'tiff', COLOUR),
        (uniform('RGB', COLOUR), 'bmp', COLOUR),
        (uniform('L', 77), 'pgm', (77, 77, 77)),
        (animated(), 'png', COLOUR),
        (animated(), 'gif', COLOUR),
    ],
)
def test_modes(image, suffix, expected, tmp_path):
    path = tmp_path / f'image.{suffix}'
    image[0].save(path, **image[1])
    found = read_square(path, 4)
    assert (found.shape, found.dtype) == ((4, 4, 3), np.uint8)
    assert np.abs(found.astype(int) - expected).max() <= (2 if suffix == 'gif' else 0)


@pytest.mark.parametrize(('shape', 'box'), [((6, 10), (0, 2, 6, 8)), ((11, 6), (2, 0, 8, 6)), ((6, 6), (0, 0, 6, 6))])
def test_the_centre_is_cut_out(shape, box, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'image.png')
    top, left, bottom, right = box
    np.testing.assert_array_equal(read_square(tmp_path / 'image.png', 6), pixels[top:bottom, left:right])


@pytest.mark.parametrize('shape', [(1, 20000), (20000, 1)])
def test_a_thread(shape, tmp_path):
    pixels = np.zeros(shape, np.uint8)
    pixels.flat[9999] = 50
    Image.fromarray(pixels).save(tmp_path / 'image.png')
    found = read_square(tmp_path / 'image.png', 224)
    assert found.shape == (224, 224, 3)
    assert (found == 50).all()


def png_of(width, height):
    """A PNG file that claims a size."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', data) + chunk(b'IEND', b'')


@pytest.mark.parametrize('limit', [MAX_PIXELS, None])
@pytest.mark.parametrize('size', [(20000, 20000), (10000, 9000), (1, MAX_PIXELS + 1)])
def test_bombs(size, limit, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
    (tmp_path / 'bomb.png').write_bytes(png_of(*size))
    with pytest.raises(ValueError, match=r'bomb\.png cannot be read as a picture: it has more than 89,478,485 pixels'):
        read_square(tmp_path / 'bomb.png', 8)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'cannot identify image file the file'),
        (b'no image', 'cannot identify image file the file'),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'cannot identify'),  # Ghostscript would run it
        (png_of(9, 9)[:45], 'cannot be read as a picture: '),
        (png_of(900, 900), 'image file is truncated'),
        (png_of(9, 9).replace(b'IDAT', b'IxAT'), 'cannot be read as a picture: '),
    ],
)
def test_damaged_files(content, message, tmp_path):
    (tmp_path / 'image.png').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_square(tmp_path / 'image.png', 8)


@pytest.mark.parametrize(('mode', 'value'), [('F', 0.5), ('I', 70000), ('I', -1)])
def test_values_of_no_known_range(mode, value, tmp_path):
    Image.new(mode, (9, 7), value).save(tmp_path / 'image.tiff')
    with pytest.raises(ValueError, match=rf'its values are not of 8 or 16 bits \(mode {mode}\); give another file'):
        read_square(tmp_path / 'image.tiff', 8)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_square(tmp_path / 'absent.png', 8)
    with pytest.raises(IsADirectoryError):
        read_square(tmp_path, 8)
