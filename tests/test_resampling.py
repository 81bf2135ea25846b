import numpy as np
import pytest
import torch
from golden import FOLDER
from PIL import Image

from mmext.resampling import FILTERS, resampling_filter, resampling_weights, resize_image, resize_maps

PILLOW = dict(nearest=Image.NEAREST, bilinear=Image.BILINEAR, bicubic=Image.BICUBIC, lanczos=Image.LANCZOS)
SIZES = [(13, 17), (40, 60), (7, 30), (21, 5), (1, 1), (13, 40), (100, 8), (14, 18), (12, 16)]


@pytest.mark.parametrize(
    ('target', 'expected'),
    [
        ((7, 9), 'lanczos'),
        ((9, 11), 'bicubic'),
        ((8, 10), 'bilinear'),
        ((8, 12), 'bilinear'),
        ((6, 10), 'bilinear'),
        ((7, 12), 'bilinear'),
        ((12, 7), 'bilinear'),
    ],
)
def test_the_rule(target, expected):
    assert resampling_filter((8, 10), target) == expected


@pytest.mark.parametrize('filter', FILTERS[1:])
@pytest.mark.parametrize('size', SIZES)
def test_maps_against_pillow(size, filter):
    maps = torch.randn(2, 3, 13, 17)
    found = resize_maps(maps, size, filter)
    assert found.dtype == torch.float32
    for resized, given in zip(found.flatten(0, 1), maps.flatten(0, 1)):
        expected = Image.fromarray(given.numpy()).resize(size[::-1], PILLOW[filter])
        np.testing.assert_allclose(resized.numpy(), np.array(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize('size', SIZES)
def test_maps_by_the_rule(size):
    maps = torch.randn(2, 13, 17)
    expected = maps if size == (13, 17) else resize_maps(maps, size, resampling_filter((13, 17), size))
    assert torch.equal(resize_maps(maps, size), expected)


def test_maps_against_the_reference():
    """Class maps of the published test code: enlarged by the stride, cut, resized to the picture by the rule."""
    golden = dict(np.load(FOLDER / 'wider_resnet' / 'pipeline_seg_interp.npz'))
    probabilities = torch.from_numpy(golden['probs'])
    for key, stride, scaled, size in [
        ('out0', 8, (61, 45), (61, 45)),
        ('out1', 8, (61, 45), (120, 90)),
        ('out2', 8, (61, 45), (40, 30)),
        ('out3', 4, (30, 22), (61, 45)),
        ('out4', 8, (61, 45), (61, 45)),
    ]:
        enlarged = resize_maps(probabilities, (8 * stride, 6 * stride), 'bicubic')
        found = resize_maps(enlarged[:, : scaled[0], : scaled[1]], size)
        np.testing.assert_allclose(found.numpy(), golden[key], rtol=0, atol=1e-5)


@pytest.mark.parametrize('filter', FILTERS)
@pytest.mark.parametrize('channels', [(), (1,), (3,), (4,)])
def test_images_against_pillow(channels, filter):
    image = np.random.default_rng(0).integers(0, 256, (13, 17, *channels), dtype=np.uint8)
    found = resize_image(image, (20, 9), filter)
    assert found.shape == (20, 9, *channels)
    assert found.dtype == np.uint8
    for resized, given in zip(np.moveaxis(np.atleast_3d(found), 2, 0), np.moveaxis(np.atleast_3d(image), 2, 0)):
        np.testing.assert_array_equal(resized, np.array(Image.fromarray(given).resize((9, 20), PILLOW[filter])))


@pytest.mark.parametrize('size', SIZES[1:])
def test_images_by_the_rule(size):
    image = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    expected = resize_image(image, size, resampling_filter((13, 17), size))
    np.testing.assert_array_equal(resize_image(image, size), expected)


def test_equal_size_is_left_alone():
    image, maps = np.zeros((4, 5, 3), np.uint8), torch.zeros(4, 5)
    assert resize_image(image, (4, 5), 'lanczos') is image
    assert resize_maps(maps, (4, 5), 'lanczos') is maps


def test_types_of_maps():
    maps = torch.randn(3, 8, 6)
    expected = resize_maps(maps.double(), (20, 9))
    assert expected.dtype == torch.float64
    half = maps.bfloat16()
    assert torch.equal(resize_maps(half, (20, 9)), resize_maps(half.float(), (20, 9)).bfloat16())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        torch.testing.assert_close(resize_maps(maps, (20, 9)).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('filter', FILTERS[1:])
def test_weights_of_a_line_sum_to_one(filter):
    torch.testing.assert_close(resampling_weights(13, 7, filter).sum(1), torch.ones(7).double())


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda: resampling_filter((4, 5), (0, 5)), ValueError, r'target_size=\(0, 5\) must be a pair'),
        (lambda: resampling_filter(4, (4, 5)), ValueError, 'source_size=4 must be a pair'),
        (lambda: resize_image(np.zeros((4, 5)), (4, 5)), TypeError, 'array of uint8, but is an array of float64'),
        (lambda: resize_image([[0]], (4, 5)), TypeError, 'array of uint8, but is list'),
        (lambda: resize_image(np.zeros(4, np.uint8), (4, 5)), ValueError, r'but has \(4,\)'),
        (lambda: resize_image(np.zeros((4, 5), np.uint8), (4, 5.0)), ValueError, r'size=\(4, 5.0\) must be a pair'),
        (lambda: resize_image(np.zeros((4, 5), np.uint8), (4, 5), 'cubic'), ValueError, "filter='cubic' must be one"),
        (lambda: resize_maps(torch.zeros(4, 5).long(), (4, 5)), TypeError, 'but is a tensor of torch.int64'),
        (lambda: resize_maps(torch.zeros(4), (4, 5)), ValueError, r'but has \(4,\)'),
        (lambda: resize_maps(torch.zeros(4, 5), (8, 9), 'nearest'), ValueError, "filter='nearest' must be one of"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
