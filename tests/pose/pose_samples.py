"""Samples and heads for the tests of associative embedding."""

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.structures import PoseDataSample
from mmpose.utils import register_all_modules

register_all_modules(init_default_scope=False)  # conftest.py sets the scope, for each test alone

from mmext.pose import AssociativeEmbedding, AssociativeEmbeddingHead  # noqa: E402

FLIP = [0, 2, 1]  # a nose and two eyes
CODEC = dict(sigma=2, decode_center_shift=0.5, decode_keypoint_order=[0, 1, 2], decode_topk=10, decode_max_instances=30)


def codec(input_size=(128, 96), stride=4):
    return AssociativeEmbedding(input_size, tuple(side // stride for side in input_size), **CODEC)


def head(cls=AssociativeEmbeddingHead, input_size=(128, 96), stride=1, **kwargs):
    """A head without layers: its last feature map is the heatmaps of 3 keypoints and their tags."""
    decoder = dict(
        type='mmext.AssociativeEmbedding',
        input_size=input_size,
        heatmap_size=tuple(side // stride for side in input_size),
        **CODEC,
    )
    layers = dict(deconv_out_channels=None, final_layer=None)
    return cls(in_channels=6, num_keypoints=3, decoder=decoder, **layers, **kwargs)


def training_sample(keypoints, visible=None, mask=None):
    """A sample as the pipeline packs it; keypoints [N, 3, 2] in pixels of an input of 128 x 96 (width x height)."""
    keypoints = np.asarray(keypoints, np.float32).reshape(-1, 3, 2)
    encoded = codec().encode(keypoints, visible)
    sample = PoseDataSample()
    sample.gt_instance_labels = InstanceData(
        keypoint_weights=encoded['keypoint_weights'], keypoint_indices=encoded['keypoint_indices']
    ).to_tensor()
    mask = np.ones((24, 32), bool) if mask is None else mask
    sample.gt_fields = PixelData(heatmaps=encoded['heatmaps'], heatmap_mask=mask[None]).to_tensor()
    return sample


def input_sample(input_size=(128, 96)):
    width, height = input_size
    metainfo = dict(img_shape=(height, width), input_size=input_size, flip_indices=FLIP)
    metainfo.update(input_center=np.array([width / 2, height / 2]), input_scale=np.array([width, height]))
    return PoseDataSample(metainfo=metainfo)


def features(persons, input_size=(128, 96), stride=4, mirrored=False):
    """What a perfect network gives: heatmaps, and tags that are 0, 5, 10 ... on the first, second, third ... person.

    Keypoints [N, 3, 2] are in pixels of the first scale, 128 x 96; input_size is that of this scale.
    """
    keypoints = np.asarray(persons, np.float32) * (input_size[0] / 128)
    if mirrored:
        keypoints = keypoints[:, FLIP] * [-1, 1] + [input_size[0], 0]
    maps = codec(input_size, stride).encode(keypoints)['heatmaps']
    tags = np.zeros_like(maps)
    for number, person in enumerate(keypoints):
        for joint, (x, y) in enumerate(person / stride):
            tags[joint, max(int(y) - 3, 0) : int(y) + 4, max(int(x) - 3, 0) : int(x) + 4] = 5 * number
    return (torch.from_numpy(np.concatenate([maps, tags]))[None],)
