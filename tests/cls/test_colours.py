import golden
import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS, TRANSFORMS

from mmext.cls import ScaledLighting, UnclippedColorJitter

CASES = golden.Case('wider_resnet', 'pipeline')['cases']['pipeline_cls_train']['cases']
ARRAYS = dict(np.load(golden.FOLDER / 'wider_resnet' / 'pipeline_cls_train.npz'))
NAMES = ('brightness', 'contrast', 'saturation')
TOLERANCE = 1e-6  # in the scale of the golden data, 0 to 1
PREPROCESSOR = dict(
    type='ClsDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)


def give(monkeypatch, step, value):
    monkeypatch.setattr(step, 'draw', lambda: value, raising=False)


def recorded_changes(case):
    (_, order), *draws = case['jitter_order_and_alphas']
    return [(NAMES[index], 1 + draw) for index, (_, draw) in zip(order, draws)]


@pytest.mark.parametrize('number', range(3))
@pytest.mark.parametrize('order', ['bgr', 'rgb'])
def test_every_step_is_as_published(number, order, monkeypatch):
    def to_rgb(image):
        return image[..., ::-1] if order == 'bgr' else image

    case = CASES[number]
    jitter, lighting = UnclippedColorJitter(channel_order=order), ScaledLighting(channel_order=order)
    give(monkeypatch, jitter, recorded_changes(case))
    give(monkeypatch, lighting, case['lighting_alpha'])
    results = jitter(dict(img=to_rgb(ARRAYS[f'crop{number}'])))
    assert results['img'].dtype == np.float32
    assert np.abs(to_rgb(results['img']) / 255 - ARRAYS[f'jitter{number}']).max() < TOLERANCE
    results = lighting(results)
    assert results['img'].dtype == np.float32
    assert np.abs(to_rgb(results['img']) / 255 - ARRAYS[f'lighting{number}'].clip(0, 1)).max() < TOLERANCE
    flip = TRANSFORMS.build(dict(type='RandomFlip', prob=float(case['flip']), direction='horizontal'))
    packed = TRANSFORMS.build(dict(type='PackInputs'))(flip(results))
    preprocessor = MODELS.build({**PREPROCESSOR, 'to_rgb': order == 'bgr'})
    inputs = preprocessor(dict(inputs=[packed['inputs']]), training=True)['inputs']
    np.testing.assert_allclose(inputs[0].permute(1, 2, 0).numpy(), ARRAYS[f'out{number}'], rtol=0, atol=TOLERANCE)


def test_the_golden_cases_leave_the_range_and_are_clipped_at_the_end():
    assert ARRAYS['jitter1'].min() < -0.2
    assert ARRAYS['jitter1'].max() > 1.1


COLOUR = np.array([[[10, 100, 200]]], np.uint8)  # of one pixel, red to blue in RGB and blue to red in BGR


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_saturation_0_is_grey(order, monkeypatch):
    red, green, blue = COLOUR[0, 0] if order == 'rgb' else COLOUR[0, 0, ::-1]
    jitter = UnclippedColorJitter(channel_order=order)
    give(monkeypatch, jitter, [('saturation', 0.0)])
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    np.testing.assert_allclose(jitter(dict(img=COLOUR))['img'], np.full((1, 1, 3), grey), rtol=1e-6)


def test_each_change_by_hand(monkeypatch):
    image = np.array([[[0, 0, 0], [200, 100, 50]]], np.float32)  # RGB: grey 0 and 124.2, mean 62.1
    changes = dict(
        brightness=[[0, 0, 0], [300, 150, 75]],
        contrast=[[-31.05, -31.05, -31.05], [268.95, 118.95, 43.95]],
        saturation=[[0, 0, 0], [237.9, 87.9, 12.9]],
    )
    for name, expected in changes.items():
        jitter = UnclippedColorJitter(channel_order='rgb')
        give(monkeypatch, jitter, [(name, 1.5)])
        np.testing.assert_allclose(jitter(dict(img=image))['img'], [expected], atol=1e-4)


def test_draws_of_the_jitter():
    np.random.seed(0)
    jitter = UnclippedColorJitter(0.1, 0.2, 0)
    draws = [jitter.draw() for _ in range(1200)]
    orders = [tuple(name for name, _ in draw) for draw in draws]
    assert {order: orders.count(order) > 150 for order in orders} == dict.fromkeys(set(orders), True)
    assert len(set(orders)) == 6
    for name, greatest in zip(NAMES, (0.1, 0.2, 0)):
        factors = np.array([dict(draw)[name] for draw in draws])
        assert factors.min() == pytest.approx(1 - greatest, abs=0.01)
        assert factors.max() == pytest.approx(1 + greatest, abs=0.01)


def test_draws_of_the_lighting():
    np.random.seed(0)
    lighting = ScaledLighting(std=0.3)
    draws = np.array([lighting.draw() for _ in range(4000)])
    assert draws.shape == (4000, 3)
    np.testing.assert_allclose(draws.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(draws.std(0), 0.3, atol=0.02)


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_lighting_by_hand(order, monkeypatch):
    lighting = ScaledLighting(divisor=2, channel_order=order)
    give(monkeypatch, lighting, [0, 2, 0])  # the second component, 0.0188 (0.7192, -0.0045, -0.6948)
    results = lighting(dict(img=np.array([[[10, 100, 200], [0, 255, 255]]], np.uint8)))
    added = 2 * 0.0188 * 255 * np.array([0.7192, -0.0045, -0.6948])[:: 1 if order == 'rgb' else -1]
    expected = (np.array([[10, 100, 200], [0, 255, 255]]) + added) / 2
    np.testing.assert_allclose(results['img'], [expected.clip(0, 255)], atol=1e-4)


def test_lighting_clips():
    image = np.array([[[-50, 300, 100]]], np.float32)
    np.testing.assert_allclose(ScaledLighting(std=0)(dict(img=image))['img'], [[[0, 255, 100 / 1.1]]], rtol=1e-6)


def test_the_picture_that_was_given_is_not_changed():
    image = np.random.default_rng(0).uniform(0, 255, (4, 5, 3)).astype(np.float32)
    before = image.copy()
    ScaledLighting()(UnclippedColorJitter()(dict(img=image)))
    np.testing.assert_array_equal(image, before)


def test_without_these_steps_the_preprocessor_needs_no_other_numbers():
    """Nothing drawn and no division: what mmpretrain makes of the picture as loaded."""
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    same = ScaledLighting(std=0, divisor=1)(UnclippedColorJitter(0, 0, 0)(dict(img=image)))['img']
    pack, preprocessor = TRANSFORMS.build(dict(type='PackInputs')), MODELS.build(PREPROCESSOR)
    ours, plain = (preprocessor(dict(inputs=[pack(dict(img=img))['inputs']]))['inputs'] for img in (same, image))
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-6)


def test_printing_tells_the_arguments():
    assert repr(ScaledLighting()) == "ScaledLighting(std=0.1, divisor=1.1, channel_order='bgr')"
    assert repr(UnclippedColorJitter(0, 1, 0.5)) == (
        "UnclippedColorJitter(brightness=0, contrast=1, saturation=0.5, channel_order='bgr')"
    )


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: UnclippedColorJitter(brightness=1.2), 'brightness=1.2 must be a number from 0 to 1'),
        (lambda: UnclippedColorJitter(saturation=-0.1), 'saturation=-0.1 must be'),
        (lambda: UnclippedColorJitter(contrast=(0.6, 1.4)), r'contrast=\(0.6, 1.4\) must be a number'),
        (lambda: UnclippedColorJitter(channel_order='BGR'), "channel_order='BGR' must be one of 'bgr', 'rgb'"),
        (lambda: ScaledLighting(std=-1), 'std=-1 must be a number of at least 0'),
        (lambda: ScaledLighting(divisor=0), 'divisor=0 must be a number above 0'),
        (lambda: ScaledLighting(channel_order='grey'), "channel_order='grey' must be one of"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize('step', [UnclippedColorJitter(), ScaledLighting()])
@pytest.mark.parametrize('shape', [(4, 5), (4, 5, 1), (4, 5, 4)])
def test_a_picture_without_three_channels(step, shape):
    with pytest.raises(ValueError, match=r'takes pictures \[H, W, 3\], but this one has the shape'):
        step(dict(img=np.zeros(shape, np.uint8)))
