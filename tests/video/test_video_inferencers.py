"""mmaction2's inferencers on our configs and models; what they predict is compared with the network called directly."""

import decord
import mini_clips
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import mmext

CONFIG = mini_clips.running.ROOT / 'configs/mini/inflated-resnet18_mini-kinetics.py'
ROW = 'inflated-densenet121_imagenet-pretrained-d121_8xb8-32x2x1-100e_kinetics400-rgb'
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # of red, green and blue, 0 to 255


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """Path of a clip of 32 frames of 64 x 64 pixels."""
    folder = mini_clips.make(tmp_path_factory.mktemp('data'), train=1, val=1, frames=32)
    return str(next((folder / 'videos_val').glob('*.mp4')))


def normalised(clip, indices):
    """Some frames of a clip as the networks take them: [1, 1, 3, T, H, W]."""
    frames = decord.VideoReader(clip).get_batch(indices).asnumpy()
    x = (frames.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(x).permute(3, 0, 1, 2)[None, None]


@pytest.mark.parametrize('head', ['I3DHead', 'mmext.InflatedLinearHead', 'mmext.InflatedConvHead'])
def test_inferencer(head, clip, tmp_path):
    from mmaction.apis import MMAction2Inferencer

    cfg = Config.fromfile(CONFIG)
    cfg.model.cls_head.type = head
    if 'Linear' in head:
        cfg.model.cls_head.frames = 1
    cfg.dump(tmp_path / 'config.py')
    model = MODELS.build(cfg.model).eval()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    inferencer = MMAction2Inferencer(str(tmp_path / 'config.py'), str(tmp_path / 'model.pth'), device='cpu')
    (found,) = inferencer(clip)['predictions']
    with torch.no_grad():  # every second of the middle 16 frames
        scores = model(normalised(clip, list(range(8, 24, 2))), stage='head').softmax(1)[0]
    np.testing.assert_allclose(found['rec_scores'][0], scores, atol=1e-5)
    assert found['rec_labels'] == [[int(scores.argmax())]]


def test_function_on_a_model_of_the_zoo(clip):
    from mmaction.apis import inference_recognizer

    narrow = dict(growth=4, stem_channels=8)
    with torch.device('meta'):
        width = mmext.models.InflatedDenseNet(121, **narrow).feat_dim
    model = mmext.get_model(ROW, backbone=narrow, cls_head=dict(in_channels=width))
    assert model.cfg.model.backbone.pretrained is None
    sample, resize, crop = (model.cfg.test_pipeline[step] for step in (1, 3, 4))
    assert (sample.clip_len, sample.num_clips, crop.type) == (32, 10, 'ThreeCrop')
    sample.update(clip_len=8, num_clips=2)
    resize.scale, crop.crop_size = (-1, 64), 64
    found = inference_recognizer(model, clip)
    scores = []
    for indices in (np.arange(8) * 2 + start for start in (4, 12)):  # the middles of two halves of the possible starts
        with torch.no_grad():
            scores.append(model(normalised(clip, indices), stage='head').softmax(1)[0])
    torch.testing.assert_close(found.pred_score, sum(scores) / 2, rtol=1e-4, atol=1e-7)
    assert found.pred_label == found.pred_score.argmax()


def test_clip_that_cannot_be_decoded(tmp_path):
    from mmaction.apis import inference_recognizer

    model = mmext.get_model(ROW, device='meta')
    (tmp_path / 'bad.mp4').write_bytes(b'no video')
    with pytest.raises(ValueError, match=r'cannot decode the clip .*bad\.mp4'):
        inference_recognizer(model, str(tmp_path / 'bad.mp4'))
