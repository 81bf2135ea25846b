import numpy as np
import pytest
import torch
from mmpose.models.losses import AssociativeEmbeddingLoss as MMPoseLoss

from mmext.pose import AssociativeEmbeddingLoss


def pictures(persons, tag_dim=1, seed=0):
    """Tag maps [B, L * 4, 5, 6] and indices of as many persons as told per picture, a third of it unlabelled."""
    rng = np.random.default_rng(seed)
    tags = torch.from_numpy(rng.normal(size=(len(persons), tag_dim * 4, 5, 6)))
    indices = [np.stack([rng.integers(0, 30, (n, 4)), rng.random((n, 4)) > 1 / 3], -1) for n in persons]
    return tags.float(), [torch.from_numpy(index.astype(np.int64)) for index in indices]


def by_hand(tags, indices):
    """Pull and push of one picture, joint by joint: tags [L * 4, 5, 6], indices [N, 4, 2]."""
    maps = tags.double().reshape(-1, 4, 30).numpy()
    persons = [[maps[:, joint, cell] for joint, (cell, used) in enumerate(person) if used] for person in indices]
    persons = [np.array(person) for person in persons if person]
    if not persons:
        return 0, 0
    pull = np.mean([((person - person.mean(0)) ** 2).mean() for person in persons])
    means = [person.mean(0) for person in persons]
    pairs = [np.exp(-((a - b) ** 2)).sum() for i, a in enumerate(means) for j, b in enumerate(means) if i != j]
    return pull, np.mean(pairs) if pairs else 0


@pytest.mark.parametrize('tag_dim', [1, 2])
@pytest.mark.parametrize('persons', [(3,), (0,), (1,), (5, 0, 2, 1)])
def test_against_the_formula(persons, tag_dim):
    tags, indices = pictures(persons, tag_dim)
    pull, push = AssociativeEmbeddingLoss(loss_weight=2.0, push_loss_factor=0.25)(tags, indices)
    expected = np.mean([by_hand(maps, index) for maps, index in zip(tags, indices)], 0)
    assert pull.item() == pytest.approx(2 * expected[0], rel=1e-5)
    assert push.item() == pytest.approx(0.5 * expected[1], rel=1e-5)


def test_gradient_is_that_of_mmpose_over_the_batch_size():
    tags, indices = pictures((4, 2, 0, 1, 6), seed=1)
    grads = []
    for loss in (AssociativeEmbeddingLoss(0.001), MMPoseLoss(0.001)):
        leaf = tags.clone().requires_grad_()
        sum(loss(leaf, indices)).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[0], grads[1] / 5)
    assert grads[0].abs().sum() > 0


def test_the_batch_size_plays_no_part():
    tags, indices = pictures((4, 2, 0))
    loss = AssociativeEmbeddingLoss()
    torch.testing.assert_close(loss(tags.repeat(4, 1, 1, 1), indices * 4), loss(tags, indices))


def test_unlabelled_joints_may_lie_outside():
    tags, (index,) = pictures((2,))
    outside = index.clone()
    outside[index[..., 1] == 0] = torch.tensor([-7, 0])
    assert (outside != index).any()
    torch.testing.assert_close(AssociativeEmbeddingLoss()(tags, [outside]), AssociativeEmbeddingLoss()(tags, [index]))


def test_no_persons_give_a_zero_gradient():
    tags, indices = pictures((0, 0))
    tags.requires_grad_()
    sum(AssociativeEmbeddingLoss()(tags, indices)).backward()
    assert tags.grad.abs().max() == 0


def test_separated_persons_have_no_loss():
    tags = torch.zeros(1, 4, 5, 6)
    tags[..., 3:] = 20
    index = torch.tensor([[[0, 1]] * 4, [[5, 1]] * 4])
    assert AssociativeEmbeddingLoss()(tags, [index]) == (0, 0)


def test_half_precision_tags_are_computed_in_float32():
    tags, indices = pictures((3, 2))
    half = tags.bfloat16()
    torch.testing.assert_close(
        AssociativeEmbeddingLoss()(half, indices), AssociativeEmbeddingLoss()(half.float(), indices)
    )


def test_numbers_of_pictures_must_agree():
    tags, indices = pictures((1, 1))
    with pytest.raises(ValueError, match='tags of 2 pictures, but keypoint_indices of 1'):
        AssociativeEmbeddingLoss()(tags, indices[:1])
