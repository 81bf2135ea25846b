import math

import golden
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS as ROOT
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from mmext.cls import RandomSizedCrop, ResizeShorterSide, SideCrop

CASES = golden.Case('wider_resnet', 'pipeline')['cases']
ARRAYS = dict(np.load(golden.FOLDER / 'wider_resnet' / 'pipeline_cls_test.npz'))
TEST_CASES = list(enumerate(CASES['pipeline_cls_test']['cases']))


def picture(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def numbered(height, width):
    """A picture whose two channels are the row and the column of a pixel."""
    return np.stack(np.mgrid[:height, :width], axis=2).astype(np.uint8)


def test_found_by_name():
    for name in ('RandomSizedCrop', 'ResizeShorterSide', 'SideCrop', 'UnclippedColorJitter', 'ScaledLighting'):
        assert TRANSFORMS.get(f'mmext.{name}') is ROOT.get(f'mmext.{name}')


@pytest.mark.parametrize(('number', 'case'), TEST_CASES)
def test_the_test_pipeline_is_as_published(number, case):
    image = ARRAYS[f'image{number}'][..., ::-1]  # BGR, as mmcv loads it
    filter = None if case['choose_interp_method'] else 'bicubic'
    results = ResizeShorterSide(case['size'], filter=filter)(dict(img=image))
    np.testing.assert_array_equal(results['img'][..., ::-1], ARRAYS[f'scaled{number}'])
    (height, width), scaled = case['in'], case['scaled']
    assert results['img_shape'] == tuple(scaled)
    assert results['scale_factor'] == (scaled[1] / width, scaled[0] / height)
    for size in (case['size'], None):
        cropped = SideCrop(size)(dict(results))
        np.testing.assert_array_equal(cropped['img'][..., ::-1], ARRAYS[f'crop{number}'])
        assert cropped['img_shape'] == tuple(case['crop'])


def test_a_picture_of_the_right_size_is_left_alone():
    image = picture(40, 61)
    assert ResizeShorterSide(40)(dict(img=image))['img'] is image


@pytest.mark.parametrize(
    ('shape', 'size', 'position', 'corner'),
    [
        ((40, 61), 40, 'start', (0, 0)),
        ((40, 61), 40, 'centre', (0, 11)),
        ((40, 61), 40, 'end', (0, 21)),
        ((61, 40), None, 'start', (0, 0)),
        ((61, 40), None, 'centre', (11, 0)),
        ((61, 40), None, 'end', (21, 0)),
        ((61, 43), 40, 'start', (0, 2)),
        ((61, 43), 40, 'end', (21, 2)),
        ((45, 45), 40, 'start', (3, 0)),
        ((45, 45), 40, 'centre', (3, 3)),
        ((45, 45), 40, 'end', (3, 5)),
        ((40, 40), 40, 'end', (0, 0)),
    ],
)
def test_positions_of_a_square(shape, size, position, corner):
    results = SideCrop(size, position=position)(dict(img=numbered(*shape)))
    assert results['img'].shape == (40, 40, 2)
    assert tuple(results['img'][0, 0]) == corner


class Replay:
    """Stands for numpy's random functions: returns recorded draws and checks what was asked for."""

    def __init__(self, draws, uniform_ranges):
        self.draws = list(draws)
        self.uniform_ranges = uniform_ranges
        self.uniform_calls = 0

    def uniform(self, low, high):
        kind, value = self.draws.pop(0)
        assert kind == 'u'
        assert (low, high) == self.uniform_ranges[self.uniform_calls % len(self.uniform_ranges)]
        self.uniform_calls += 1
        return value

    def randint(self, high):
        (recorded,), (value,) = self.draws.pop(0)
        assert high == recorded
        return int(value)


@pytest.mark.parametrize('number', range(3))
def test_random_crops_are_as_published(number, monkeypatch):
    case = CASES['pipeline_cls_train']['cases'][number]
    arrays = np.load(golden.FOLDER / 'wider_resnet' / 'pipeline_cls_train.npz')
    replay = Replay(case['crop_draws'], [(0.08, 1), (3 / 4, 4 / 3)])
    monkeypatch.setattr(np.random, 'uniform', replay.uniform)
    monkeypatch.setattr(np.random, 'randint', replay.randint)
    size = CASES['pipeline_cls_train']['size']
    results = RandomSizedCrop(size)(dict(img=arrays[f'image{number}'][..., ::-1]))
    np.testing.assert_array_equal(results['img'][..., ::-1], arrays[f'crop{number}'])
    assert results['img_shape'] == (size, size)
    assert not replay.draws


def test_rows_are_resized_first_whatever_pillow_does():
    image = picture(40, 30)
    crop = RandomSizedCrop(20, filter='bicubic')
    crop.draw = lambda height, width: (0, 0, height, width)
    expected = Image.fromarray(image).resize((20, 40), Image.BICUBIC).resize((20, 20), Image.BICUBIC)
    np.testing.assert_array_equal(crop(dict(img=image))['img'], np.asarray(expected))


def test_areas_are_uniform_and_aspects_not_log_uniform():
    np.random.seed(0)
    crop = RandomSizedCrop(224, area_range=(0.1, 0.3), aspect_range=(0.5, 2))
    crops = np.array([crop.draw(2000, 2000) for _ in range(4000)], float)
    tops, lefts, heights, widths = crops.T
    areas = heights * widths / 2000**2
    assert areas.min() == pytest.approx(0.1, abs=2e-3)
    assert areas.max() == pytest.approx(0.3, abs=2e-3)
    assert np.quantile(areas, [0.25, 0.5, 0.75]) == pytest.approx([0.15, 0.2, 0.25], abs=5e-3)
    # P(width < height): an aspect below 1 (a third of the range) kept, or one above 1 with the sides exchanged
    assert (widths < heights).mean() == pytest.approx(0.5, abs=0.03)
    ratios = np.maximum(widths, heights) / np.minimum(widths, heights)
    # P(ratio < 1.5) = (1 - 1/1.5 + 1.5 - 1) / 1.5 = 0.556; it would be 0.585 on a log scale
    assert (ratios < 1.5).mean() == pytest.approx((1 - 1 / 1.5 + 0.5) / 1.5, abs=0.02)
    for offsets, sides in ((tops, heights), (lefts, widths)):
        assert (offsets >= 0).all()
        assert (offsets + sides <= 2000).all()
        assert (offsets / (2000 - sides)).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(('height', 'width'), [(20, 300), (300, 21), (40, 41)])
@pytest.mark.parametrize('filter', [None, 'bicubic'])
def test_what_never_fits_becomes_the_centred_square(height, width, filter):
    image = picture(height, width)
    crop = RandomSizedCrop(32, area_range=(1, 1), aspect_range=(4, 4), tries=5, filter=filter)
    assert crop.draw(height, width) is None
    new = tuple(round(32 * side / min(height, width)) for side in (height, width))
    grows = new[0] > height
    kind = Image.LANCZOS if filter is None and not grows else Image.BICUBIC
    expected = np.asarray(Image.fromarray(image).resize((new[1], height), kind).resize(new[::-1], kind))
    top, left = (math.ceil((side - 32) / 2) for side in new)
    results = crop(dict(img=image))
    np.testing.assert_array_equal(results['img'], expected[top : top + 32, left : left + 32])
    assert results['img_shape'] == (32, 32)


def test_smallest_pictures():
    np.random.seed(0)
    for height, width in ((1, 1), (1, 2), (3, 2)):
        for _ in range(20):
            assert RandomSizedCrop(4)(dict(img=picture(height, width)))['img'].shape == (4, 4, 3)


def test_printing_tells_the_arguments():
    assert repr(SideCrop(8)) == "SideCrop(size=8, position='centre')"
    assert repr(ResizeShorterSide(8, filter=None)) == 'ResizeShorterSide(size=8, filter=None)'
    assert repr(RandomSizedCrop(8, aspect_range=(1, 2))) == (
        'RandomSizedCrop(size=8, area_range=(0.08, 1), aspect_range=(1, 2), tries=10, filter=None)'
    )


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: RandomSizedCrop(0), 'size=0 must be a whole number of at least 1'),
        (lambda: RandomSizedCrop(True), 'size=True must be'),
        (lambda: RandomSizedCrop(8, tries=0), 'tries=0 must be a whole number of at least 1'),
        (lambda: RandomSizedCrop(8, area_range=(0.5, 1.5)), r'area_range=\(0.5, 1.5\) .* at most 1'),
        (lambda: RandomSizedCrop(8, area_range=0.5), 'area_range=0.5 must be two numbers'),
        (lambda: RandomSizedCrop(8, aspect_range=(2, 1)), r'aspect_range=\(2, 1\) must be two numbers'),
        (lambda: RandomSizedCrop(8, aspect_range=(0, 1)), 'above 0'),
        (lambda: RandomSizedCrop(8, filter='cubic'), "filter='cubic' must be one of 'nearest'"),
        (lambda: ResizeShorterSide(2.5), 'size=2.5 must be a whole number'),
        (lambda: ResizeShorterSide(8, filter='area'), "filter='area' must be one of"),
        (lambda: SideCrop(-1), 'size=-1 must be a whole number'),
        (lambda: SideCrop(8, position='left'), "position='left' must be one of 'start', 'centre', 'end'"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_picture_smaller_than_the_square():
    with pytest.raises(ValueError, match=r'30 x 50 pixels .* square of 40: put mmext.ResizeShorterSide\(size=40\)'):
        SideCrop(40)(dict(img=picture(30, 50)))


@pytest.mark.parametrize('shape', [(1, 20000), (20000, 1)])
@pytest.mark.parametrize('step', [ResizeShorterSide(224), RandomSizedCrop(224)])
def test_a_thread_is_refused_before_it_takes_memory(step, shape):
    size = '224 x 4480000' if shape[0] == 1 else '4480000 x 224'
    message = rf'a shorter side of 224 would make {size} pixels of an image of {shape[0]} x {shape[1]} .*cut or resize'
    with pytest.raises(ValueError, match=message):
        step(dict(img=picture(*shape)))


@pytest.mark.parametrize('channels', [1, 4])
def test_grey_pictures_and_those_with_transparency(channels):
    image = picture(40, 61, channels)
    found = SideCrop(32)(ResizeShorterSide(32)(dict(img=image)))
    assert found['img'].shape == (32, 32, channels)
    expected = Image.fromarray(image[..., 0]).resize((49, 40), Image.BICUBIC).resize((49, 32), Image.BICUBIC)
    np.testing.assert_array_equal(found['img'][..., 0], np.asarray(expected)[:, 9:41])
    assert RandomSizedCrop(32)(dict(img=image))['img'].shape == (32, 32, channels)


@pytest.mark.parametrize('step', [ResizeShorterSide(8), RandomSizedCrop(8)])
def test_a_picture_of_floats(step):
    with pytest.raises(TypeError, match='uint8'):
        step(dict(img=picture(30, 50).astype(np.float32)))
