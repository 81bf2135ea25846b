import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.apis import MMSegInferencer, inference_model
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from PIL import Image
from tiny_segmentor import CLASSES, build, settings

MODES = [(steps, flip, pad) for steps in (1, 2, 4) for flip in (False, True) for pad in ('square', 'multiple')]


def by_hand(model, picture, original, steps, flip, pad, stride=8):
    """The published test of one picture [3, H, W] as the facts tell it, by numpy and Pillow around the network."""
    _, height, width = picture.shape
    sides = [-(-side // stride) * stride for side in (height, width)]
    if pad == 'square':
        sides = [max(sides)] * 2
    margin, spacing = stride // 2, stride // steps
    canvas = np.zeros((3, sides[0] + 2 * stride, sides[1] + 2 * stride), np.float32)
    canvas[:, margin : margin + height, margin : margin + width] = picture
    maps = np.zeros((CLASSES, sides[0] // spacing, sides[1] // spacing), np.float32)
    for row in range(steps):
        for column in range(steps):
            y, x = (spacing // 2 + spacing * step for step in (row, column))
            window = canvas[:, y : y + sides[0], x : x + sides[1]]
            found = softmax(network(model, window))
            if flip:
                found = (found + softmax(network(model, window[:, :, ::-1]))[:, :, ::-1]) / 2
            maps[:, row::steps, column::steps] = found
    result = []
    for class_map in maps:
        enlarged = resized(class_map, sides, Image.BICUBIC)[:height, :width]
        if (height, width) != original:
            changes = {np.sign(new - old) for new, old in zip(original, (height, width))}
            rule = {-1: Image.LANCZOS, 1: Image.BICUBIC}.get(changes.pop() if len(changes) == 1 else 0, Image.BILINEAR)
            enlarged = resized(enlarged, original, rule)
        result.append(enlarged)
    return np.stack(result)


def network(model, window):
    with torch.no_grad():
        features = model.backbone(torch.from_numpy(window.copy())[None])
        return model.decode_head(features)[0].numpy()


def softmax(scores):
    powers = np.exp(scores - scores.max(0))
    return powers / powers.sum(0)


def resized(class_map, size, filter):
    return np.array(Image.fromarray(np.ascontiguousarray(class_map)).resize(size[::-1], filter))


def samples(*originals, **metainfo):
    return [SegDataSample(metainfo=dict(ori_shape=original, **metainfo)) for original in originals]


def check(sample, expected):
    found = sample.seg_logits.data
    assert found.dtype == torch.float32
    assert not found.requires_grad
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)
    assert sample.pred_sem_seg.data.shape == (1, *expected.shape[1:])
    assert sample.pred_sem_seg.data.dtype == torch.int64
    assert torch.equal(sample.pred_sem_seg.data[0], found.argmax(0))


@pytest.mark.parametrize(('steps', 'flip', 'pad'), MODES)
def test_against_a_computation_by_hand(steps, flip, pad):
    """Originals of one size, larger, smaller, mixed, and of the same height only, in one batch."""
    model = build(mode='steps', steps=steps, flip=flip, pad=pad)
    pictures = torch.randn(5, 3, 37, 53)
    originals = [(37, 53), (60, 71), (20, 31), (30, 70), (37, 54)]
    found = model.predict(pictures, samples(*originals))
    for sample, picture, original in zip(found, pictures, originals):
        check(sample, by_hand(model, picture.numpy(), original, steps, flip, pad))


def test_the_options_matter():
    """Every mode gives maps of its own, so that the test above compares something."""
    picture = torch.randn(1, 3, 37, 53)
    maps = []
    for steps, flip, pad in MODES:
        model = build(mode='steps', steps=steps, flip=flip, pad=pad)
        maps.append(model.predict(picture)[0].seg_logits.data)
    differences = [(a - b).abs().max() for i, a in enumerate(maps) for b in maps[:i]]
    assert min(differences) > 0.01
    classes = torch.stack([sample.argmax(0) for sample in maps])
    assert len(classes.unique()) == CLASSES


@pytest.mark.parametrize('size', [(8, 8), (40, 24), (1, 9)])
def test_without_samples_the_size_is_the_input(size):
    model = build(mode='steps', steps=2)
    picture = torch.randn(2, 3, *size)
    found = model(picture, mode='predict')
    assert len(found) == 2
    for sample, given in zip(found, picture):
        check(sample, by_hand(model, given.numpy(), size, 2, True, 'square'))


def test_defaults_are_one_step_with_flip_on_a_square():
    picture = torch.randn(1, 3, 37, 53)
    found = build(mode='steps').predict(picture)[0]
    check(found, by_hand(build(mode='steps'), picture[0].numpy(), (37, 53), 1, True, 'square'))


@pytest.mark.parametrize(('direction', 'axes'), [('horizontal', [2]), ('vertical', [1]), ('diagonal', [1, 2])])
def test_what_the_pipeline_mirrored_is_turned_back(direction, axes):
    model = build(mode='steps', steps=2)
    picture = torch.randn(3, 37, 53)
    mirrored = picture.flip(axes)
    found = model.predict(mirrored[None], samples((50, 61), flip=True, flip_direction=direction))[0]
    check(found, np.flip(by_hand(model, mirrored.numpy(), (50, 61), 2, True, 'square'), axes))


def test_what_the_preprocessor_padded_is_cut():
    model = build(mode='steps', flip=False)
    model.data_preprocessor.test_cfg = dict(size=(64, 64))
    picture = torch.randint(0, 256, (3, 37, 53))
    found = model.test_step(dict(inputs=[picture], data_samples=samples((60, 71))))[0]
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    normalised = ((picture[[2, 1, 0]] - mean) / std).numpy()
    whole = np.pad(normalised, ((0, 0), (0, 27), (0, 11)))
    maps = by_hand(model, whole, (64, 64), 1, False, 'square')[:, :37, :53]
    check(found, np.stack([resized(class_map, (60, 71), Image.BICUBIC) for class_map in maps]))


@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), dict(mode='slide', crop_size=(32, 32), stride=(16, 16))])
def test_other_modes_are_those_of_mmseg(test_cfg):
    model = build(**test_cfg)
    model.test_cfg = Config(test_cfg)  # mmseg reads attributes
    picture = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        found = model.predict(picture)[0]
        expected = EncoderDecoder.predict(model, picture)[0]
        assert torch.equal(found.seg_logits.data, expected.seg_logits.data)
    assert found.seg_logits.data.sum(0).std() > 0.1  # scores, not probabilities


def test_under_autocast_probabilities_are_float32():
    model = build(mode='steps', steps=2)
    picture = torch.randn(1, 3, 37, 53)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = model.predict(picture)[0].seg_logits.data
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(0), torch.ones(37, 53))


def test_training_is_that_of_mmseg():
    model = build(mode='steps').train()
    data = samples((40, 56))
    data[0].gt_sem_seg = PixelData(data=torch.randint(0, CLASSES, (1, 40, 56)))
    losses = model.loss(torch.randn(1, 3, 40, 56), data)
    assert set(losses) == {'decode.loss_ce', 'decode.acc_seg'}
    assert losses['decode.loss_ce'].requires_grad


@pytest.fixture
def picture():
    """A picture [40, 60, 3] in mmcv's order: blue, green, red."""
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def config(**test_cfg):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='mmext.ResizeLongerSide', size=53)]
    pipeline += [dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    return Config(
        dict(
            model=settings(**test_cfg),
            test_pipeline=pipeline,
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
            visualizer=dict(type='SegLocalVisualizer', vis_backends=[]),
        )
    )


def expected_for(model, picture, **mode):
    scaled = np.array(Image.fromarray(picture[..., ::-1]).resize((53, 35), Image.LANCZOS))
    normalised = (scaled - np.array([123.675, 116.28, 103.53])) / [58.395, 57.12, 57.375]
    return by_hand(model, normalised.transpose(2, 0, 1).astype(np.float32), (40, 60), **mode)


def test_inference_model(picture):
    test_cfg = dict(mode='steps', steps=2, pad='multiple')
    model = build(**test_cfg)
    model.cfg = config(**test_cfg)
    found = inference_model(model, picture)
    check(found, expected_for(model, picture, steps=2, flip=True, pad='multiple'))


def test_inferencer(picture, tmp_path):
    test_cfg = dict(mode='steps', flip=False)
    model = build(**test_cfg)
    meta = dict(dataset_meta=dict(classes=list('abcd'), palette=[[number] * 3 for number in range(CLASSES)]))
    checkpoint = tmp_path / 'model.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    inferencer = MMSegInferencer(config(**test_cfg), str(checkpoint), device='cpu')
    found = inferencer(picture)['predictions']
    np.testing.assert_array_equal(found, expected_for(model, picture, steps=1, flip=False, pad='square').argmax(0))


@pytest.mark.parametrize(
    ('test_cfg', 'message'),
    [
        (dict(steps=3), 'steps=3: it must divide stride=8'),
        (dict(steps=0), 'steps=0: it must be a whole number of at least 1'),
        (dict(stride=8.0), 'stride=8.0: it must be a whole number'),
        (dict(pad='longer'), "pad='longer': it must be one of 'square', 'multiple'"),
        (dict(flip='horizontal'), "flip='horizontal': it must be True or False"),
        (dict(step=2), 'has step, but knows mode, steps, stride, flip, pad only'),
        (dict(crop_size=(8, 8)), 'has crop_size, but .* needs _delete_=True in test_cfg'),
    ],
)
def test_refusals(test_cfg, message):
    with pytest.raises(ValueError, match=message):
        build(mode='steps', **test_cfg)


def test_a_wrong_stride_is_refused():
    message = r'stride=16, for which an input of \(64, 64\) pixels gives scores of \(4, 4\) cells, but .* \(8, 8\)'
    with pytest.raises(ValueError, match=message):
        build(mode='steps', stride=16).predict(torch.randn(1, 3, 37, 53))
