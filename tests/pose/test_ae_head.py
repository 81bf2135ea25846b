import numpy as np
import pose_samples
import pytest
import torch
from mmpose.models.heads import AssociativeEmbeddingHead as MMPoseHead

from mmext.pose import AssociativeEmbeddingHead

# three persons with a nose and two eyes, in pixels of an input of 128 x 96; the middle of cells of 4 pixels
PERSONS = [[[22, 22], [26, 18], [18, 18]], [[70, 50], [74, 46], [66, 46]], [[102, 78], [106, 74], [98, 74]]]


def by_order(keypoints):
    """The persons [N, 3, 2] from left to right."""
    return sorted(np.asarray(keypoints).tolist())


@pytest.mark.parametrize('persons', [[0], [1], [3], [0, 1, 3], [2, 0]])
def test_loss_against_the_formula(persons):
    head = pose_samples.head(tag_loss=dict(type='mmext.AssociativeEmbeddingLoss', loss_weight=0.5))
    mask = np.ones((24, 32), bool)
    mask[:, 20:] = False
    samples = [pose_samples.training_sample(PERSONS[:number], mask=mask) for number in persons]
    outputs = torch.randn(len(persons), 6, 24, 32, requires_grad=True)
    losses = head.loss((outputs,), samples)

    squares = []
    for output, sample in zip(outputs.detach().numpy(), samples):
        squares.append((output[:3] - sample.gt_fields.heatmaps.numpy()) ** 2 * mask)
    assert losses['loss_kpt'].item() == pytest.approx(np.mean(squares), rel=1e-5)
    indices = [sample.gt_instance_labels.keypoint_indices for sample in samples]
    pull, push = head.loss_module.tag_loss(outputs[:, 3:], indices)
    assert (losses['loss_pull'], losses['loss_push']) == (pull, push)
    assert (pull > 0) == any(persons)
    assert (push > 0) == (max(persons) > 1)

    sum(losses.values()).backward()
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad[:, :3, :, 20:].abs().max() == 0  # masked
    assert outputs.grad[:, :3, :, :20].abs().min() > 0


def test_training_step_lowers_the_loss():
    head = AssociativeEmbeddingHead(8, 3, deconv_out_channels=(16,), deconv_kernel_sizes=(4,))
    head.init_weights()
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    samples = [pose_samples.training_sample(PERSONS[:number]) for number in (0, 1, 3)]
    feats = (torch.randn(3, 8, 12, 16),)
    totals = []
    for _ in range(15):
        total = sum(head.loss(feats, samples).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.5 * totals[0]


def test_one_tag_for_all_keypoints():
    """Its maps stand for those of every keypoint, in training and testing."""
    head = AssociativeEmbeddingHead(
        5, 3, tag_dim=2, tag_per_keypoint=False, deconv_out_channels=None, final_layer=None,
        decoder=dict(type='mmext.AssociativeEmbedding', input_size=(128, 96), heatmap_size=(128, 96),
                     **pose_samples.CODEC))  # fmt: skip
    (outputs,) = pose_samples.features(PERSONS)
    one = torch.cat([outputs[:, :3], outputs[:, 3:].sum(1, keepdim=True), torch.zeros(1, 1, 24, 32)], 1)
    every = torch.cat([one[:, 3:4].expand(-1, 3, -1, -1), one[:, 4:5].expand(-1, 3, -1, -1)], 1)
    losses = head.loss((one,), [pose_samples.training_sample(PERSONS)])
    indices = [pose_samples.training_sample(PERSONS).gt_instance_labels.keypoint_indices]
    assert (losses['loss_pull'], losses['loss_push']) == head.loss_module.tag_loss(every, indices)

    tests = dict(flip_test=True, restore_heatmap_size=True)
    (found,) = head.predict([(one,), (one.flip(-1),)], [pose_samples.input_sample()], tests)
    assert len(found.keypoints) == 3


@pytest.mark.parametrize(
    ('part', 'name', 'step'),
    [
        ('gt_fields', 'heatmaps', 'GenerateTarget'),
        ('gt_fields', 'heatmap_mask', 'mmext.BottomupGetHeatmapMask'),
        ('gt_instance_labels', 'keypoint_indices', 'mmext.AssociativeEmbedding'),
    ],
)
def test_a_missing_label_names_the_step_that_makes_it(part, name, step):
    sample = pose_samples.training_sample(PERSONS)
    delattr(getattr(sample, part), name)
    with pytest.raises(ValueError, match=rf'{part}\.{name} is missing: the training pipeline needs .*{step}'):
        pose_samples.head().loss((torch.randn(1, 6, 24, 32),), [sample])


@pytest.mark.parametrize('restore', [True, False])
def test_one_scale_with_flip_is_as_in_mmpose(restore):
    feats = [(torch.rand(2, 6, 24, 32),), (torch.rand(2, 6, 24, 32),)]
    test_cfg = dict(flip_test=True, restore_heatmap_size=restore, output_heatmaps=True)
    stride = 1 if restore else 4
    results = []
    for cls in (AssociativeEmbeddingHead, MMPoseHead):
        head = pose_samples.head(cls, stride=stride)
        results.append(head.predict(feats, [pose_samples.input_sample()] * 2, test_cfg))
    for ours, theirs in zip(results[0][0], results[1][0]):
        assert len(ours.keypoints) > 3
        for name in ('keypoints', 'keypoint_scores', 'bbox_scores'):
            np.testing.assert_array_equal(ours[name], theirs[name])
    for ours, theirs in zip(results[0][1], results[1][1]):
        assert torch.equal(ours.heatmaps, theirs.heatmaps)
        assert torch.equal(ours.tags, theirs.tags)


@pytest.mark.parametrize('restore', [True, False])
@pytest.mark.parametrize('flip', [True, False])
@pytest.mark.parametrize('scales', [(1,), (1, 2, 0.5)])
def test_coordinates_are_those_of_the_input(scales, flip, restore):
    feats = []
    for scale in scales:
        size = int(128 * scale), int(96 * scale)
        views = [pose_samples.features(PERSONS, size)]
        if flip:
            views.append(pose_samples.features(PERSONS, size, mirrored=True))
        feats.append(views if flip else views[0])
    multiscale = len(scales) > 1
    test_cfg = dict(flip_test=flip, multiscale_test=multiscale, restore_heatmap_size=restore)
    head = pose_samples.head(stride=1 if restore else 4)
    (found,) = head.predict(feats if multiscale else feats[0], [pose_samples.input_sample()], test_cfg)
    # within a half of what a cell of the smallest scale covers
    np.testing.assert_allclose(by_order(found.keypoints), by_order(PERSONS), atol=2 if min(scales) == 1 else 4)
    assert found.keypoint_scores.shape == (3, 3)
    assert found.bbox_scores.shape == (3,)


def test_tags_are_those_of_the_first_scale():
    """Further scales, whose tags would join two persons, change the heatmaps alone."""
    first, second = pose_samples.features(PERSONS[:2]), pose_samples.features(PERSONS[:2], (256, 192))
    second[0][:, 3:] = 0
    test_cfg = dict(multiscale_test=True, restore_heatmap_size=True, output_heatmaps=True)
    (found,), (fields,) = pose_samples.head().predict([first, second], [pose_samples.input_sample()], test_cfg)
    assert len(found.keypoints) == 2
    assert fields.heatmaps.shape == fields.tags.shape == (3, 96, 128)

    small, large = (
        torch.nn.functional.interpolate(x[0][:, :3], size=(96, 128), mode='bilinear') for x in (first, second)
    )
    torch.testing.assert_close(fields.heatmaps, (small + large)[0] / 2)


def test_bfloat16_features_are_decoded():
    feats = (pose_samples.features(PERSONS)[0].bfloat16(),)
    (found,) = pose_samples.head().predict(feats, [pose_samples.input_sample()], dict(restore_heatmap_size=True))
    assert len(found.keypoints) == 3


def test_no_person():
    feats = (torch.zeros(1, 6, 24, 32),)
    (found,) = pose_samples.head().predict(feats, [pose_samples.input_sample()], dict(restore_heatmap_size=True))
    assert found.keypoints.shape == (0, 3, 2)


def test_scales_that_show_different_parts_are_refused():
    feats = [pose_samples.features(PERSONS), pose_samples.features(PERSONS, (256, 160))]
    test_cfg = dict(multiscale_test=True, restore_heatmap_size=True)
    with pytest.raises(ValueError, match=r'\(40, 64\) cells are no enlargement .* \(24, 32\).*mmext.BottomupResize'):
        pose_samples.head().predict(feats, [pose_samples.input_sample()], test_cfg)


@pytest.mark.parametrize(('restore', 'stride', 'size'), [(True, 4, '384 x 512'), (False, 1, '24 x 32')])
def test_a_decoder_of_another_size_is_refused(restore, stride, size):
    test_cfg = dict(restore_heatmap_size=restore)
    with pytest.raises(ValueError, match=f'an input of {size} pixels .* which is 96 x 128; set decoder='):
        pose_samples.head(stride=stride).predict(
            pose_samples.features(PERSONS), [pose_samples.input_sample()], test_cfg
        )


def test_pictures_of_different_size_are_refused():
    samples = [pose_samples.input_sample(), pose_samples.input_sample((96, 96))]
    with pytest.raises(ValueError, match=r'\[\(96, 96\), \(96, 128\)\].*batch_size=1'):
        pose_samples.head().predict((torch.zeros(2, 6, 24, 32),), samples, dict(restore_heatmap_size=True))
