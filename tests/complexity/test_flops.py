"""Counters outside of mmext count the operator as well: PyTorch's, mmengine's, and mmdet's installed script."""

import json
import re

import cv2
import numpy as np
import pytest
import running
import torch
from by_hand import rednet26
from mmengine.analysis import FlopAnalyzer, get_model_complexity_info
from mmengine.config import Config
from torch.utils.flop_counter import FlopCounterMode

from mmext.complexity import complexity
from mmext.models import RedNet
from mmext.ops import involution

CONFIG = """
_base_ = ['{root}/configs/involution/retinanet_red50_fpn-inv-neck_1x_coco.py']
model = dict(
    backbone=dict(depth=26, base_channels=16, stem_channels=32, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, num_classes=3),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(128, 96)), dict(type='PackDetInputs')]
dataset = dict(data_root='{data}/', ann_file='val.json', data_prefix=dict(img=''), pipeline=pipeline)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dataset)
"""


def narrow():
    return RedNet(26, stem_channels=32, base_channels=16).eval()


@pytest.mark.parametrize('stride', [1, 2])
def test_pytorch_counts_forward_and_backward(stride):
    x = torch.rand(2, 32, 8, 6, device='meta', requires_grad=True)
    weight = torch.rand(2, 4, 3, 3, 8 // stride, 6 // stride, device='meta', requires_grad=True)
    multiply_adds = 2 * 32 * 9 * 8 * 6 // stride**2
    with FlopCounterMode(display=False) as counter:
        out = involution(x, weight, stride=stride)
    assert counter.get_total_flops() == 2 * multiply_adds
    with FlopCounterMode(display=False) as counter:
        out.backward(torch.empty_like(out))
    assert counter.get_total_flops() == 2 * multiply_adds * 2  # one product with each input
    with FlopCounterMode(display=False) as counter:
        involution(x.detach(), weight, stride=stride).backward(torch.empty_like(out))
    assert counter.get_total_flops() == 2 * multiply_adds * 2  # forward, and the gradient of the weight alone


def test_mmengine_counts_it():
    model, image = narrow(), torch.rand(1, 3, 64, 64)
    convolution, aggregation, parameters = rednet26(64, 32, 16)
    analyzer = FlopAnalyzer(model, (image,))
    operators = analyzer.by_operator()
    assert (operators['conv'], operators['involution']) == (convolution, aggregation)
    assert not any('involution' in operator for operator in analyzer.unsupported_ops())

    found = get_model_complexity_info(model, inputs=(image,), show_table=False, show_arch=False)
    assert found['params'] == parameters
    assert found['flops'] == convolution + aggregation + operators['batch_norm']


def test_mmdet_get_flops(tmp_path):
    cv2.imwrite(str(tmp_path / '1.png'), np.zeros((96, 128, 3), np.uint8))
    images = [dict(id=1, file_name='1.png', height=96, width=128)]
    (tmp_path / 'val.json').write_text(json.dumps(dict(images=images, annotations=[], categories=[])))
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(root=running.ROOT, data=tmp_path))
    output = running.run(running.script('mmdet', 'analysis_tools/get_flops.py'), path, '--num-images', '1')

    cfg = Config.fromfile(path)
    own, published = complexity(cfg, (96, 128)), complexity(cfg, (96, 128), 'published')
    norms = sum(part.multiply_adds['norm'] for part in published.parts.values())
    interpolation = 32 * (12 * 16 + 6 * 8)  # the neck brings strides 32 and 16 to 16 and 8
    assert f'Flops: {(own.multiply_adds + norms + interpolation) / 1e6:.3f}M' in output
    assert f'Params: {own.parameters / 1e6:.3f}M' in output
    assert 'Unsupported operator' in output
    assert not re.search('Unsupported operator .*involution', output)
