"""A picture in several scales: from the resize step through packing, loader and preprocessor to the network."""

import cv2
import numpy as np
import pose_samples  # noqa: F401
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmpose.registry import MODELS, TRANSFORMS

SCALES = [2, 0.5]


def resized(shape, resize_mode='expand', aug_scales=SCALES, **kwargs):
    """A picture that is black but for one white disc off its middle, through the resize step."""
    picture = np.zeros((*shape, 3), np.uint8)
    centre = (shape[1] * 9 // 10, shape[0] // 5)
    cv2.circle(picture, centre, min(shape) // 12, (255, 255, 255), -1)
    step = dict(type='mmext.BottomupResize', input_size=(128, 128), aug_scales=aug_scales, size_factor=64)
    step.update(kwargs, resize_mode=resize_mode)
    return TRANSFORMS.build(step)(dict(img=picture, ori_shape=shape, img_shape=shape, img_path=None))


def disc(picture):
    """Middle (x, y) of what is white, as a part of the picture's width and height."""
    weights = picture[..., 0].astype(float)
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(weights * (x + 0.5)).sum(), (weights * (y + 0.5)).sum()]) / weights.sum() / weights.shape[1::-1]


@pytest.mark.parametrize('resize_mode', ['expand', 'fit'])
@pytest.mark.parametrize('shape', [(300, 400), (400, 300), (211, 307), (128, 128)])
def test_all_scales_show_the_same_part(shape, resize_mode):
    results = resized(shape, resize_mode)
    first, *others = results['img']
    assert first.shape[:2] == results['img_shape'] == results['input_size'][::-1]
    assert [other.shape[:2] for other in others] == [
        tuple(int(side * scale) for side in first.shape[:2]) for scale in SCALES
    ]
    for other in others:
        # half a pixel of the smallest scale: OpenCV's transforms turn about the corner, not the middle, of a pixel
        np.testing.assert_allclose(disc(other), disc(first), atol=0.5 / min(others[-1].shape[:2]))


def test_the_first_scale_is_as_in_mmpose():
    ours, theirs = resized((300, 400)), resized((300, 400), type='BottomupResize')
    for name in ('img_shape', 'input_size'):
        assert ours[name] == theirs[name]
    for name in ('input_center', 'input_scale'):
        np.testing.assert_array_equal(ours[name], theirs[name])
    np.testing.assert_array_equal(ours['img'][0], theirs['img'][0])
    # what is cured: a scale with margins of its own
    assert [picture.shape[:2] for picture in ours['img']] == [(128, 192), (256, 384), (64, 96)]
    assert [picture.shape[:2] for picture in theirs['img']] == [(128, 192), (256, 384), (64, 128)]
    assert np.abs(disc(theirs['img'][2]) - disc(theirs['img'][0])).max() > 0.05


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(aug_scales=[0.3]), r'aug_scales has 0.3: .* size_factor=64 times it a whole number'),
        (dict(aug_scales=[2, -1]), 'aug_scales has -1: it must be above 0'),
        (dict(input_size=(100, 128)), r'input_size=\(100, 128\) must be multiples of size_factor=64'),
    ],
)
def test_resize_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        resized((96, 128), **kwargs)


def packed(aug_scales=SCALES):
    results = resized((96, 128), aug_scales=aug_scales)
    return TRANSFORMS.build(dict(type='mmext.PackPoseInputs'))(dict(results, id=1, flip_indices=[0]))


def test_packing():
    results = packed()
    assert [tuple(picture.shape) for picture in results['inputs']] == [(3, 128, 192), (3, 256, 384), (3, 64, 96)]
    assert results['data_samples'].metainfo['aug_scales'] == SCALES
    one = packed(aug_scales=None)
    assert one['inputs'].shape == (3, 128, 192)
    assert torch.equal(one['inputs'], results['inputs'][0])


def preprocessor():
    return MODELS.build(dict(type='mmext.PoseDataPreprocessor', mean=[10, 20, 30], std=[1, 2, 4], bgr_to_rgb=True))


def test_preprocessing():
    samples = [packed(), packed()]
    samples[1]['inputs'] = [255 - picture for picture in samples[1]['inputs']]
    data = preprocessor()(pseudo_collate(samples))
    assert isinstance(data['inputs'], tuple)
    for number, batch in enumerate(data['inputs']):
        expected = torch.stack([sample['inputs'][number].flip(0).float() for sample in samples])
        expected = (expected - torch.tensor([10, 20, 30]).view(3, 1, 1)) / torch.tensor([1, 2, 4]).view(3, 1, 1)
        torch.testing.assert_close(batch, expected)
    assert [sample.metainfo['batch_input_shape'] for sample in data['data_samples']] == [(128, 192)] * 2


def test_preprocessing_of_one_scale_is_as_in_mmpose():
    data = pseudo_collate([packed(aug_scales=None)] * 2)
    theirs = MODELS.build(dict(type='PoseDataPreprocessor', mean=[10, 20, 30], std=[1, 2, 4], bgr_to_rgb=True))
    assert torch.equal(preprocessor()(data)['inputs'], theirs(data)['inputs'])


def estimator(**test_cfg):
    codec = dict(type='mmext.AssociativeEmbedding', input_size=(128, 128), sigma=2)
    codec.update(decode_keypoint_order=[0], decode_center_shift=0.5)
    return MODELS.build(
        dict(
            type='mmext.BottomupPoseEstimator',
            data_preprocessor=dict(type='mmext.PoseDataPreprocessor'),
            backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
            head=dict(
                type='mmext.AssociativeEmbeddingHead',
                in_channels=64,
                num_keypoints=1,
                deconv_out_channels=(8, 8, 8),
                decoder=dict(codec, heatmap_size=(128, 128)),
            ),
            test_cfg=dict(restore_heatmap_size=True, output_heatmaps=True, **test_cfg),
        )
    ).eval()


def outputs(model, picture, flip):
    """Heatmap and tags of a picture, and of its mirror image turned back, at the size of the first scale."""
    picture = picture[None].float()
    maps = torch.cat(model(picture, None), 1)
    if flip:
        maps = torch.cat([maps, torch.cat(model(picture.flip(-1), None), 1).flip(-1)])
    return torch.nn.functional.interpolate(maps, (128, 192), mode='bilinear')


@pytest.mark.parametrize('flip', [True, False])
def test_network_in_several_scales(flip):
    """Heatmaps are the mean over the scales, tags those of the first; compared with the network called directly."""
    model = estimator(multiscale_test=True, flip_test=flip)
    data = pseudo_collate([packed(), packed()])
    with torch.no_grad():
        found = model.test_step(data)
        scales = [outputs(model, picture, flip) for picture in packed()['inputs']]
    assert len(found) == 2
    for sample in found:
        torch.testing.assert_close(sample.pred_fields.heatmaps, sum(maps[:, 0].mean(0) for maps in scales)[None] / 3)
        torch.testing.assert_close(sample.pred_fields.tags, scales[0][:, 1])


class Brightness(torch.nn.Module):
    """In place of backbone and head layers: heatmaps are the brightness of 4 x 4 pixels, tags are 0."""

    def forward(self, x):
        heatmaps = torch.nn.functional.avg_pool2d(x.mean(1, keepdim=True) / 255, 4)
        return (torch.cat([heatmaps, torch.zeros_like(heatmaps)], 1),)


@pytest.mark.parametrize('flip', [True, False])
@pytest.mark.parametrize('aug_scales', [None, SCALES])
@pytest.mark.parametrize('shape', [(300, 400), (400, 300), (211, 307)])
def test_coordinates_are_those_of_the_original_picture(shape, aug_scales, flip):
    model = estimator(multiscale_test=bool(aug_scales), flip_test=flip)
    model.backbone, model.head.deconv_layers, model.head.final_layer = Brightness(), *[torch.nn.Identity()] * 2
    y, x = np.mgrid[: shape[0], : shape[1]]
    place = np.array([shape[1] * 0.87, shape[0] * 0.2])
    blob = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 12**2))
    results = dict(img=(255 * blob[..., None] * [1, 1, 1]).astype(np.uint8), ori_shape=shape, img_shape=shape)
    for step in (
        dict(type='mmext.BottomupResize', input_size=(128, 128), aug_scales=aug_scales, size_factor=64,
             resize_mode='expand'),
        dict(type='mmext.PackPoseInputs'),
    ):  # fmt: skip
        results = TRANSFORMS.build(step)(dict(results, flip_indices=[0]))
    with torch.no_grad():
        (found,) = model.test_step(pseudo_collate([results]))
    assert found.pred_instances.keypoints.shape == (1, 1, 2)
    # within one and a half pixels of the network input: half a pixel is what the decoder adds
    np.testing.assert_allclose(found.pred_instances.keypoints[0, 0], place, atol=1.5 * min(shape) / 128)


@pytest.mark.parametrize(
    ('multiscale', 'aug_scales', 'message'),
    [
        (True, None, r'multiscale_test is True, but the pipeline made 1 scale\(s\)'),
        (False, SCALES, r'multiscale_test is False, but the pipeline made 3 scale\(s\)'),
    ],
)
def test_pipeline_and_model_must_agree(multiscale, aug_scales, message):
    with pytest.raises(ValueError, match=message):
        estimator(multiscale_test=multiscale).test_step(pseudo_collate([packed(aug_scales)]))


def test_crowds_are_masked():
    crowd = dict(size=[6, 5], counts=[7, 4, 2, 4, 13])  # by columns: two of four pixels
    person = [[0, 0, 2, 0, 2, 2, 0, 2]]
    results = dict(img_shape=(6, 5), input_size=(5, 6), invalid_segs=[crowd, person])
    mask = TRANSFORMS.build(dict(type='mmext.BottomupGetHeatmapMask'))(results)['heatmap_mask']
    expected = np.ones((6, 5), bool)
    expected[:2, :2] = False
    expected[1:5, 1:3] = False
    np.testing.assert_array_equal(mask, expected)
