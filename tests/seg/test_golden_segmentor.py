"""The published network in mmseg: one training step through segmentor, backbone, head and loss."""

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from wider_golden import Case, our_key

HEAD = {'conv6a': 'decode_head.convs.0.conv', 'classifier': 'decode_head.conv_seg'}


def key_in_mmseg(name):
    layer, _, what = our_key(name).rpartition('.')
    return f'{HEAD.get(layer, layer)}.{what}'


def published(case):
    settings = dict(
        type='mmext.SteppedEncoderDecoder',
        backbone=dict(type='mmext.WiderResNet', arch='A1', output_stride=8, norm_eval=True),
        decode_head=dict(
            type='mmext.DilatedFCNHead',
            in_channels=4096,
            num_classes=21,
            loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        ),
        test_cfg=dict(mode='steps'),
    )
    with torch.device('meta'):
        model = MODELS.build(settings)
    state = {key_in_mmseg(name): torch.from_numpy(value) for name, value in case.checkpoint().items()}
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    assert not unexpected
    assert all(key.endswith('num_batches_tracked') for key in missing)
    return model.requires_grad_()


def test_training_step():
    case = Case('fcn_a1_cls21_s8_train')
    model = published(case).train()
    image = case.image()
    batch, _, height, width = image.shape
    # labels of all pixels, of which only those at the centres of the cells are the published ones
    labels = torch.randint(0, 21, (batch, 1, height, width))
    labels[..., 4::8, 4::8] = torch.from_numpy(case.arrays['label']).view(batch, 1, height // 8, width // 8)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    losses = model(image, samples, mode='loss')
    losses['decode.loss_ce'].backward()

    parameters = dict(model.named_parameters())
    compared = 0
    for key, expected in case.arrays.items():
        kind, _, name = key.rpartition('/')
        if kind in ('grad', 'grad_sub') and name != 'data':
            gradient = parameters[key_in_mmseg(name)].grad.numpy()
            gradient = gradient[::4, ::4] if kind == 'grad_sub' else gradient
            assert np.abs(gradient - expected).max() < 1e-4 * np.abs(expected).max(), key
            compared += 1
    assert compared == 10

    with torch.no_grad():
        scores = model(image, mode='tensor').numpy()
        found = model.eval().predict(image)
    assert np.abs(scores - case.arrays['scores']).max() < 1e-5 * np.abs(case.arrays['scores']).max()
    assert [tuple(sample.pred_sem_seg.shape) for sample in found] == [(height, width)] * batch
