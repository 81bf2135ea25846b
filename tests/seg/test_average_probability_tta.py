import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmseg.registry import MODELS
from PIL import Image
from tiny_segmentor import build, settings

from mmext.seg import AverageProbabilityTTA

SIZES = (40, 53, 64)


@pytest.fixture
def saved(tmp_path):
    """Save a picture and labels of some size; returns what a data set gives, their paths."""

    def save(number=0, size=(40, 60)):
        rng = np.random.default_rng(number)
        paths = [str(tmp_path / f'{kind}{number}.png') for kind in ('picture', 'labels')]
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(paths[0])
        Image.fromarray(rng.integers(0, 4, size, dtype=np.uint8)).save(paths[1])
        return dict(img_path=paths[0], seg_map_path=paths[1], seg_fields=[], reduce_zero_label=False)

    return save


def pipeline(sizes, flips):
    """Load, then every combination of the sizes and of mirrored or not."""
    mirrors = [dict(type='RandomFlip', prob=1.0 if flip else 0.0, direction='horizontal') for flip in flips]
    sizes = [dict(type='mmext.ResizeLongerSide', size=size) for size in sizes]
    variants = [sizes, mirrors, [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]]
    return Compose([dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=variants)])


@pytest.mark.parametrize('flips', [[False], [False, True]])
def test_mean_of_probabilities(saved, flips):
    segmentor = build(mode='steps', flip=False)
    data = pipeline(SIZES, flips)(saved())
    (merged,) = AverageProbabilityTTA(segmentor).test_step(pseudo_collate([data]))

    singles = []
    for size in SIZES:
        for flip in flips:
            (found,) = segmentor.test_step(pipeline([size], [flip])(saved()))
            singles.append(found.seg_logits.data)
    expected = torch.stack(singles).mean(0)
    assert expected.shape == (4, 40, 60)
    torch.testing.assert_close(merged.seg_logits.data, expected)
    assert torch.equal(merged.pred_sem_seg.data, expected.argmax(0, keepdim=True))
    assert all((merged.pred_sem_seg.data[0] != single.argmax(0)).any() for single in singles)
    assert merged.gt_sem_seg.data.shape == (1, 40, 60)
    assert merged.img_path == saved()['img_path']


def test_a_mirrored_variant_is_the_test_with_flip(saved):
    """A picture without padding: mirroring in the pipeline equals that of the segmentor."""
    sample = saved(size=(48, 48))
    data = pipeline([64], [False, True])(dict(sample))
    (merged,) = AverageProbabilityTTA(build(mode='steps', flip=False)).test_step(pseudo_collate([data]))
    (flipped,) = build(mode='steps', flip=True).test_step(pipeline([64], [False])(dict(sample)))
    torch.testing.assert_close(merged.seg_logits.data, flipped.seg_logits.data, rtol=0, atol=1e-5)


def test_pictures_of_a_batch_are_merged_each_with_its_own(saved):
    model, steps = AverageProbabilityTTA(build(mode='steps')), pipeline(SIZES, [False])
    merged = model.test_step(pseudo_collate([steps(saved(number)) for number in (0, 1)]))
    for number, found in enumerate(merged):
        (alone,) = model.test_step(pseudo_collate([steps(saved(number))]))
        torch.testing.assert_close(found.seg_logits.data, alone.seg_logits.data)
        assert found.img_path.endswith(f'picture{number}.png')


def test_built_from_a_config():
    model = MODELS.build(dict(type='mmext.AverageProbabilityTTA', module=settings(mode='steps')))
    assert type(model.module).__name__ == 'SteppedEncoderDecoder'


def test_a_segmentor_that_gives_scores_is_refused():
    with pytest.raises(ValueError, match=r"test mode 'whole', which gives scores, .* use type='SegTTAModel'"):
        MODELS.build(dict(type='mmext.AverageProbabilityTTA', module=settings(mode='whole')))
