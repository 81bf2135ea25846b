"""The toolboxes' inferencers run on our configs, and their inference functions on the models of the zoo.

What they predict is compared with the network called directly on the picture, normalised by hand.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmext
from mmext.resampling import resize_image, resize_maps

MINI = Path(__file__).parent.parent / 'configs' / 'mini'
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # of red, green and blue, 0 to 255


@pytest.fixture
def picture():
    """A picture [128, 128, 3] of smooth colours, in OpenCV's order: blue, green, red."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (F.interpolate(noise, size=(128, 128), mode='bicubic').clamp(0, 1)[0] * 255).permute(1, 2, 0).byte().numpy()


def normalised(picture):
    """The picture as the networks take it: [1, 3, H, W], red first."""
    x = (picture[..., ::-1].astype(np.float32) - MEAN) / STD
    return torch.from_numpy(x).permute(2, 0, 1)[None].float()


def mini(name, folder):
    """Build a mini config's model with random weights and save these as a checkpoint; return model and both paths."""
    config = MINI / f'{name}.py'
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(cfg.model).eval()
    classes = [str(number) for number in range(19)]
    meta = dict(dataset_meta=dict(classes=classes, palette=[[number] * 3 for number in range(19)]))
    checkpoint = folder / 'model.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return model, str(config), str(checkpoint)


def predicted_boxes(model, picture):
    from mmdet.structures import DetDataSample

    shape = picture.shape[:2]
    sample = DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape, scale_factor=(1, 1)))
    with torch.no_grad():
        (found,) = model(normalised(picture), [sample], mode='predict')
    return found.pred_instances


def predicted_classes(model, picture):
    """Class of each pixel: the strided map of the head, enlarged."""
    with torch.no_grad():
        scores = model(normalised(picture), mode='tensor')
    return F.interpolate(scores, size=picture.shape[:2], mode='bilinear').argmax(1)[0].numpy()


def test_detector(picture, tmp_path):
    from mmdet.apis import DetInferencer

    model, config, checkpoint = mini('mask-rcnn_red26_fpn-inv-neck_inv-head_mini-coco', tmp_path)
    inferencer = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
    result = inferencer(picture, return_vis=True)
    (found,) = result['predictions']
    expected = predicted_boxes(model, picture)
    assert len(found['scores']) == 20  # the config's largest number: untrained, it finds things everywhere
    assert found['labels'] == expected.labels.tolist()
    np.testing.assert_allclose(found['scores'], expected.scores, rtol=1e-4)
    np.testing.assert_allclose(found['bboxes'], expected.bboxes, atol=1e-2)
    assert [mask['size'] for mask in found['masks']] == [[128, 128]] * 20
    assert result['visualization'][0].shape == (128, 128, 3)


def test_segmentor(picture, tmp_path):
    from mmseg.apis import MMSegInferencer

    model, config, checkpoint = mini('fpn_red26_inv-neck_mini-cityscapes', tmp_path)
    result = MMSegInferencer(config, checkpoint, device='cpu')(picture, return_vis=True)
    expected = predicted_classes(model, picture)
    assert len(np.unique(expected)) > 1
    assert (result['predictions'] == expected).mean() > 0.999  # rounding may decide between equal scores
    assert result['visualization'].shape == (128, 128, 3)


def test_segmentor_that_tests_in_steps(picture, tmp_path):
    from mmseg.apis import MMSegInferencer

    model, config, checkpoint = mini('fcn_wider-resnet38-a1-d8_mini-cityscapes', tmp_path)
    result = MMSegInferencer(config, checkpoint, device='cpu')(picture, return_vis=True)
    resized = normalised(resize_image(picture, (256, 256)))  # the longer side, as the config has it
    with torch.no_grad():
        shifted = F.pad(resized, (4, 4, 4, 4))  # half a cell; two steps of 4 pixels
        cells = torch.zeros(1, 19, 64, 64)
        for top in range(2):
            for left in range(2):
                window = shifted[..., 2 + 4 * top :, 2 + 4 * left :][..., :256, :256]
                passes = [model(window, mode='tensor'), model(window.flip(-1), mode='tensor').flip(-1)]
                cells[..., top::2, left::2] = sum(scores.softmax(1) for scores in passes) / 2
    expected = resize_maps(resize_maps(cells, (256, 256), 'bicubic'), (128, 128), 'lanczos').argmax(1)[0].numpy()
    assert len(np.unique(expected)) > 1
    assert (result['predictions'] == expected).mean() > 0.999
    assert result['visualization'].shape == (128, 128, 3)


def test_classifier_with_published_pipelines(picture, tmp_path):
    from mmpretrain import ImageClassificationInferencer

    model, config, checkpoint = mini('wider-resnet38-a1_mini-in1k', tmp_path)
    (result,) = ImageClassificationInferencer(config, pretrained=checkpoint, device='cpu')(picture)
    with torch.no_grad():
        scores = model(normalised(resize_image(picture, (64, 64), 'bicubic'))).softmax(1)[0]
    np.testing.assert_allclose(result['pred_scores'], scores, atol=1e-6)
    assert result['pred_class'] == str(int(scores.argmax()))


def test_classifier(picture, tmp_path):
    from mmpretrain import ImageClassificationInferencer

    model, config, checkpoint = mini('rednet26_mini-in1k', tmp_path)
    (result,) = ImageClassificationInferencer(config, pretrained=checkpoint, device='cpu')(picture)
    with torch.no_grad():
        scores = model(normalised(picture)).softmax(1)[0]
    np.testing.assert_allclose(result['pred_scores'], scores, atol=1e-6)
    assert result['pred_label'] == scores.argmax()
    assert result['pred_class'] == str(int(scores.argmax()))
    assert result['pred_score'] == pytest.approx(scores.max().item())


def test_detection_function_on_a_model_of_the_zoo(picture):
    from mmdet.apis import inference_detector

    model = mmext.get_model('retinanet_red50_fpn-inv-neck_1x_coco', test_cfg=dict(score_thr=0.0))
    model.cfg.test_dataloader.dataset.pipeline[1].scale = (128, 128)
    found = inference_detector(model, picture).pred_instances
    expected = predicted_boxes(model, picture)
    assert len(found) == 100
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-7)
    assert len(model.dataset_meta['classes']) == 80


def test_segmentation_function_on_a_model_of_the_zoo(picture):
    from mmseg.apis import inference_model

    model = mmext.get_model('fpn_red50_inv-neck_4xb2-80k_cityscapes-512x1024')
    model.cfg.test_pipeline[1].scale = (128, 128)
    found = inference_model(model, picture).pred_sem_seg.data[0].numpy()
    assert (found == predicted_classes(model, picture)).mean() > 0.999
    assert model.dataset_meta['classes'][0] == 'road'


def test_classification_function_on_a_model_of_the_zoo(picture):
    from mmpretrain import ImageClassificationInferencer

    model = mmext.get_model('rednet26_64xb32-130e_in1k')
    (result,) = ImageClassificationInferencer(model)(picture)
    assert result['pred_scores'].shape == (1000,)
    assert result['pred_class'] == model.dataset_meta['classes'][result['pred_label']]
