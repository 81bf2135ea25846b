import numpy as np
import pose_samples
import pytest
import torch
import torch.nn.functional as F
from mmpose.codecs import AssociativeEmbedding as MMPoseCodec
from mmpose.registry import KEYPOINT_CODECS, TRANSFORMS

from mmext.pose import AssociativeEmbedding


def test_found_by_name_and_a_typing_error_names_the_close_match():
    assert KEYPOINT_CODECS.get('mmext.AssociativeEmbedding') is AssociativeEmbedding
    with pytest.raises(KeyError, match="did you mean 'AssociativeEmbedding'"):
        KEYPOINT_CODECS.get('mmext.AssociativeEmbeding')


def test_a_keypoint_belongs_to_the_cell_it_lies_in():
    codec = pose_samples.codec()  # cells of 4 pixels, 32 x 24 of them
    keypoints = np.array([[[0, 0], [3.9, 4], [127.9, 95.9]], [[128, 10], [10, 96], [-4.1, 10]]], np.float32)
    encoded = codec.encode(keypoints, np.array([[1, 1, 1], [1, 1, 1]], np.float32))
    cells, used = encoded['keypoint_indices'][..., 0], encoded['keypoint_indices'][..., 1]
    assert cells[0].tolist() == [0, 32, 23 * 32 + 31]
    assert used.tolist() == [[1, 1, 1], [0, 0, 0]]
    peaks = [np.unravel_index(heatmap.argmax(), heatmap.shape) for heatmap in encoded['heatmaps']]
    assert peaks == [(0, 0), (1, 0), (23, 31)]


def test_unlabelled_keypoints_are_not_used():
    encoded = pose_samples.codec().encode(np.full((1, 3, 2), 20, np.float32), np.array([[1, 0, 1]], np.float32))
    assert encoded['keypoint_indices'][0, :, 1].tolist() == [1, 0, 1]
    assert encoded['heatmaps'].max((1, 2)).tolist() == [1, 0, 1]


def mean_error(codec_class):
    """Mean of decoded minus true position (x, y) over many keypoints of a perfect network, in pixels."""
    options = dict(pose_samples.CODEC, decode_keypoint_order=list(range(50)), decode_topk=1)
    encoder = codec_class((256, 256), (64, 64), **options)
    decoder = codec_class((256, 256), (256, 256), **options)
    keypoints = np.random.default_rng(0).uniform(20, 230, (20, 50, 2)).astype(np.float32)
    errors = []
    for person in keypoints:
        heatmaps = torch.from_numpy(encoder.encode(person[None])['heatmaps'])[None]
        heatmaps = F.interpolate(heatmaps, size=(256, 256), mode='bilinear')
        found, *_ = decoder.batch_decode(heatmaps, torch.zeros_like(heatmaps))
        errors.append(found[0][0] - person)
    return np.concatenate(errors).mean(0)


def test_what_is_encoded_is_decoded_without_bias():
    assert np.abs(mean_error(AssociativeEmbedding)).max() < 0.35
    assert mean_error(MMPoseCodec).min() > 1.6  # what is cured: half a cell of 4 pixels


def test_udp_is_as_in_mmpose():
    options = dict(input_size=(128, 96), heatmap_size=(32, 24), sigma=2, use_udp=True)
    keypoints = np.random.default_rng(0).uniform(0, 90, (2, 3, 2)).astype(np.float32)
    ours, theirs = AssociativeEmbedding(**options).encode(keypoints), MMPoseCodec(**options).encode(keypoints)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value)


@pytest.mark.parametrize('persons', [0, 1, 3])
def test_indices_reach_the_sample(persons):
    """GenerateTarget and PackPoseInputs, as a training pipeline runs them."""
    results = dict(
        img=np.zeros((96, 128, 3), np.uint8),
        keypoints=np.full((persons, 3, 2), 40, np.float32),
        keypoints_visible=np.ones((persons, 3), np.float32),
    )
    encoder = dict(type='mmext.AssociativeEmbedding', input_size=(128, 96), heatmap_size=(32, 24), sigma=2)
    for step in (dict(type='GenerateTarget', encoder=encoder), dict(type='mmext.PackPoseInputs')):
        results = TRANSFORMS.build(step)(results)
    labels = results['data_samples'].gt_instance_labels
    assert labels.keypoint_indices.tolist() == [[[10 * 32 + 10, 1]] * 3] * persons
    assert labels.keypoint_weights.shape == (persons, 3)
