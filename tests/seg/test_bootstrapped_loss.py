import json

import numpy as np
import pytest
import torch
from golden import FOLDER
from mmseg.registry import MODELS

GOLDEN = FOLDER / 'wider_resnet'
CASES = json.loads((GOLDEN / 'ohem.json').read_text())['cases']
HARD = [name for name in CASES if name.startswith('ohem')]


def arrays(name):
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(GOLDEN / f'{name}.npz').items()}


def build(**kwargs):
    return MODELS.build(dict(type='mmext.BootstrappedCrossEntropyLoss', **kwargs))


def loss_and_gradient(loss, scores, label, **kwargs):
    scores = scores.clone().requires_grad_()
    value = loss(scores, label, ignore_index=255, **kwargs)
    value.backward()
    return value, scores.grad


def test_all_cases_are_here():
    assert len(HARD) == 7


@pytest.mark.parametrize('name', HARD)
def test_against_the_reference(name):
    golden = arrays(name)
    margin = golden['margin'].item()
    loss = build(thresh=0.6, min_kept=golden['min_kept'].item(), margin=margin if margin > 0 else None)
    value, gradient = loss_and_gradient(loss, golden['scores'], golden['label'])
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(golden['loss'].item(), rel=1e-6)
    torch.testing.assert_close(gradient, golden['grad'], rtol=1e-5, atol=1e-8)
    assert torch.equal(gradient.abs().sum(1) > 0, golden['kept'])
    assert golden['kept'].sum() == CASES[name]['num_kept']


def test_the_loss_without_bootstrapping_is_that_of_mmseg():
    """What the published training without bootstrapping minimises: the mean over the valid pixels."""
    golden = arrays('softmax_valid')
    loss = MODELS.build(dict(type='CrossEntropyLoss', avg_non_ignore=True))
    _, gradient = loss_and_gradient(loss, golden['scores'], golden['label'])
    torch.testing.assert_close(gradient, golden['grad'], rtol=1e-5, atol=1e-8)


def test_more_kept_than_there_are_is_the_plain_loss():
    golden = arrays('softmax_valid')
    value, gradient = loss_and_gradient(build(min_kept=10**6), golden['scores'], golden['label'])
    plain = MODELS.build(dict(type='CrossEntropyLoss', avg_non_ignore=True))
    expected, expected_gradient = loss_and_gradient(plain, golden['scores'], golden['label'])
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_pixels_are_counted_over_the_whole_batch():
    golden = arrays('ohem_kth_k16')
    _, gradient = loss_and_gradient(build(min_kept=16), golden['scores'], golden['label'])
    kept = (gradient.abs().sum(1) > 0).flatten(1).sum(1)
    assert kept.sum() == 16
    assert kept.min() > 0
    assert kept.max() < 16


def test_ties_are_kept():
    """Ten pixels of one probability: the third smallest is also that of all others."""
    scores = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1).repeat(1, 1, 2, 5)
    label = torch.ones(1, 2, 5, dtype=torch.int64)
    _, gradient = loss_and_gradient(build(thresh=0.1, min_kept=3), scores, label)
    assert (gradient.abs().sum(1) > 0).sum() == 10


def test_the_threshold_is_inclusive():
    scores = torch.zeros(1, 2, 1, 3)  # probability 0.5
    label = torch.ones(1, 1, 3, dtype=torch.int64)
    assert build(thresh=0.5, min_kept=0)(scores, label).item() == pytest.approx(np.log(2))
    assert build(thresh=0.4999, min_kept=0)(scores, label).item() == 0


def test_without_valid_pixels_there_is_a_graph_of_zeros():
    value, gradient = loss_and_gradient(build(), torch.randn(1, 5, 4, 4), torch.full((1, 4, 4), 255))
    assert value.item() == 0
    assert gradient.abs().max() == 0


def test_infinite_scores_of_easy_pixels_do_not_spoil_it():
    scores = torch.zeros(1, 3, 1, 2)
    scores[0, 0, 0, 1] = -float('inf')
    value, gradient = loss_and_gradient(build(min_kept=1, thresh=0.4), scores, torch.tensor([[[0, 1]]]))
    assert value.item() == pytest.approx(np.log(3))
    assert gradient.isfinite().all()


def test_a_network_that_diverged_is_seen():
    scores = torch.full((1, 3, 4, 4), float('nan'))
    assert build()(scores, torch.zeros(1, 4, 4, dtype=torch.int64)).isnan()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    golden = arrays('ohem_margin_k16')
    loss = build(min_kept=16, margin=0.1)
    half = golden['scores'].to(dtype)
    expected, expected_gradient = loss_and_gradient(loss, half.float(), golden['label'])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value, gradient = loss_and_gradient(loss, half, golden['label'])
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient.to(dtype))


def test_weight_and_name():
    golden = arrays('ohem_thresh_k16')
    loss = build(min_kept=16, loss_weight=0.4, loss_name='loss_hard')
    assert loss(golden['scores'], golden['label']).item() == pytest.approx(0.4 * golden['loss'].item())
    assert loss.loss_name == 'loss_hard'
    assert build().loss_name == 'loss_bootstrapped'
    assert 'min_kept=16' in repr(loss)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(thresh=1.5), 'thresh=1.5 is a probability: it must lie from 0 to 1'),
        (dict(min_kept=-1), 'min_kept=-1 is a number of pixels'),
        (dict(min_kept=0.5), 'min_kept=0.5 is a number of pixels'),
        (dict(margin=-1), 'margin=-1 must be above 0 and at most 1, or None'),
    ],
)
def test_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_refuses_the_weights_of_a_sampler():
    with pytest.raises(ValueError, match='remove sampler'):
        build()(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1).long(), weight=torch.ones(1, 1, 1))
