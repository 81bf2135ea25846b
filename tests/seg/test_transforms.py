import json

import numpy as np
import pytest
from golden import FOLDER
from mmcv.transforms.utils import cache_random_params
from mmseg.registry import TRANSFORMS
from PIL import Image

GOLDEN = FOLDER / 'wider_resnet'
PARAMS = json.loads((GOLDEN / 'pipeline.json').read_text())['cases']
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def build(name, **kwargs):
    return TRANSFORMS.build(dict(type=name, **kwargs))


def arrays(name):
    return dict(np.load(GOLDEN / f'{name}.npz'))


def normalised(picture):
    """As the reference does: [0, 1] in float32, then mean and standard deviation."""
    return (picture.astype(np.float32) / np.float32(255) - MEAN) / STD


def sample(picture, labels=None):
    shape = picture.shape[:2]
    results = dict(img=picture, img_shape=shape, ori_shape=shape, seg_fields=[])
    if labels is not None:
        results.update(gt_seg_map=labels, seg_fields=['gt_seg_map'])
    return results


@pytest.mark.parametrize(('number', 'size', 'shape'), [(0, 100, (71, 100)), (1, 64, (64, 43)), (2, 64, (64, 48))])
def test_resize_against_the_reference(number, size, shape):
    golden = arrays('pipeline_seg_test')
    picture, labels = golden[f'image{number}'], np.zeros((9, 9), np.uint8)
    found = build('mmext.ResizeLongerSide', size=size)(sample(picture, labels))
    np.testing.assert_array_equal(found['img'], golden[f'scaled{number}'])
    np.testing.assert_allclose(normalised(found['img']), golden[f'out{number}'], rtol=0, atol=1e-6)
    assert found['img_shape'] == shape
    assert found['ori_shape'] == picture.shape[:2]
    assert found['scale'] == shape[::-1]
    assert found['scale_factor'] == (shape[1] / picture.shape[1], shape[0] / picture.shape[0])
    assert found['keep_ratio'] is True
    assert found['gt_seg_map'] is labels


def test_resize_of_a_thread_keeps_a_pixel():
    found = build('mmext.ResizeLongerSide', size=10)(sample(np.zeros((1, 100, 3), np.uint8)))
    assert found['img'].shape == (1, 10, 3)


def crop_of_the_reference(number, picture, labels):
    """Our crop with the recorded draws of the reference."""
    params = PARAMS[f'pipeline_seg_train_{number}']['params']
    step = build(
        'mmext.RandomLongerSideCrop',
        crop_size=params['crop_size'],
        origin_size=params['origin_size'],
        scale_range=params['scale_rate_range'],
        pad_val=(123, 116, 103),  # the pictures are red first
    )
    seen = {}

    def draw(ends):
        seen['ends'] = list(ends)
        return params['sy'], params['sx']

    step._draw_target_size = lambda: params['target_size']
    step._draw_corner = draw
    results = step(sample(picture, labels))
    assert seen['ends'] == [params['sy_range'][1], params['sx_range'][1]]
    assert step._target_sizes == tuple(params['target_size_range'])
    return results, params['flip']


@pytest.mark.parametrize('number', range(4))
def test_crop_against_the_reference(number):
    """The labels of a mirrored picture need a word.

    The reference samples the labels at pixels 4, 12, ... of the crop and mirrors the sampled grid: after mirroring,
    cell j holds the label of pixel 8 j + 3. Here the whole label map is mirrored with the picture and the head samples
    pixel 8 j + 4 in every case, where the network's cells are centred. So the reference's labels must be found at
    8 j + 3, and what is trained here is one pixel to the right of them.
    """
    golden = arrays(f'pipeline_seg_train_{number}')
    results, flip = crop_of_the_reference(number, golden['image'], golden['label'])
    side = golden['data'].shape[1]
    assert results['img_shape'] == (side, side)
    assert results['gt_seg_map'].shape == (side, side)
    assert results['gt_seg_map'].dtype == np.uint8
    results = build('RandomFlip', prob=float(flip))(results)
    found = normalised(results['img']).transpose(2, 0, 1)
    np.testing.assert_allclose(found, golden['data'], rtol=0, atol=1e-6)
    column = 3 if flip else 4
    np.testing.assert_array_equal(results['gt_seg_map'][4::8, column::8], golden['label_out'])


def test_two_golden_crops_are_mirrored():
    assert [PARAMS[f'pipeline_seg_train_{number}']['params']['flip'] for number in range(4)] == [False] * 2 + [True] * 2


def test_mirrored_labels_stay_with_the_picture():
    """Labels drawn into the picture: after crop and mirroring, the cells that the head samples still agree."""
    labels = np.repeat(np.arange(30, dtype=np.uint8)[None], 40, 0).repeat(4, 1)
    picture = np.stack([labels * 2] * 3, 2)
    step = build('mmext.RandomLongerSideCrop', crop_size=64, origin_size=120, scale_range=(1, 1))
    for prob in (0.0, 1.0):
        np.random.seed(0)
        found = build('RandomFlip', prob=prob)(step(sample(picture, labels)))
        cells, colours = found['gt_seg_map'][4::8, 4::8], found['img'][4::8, 4::8, 0]
        inside = cells != 255
        assert inside.sum() > 20
        np.testing.assert_array_equal(cells[inside] * 2, colours[inside])


def test_draws():
    """All sizes and places of the published rule, each end included, and no others."""
    picture, labels = np.zeros((24, 48, 3), np.uint8), np.zeros((24, 48), np.uint8)
    step = build('mmext.RandomLongerSideCrop', crop_size=30, origin_size=48)
    assert step.crop_size == 32
    np.random.seed(0)
    assert {step._draw_target_size() for _ in range(3000)} == set(range(33, 63))
    assert {step._draw_corner([3, 5]) for _ in range(1000)} == {(y, x) for y in range(3) for x in range(5)}
    first, second = (step(sample(picture.copy(), labels.copy()))['scale_factor'] for _ in range(2))
    assert first != second
    with cache_random_params(step):
        assert len({step(sample(picture.copy(), labels.copy()))['scale_factor'] for _ in range(5)}) == 1


def crop_on_a_canvas(picture, labels, crop_size, origin_size, scale_range, stride):
    """The published crop as the facts tell it: on a canvas larger than all, by numpy's global generator."""
    height, width = labels.shape
    target = np.random.randint(int(scale_range[0] * origin_size), int(scale_range[1] * origin_size) + 1)
    rate = target / max(height, width)
    square = max(1, int(crop_size / rate))
    cell = stride / rate
    before = max(1, int(cell // 2))
    side = before + max(height, width) + 2 * square + int(cell) + 1
    canvas, label_canvas = np.full((side, side, 3), (103, 116, 123), np.uint8), np.full((side, side), 255, np.uint8)
    canvas[before : before + height, before : before + width] = picture
    label_canvas[before : before + height, before : before + width] = labels
    top, left = (np.random.randint(0, int(max(1, cell, before + length - square + 1))) for length in (height, width))
    area = (slice(top, top + square), slice(left, left + square))
    filter = {-1: Image.LANCZOS, 0: Image.BILINEAR, 1: Image.BICUBIC}[np.sign(crop_size - square)]
    return (
        np.array(Image.fromarray(canvas[area]).resize((crop_size, crop_size), filter)),
        np.array(Image.fromarray(label_canvas[area]).resize((crop_size, crop_size), Image.NEAREST)),
    )


@pytest.mark.parametrize('shape', [(5, 400), (400, 5), (1, 1), (2, 3), (300, 211)])
def test_any_shape(shape):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    labels = rng.integers(0, 9, shape, dtype=np.uint8)
    settings = dict(crop_size=64, origin_size=100, scale_range=(0.5, 4.0), stride=8)
    step = build('mmext.RandomLongerSideCrop', **settings)
    for seed in range(30):
        np.random.seed(seed)
        expected = crop_on_a_canvas(picture, labels, **settings)
        np.random.seed(seed)
        found = step(sample(picture, labels))
        np.testing.assert_array_equal(found['img'], expected[0])
        np.testing.assert_array_equal(found['gt_seg_map'], expected[1])
        assert step(sample(picture, labels))['img'].shape == (64, 64, 3)


@pytest.mark.parametrize(
    ('name', 'kwargs', 'message'),
    [
        ('ResizeLongerSide', dict(size=0), 'size=0 must be a whole number of pixels, at least 1'),
        ('ResizeLongerSide', dict(size=(500, 500)), r'size=\(500, 500\) must be a whole number'),
        ('RandomLongerSideCrop', dict(crop_size=0, origin_size=9), 'crop_size=0 must be a whole number'),
        ('RandomLongerSideCrop', dict(crop_size=9, origin_size=0.5), 'origin_size=0.5 must be a whole number'),
        ('RandomLongerSideCrop', dict(crop_size=9, origin_size=9, stride=0), 'stride=0 must be a whole number'),
        ('RandomLongerSideCrop', dict(crop_size=9, origin_size=9, scale_range=(2, 1)), r'scale_range=\(2, 1\) must be'),
        ('RandomLongerSideCrop', dict(crop_size=9, origin_size=9, scale_range=(0.1, 1)), 'pictures without pixels'),
        ('RandomLongerSideCrop', dict(crop_size=9, origin_size=9, pad_val=256), 'pad_val=256 must be of 0 to 255'),
        ('RandomLongerSideCrop', dict(crop_size=9, origin_size=9, ignore_index=-1), 'ignore_index=-1 must be of 0'),
    ],
)
def test_refusals(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(f'mmext.{name}', **kwargs)


def test_labels_of_another_size_are_refused():
    step = build('mmext.RandomLongerSideCrop', crop_size=8, origin_size=9)
    with pytest.raises(ValueError, match=r'gt_seg_map has the shape \(4, 4\), but img the size \(5, 4\)'):
        step(sample(np.zeros((5, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)))


def test_pictures_of_floats_are_refused():
    with pytest.raises(TypeError, match='array of float32'):
        build('mmext.ResizeLongerSide', size=8)(sample(np.zeros((5, 4, 3), np.float32)))


def test_what_is_printed():
    assert repr(build('mmext.ResizeLongerSide', size=8)) == 'ResizeLongerSide(size=8)'
    assert 'crop_size=504, origin_size=2048' in repr(
        build('mmext.RandomLongerSideCrop', crop_size=500, origin_size=2048)
    )


@pytest.mark.parametrize(
    ('shape', 'fill'),
    [((30, 40), 114), ((30, 40, 1), (114,)), ((30, 40, 3), (103, 116, 123)), ((30, 40, 4), (103, 116, 123, 0))],
)
def test_the_border_has_the_channels_of_the_image(shape, fill):
    step = build('mmext.RandomLongerSideCrop', crop_size=80, origin_size=40, scale_range=(1, 1))
    found = step(sample(np.full(shape, 7, np.uint8)))['img']
    assert found.shape == (80, 80, *shape[2:])
    values = {tuple(np.atleast_1d(value)) for value in found.reshape(-1, *shape[2:])}
    assert values == {tuple(np.atleast_1d(fill)), (7,) * len(np.atleast_1d(fill))}


def test_one_number_fills_any_channels_and_others_must_fit():
    image = np.full((30, 40, 2), 7, np.uint8)
    options = dict(crop_size=80, origin_size=40, scale_range=(1, 1))
    found = build('mmext.RandomLongerSideCrop', pad_val=9, **options)(sample(image))['img']
    assert set(np.unique(found)) == {7, 9}
    with pytest.raises(ValueError, match=r'pad_val=\(103, 116, 123\) has 3 values, and img 2 channels; give as many'):
        build('mmext.RandomLongerSideCrop', **options)(sample(image))


@pytest.mark.parametrize('shape', [(1, 20000), (20000, 1)])
def test_a_thread_is_refused_before_it_takes_memory(shape):
    image = np.zeros((*shape, 3), np.uint8)
    step = build('mmext.RandomLongerSideCrop', crop_size=500, origin_size=500, scale_range=(0.7, 0.7))
    with pytest.raises(ValueError, match=r'RandomLongerSideCrop\(.*would make 28799 x 28799 pixels of an image of'):
        step(sample(image))
    assert build('mmext.ResizeLongerSide', size=500)(sample(image))['img'].size == 500 * 3
    with pytest.raises(ValueError, match=r'ResizeLongerSide\(size=1000000\) would make 1000000 x 1000000 pixels'):
        build('mmext.ResizeLongerSide', size=10**6)(sample(np.zeros((9, 9, 3), np.uint8)))
