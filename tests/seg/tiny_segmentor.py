"""A segmentor of a few weights with a stride of 8, whose scores depend on the place."""

import torch
from mmseg.registry import MODELS
from torch import nn

CLASSES = 4


class TinyBackbone(nn.Sequential):
    """Three convolutions of stride 2; one feature map."""

    def __init__(self):
        layers = [nn.Conv2d(channels, 6, 3, stride=2, padding=1) for channels in (3, 6, 6)]
        super().__init__(*[module for layer in layers for module in (layer, nn.Tanh())])

    def forward(self, x):
        return (super().forward(x),)


def settings(**test_cfg):
    return dict(
        type='mmext.SteppedEncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
        ),
        backbone=dict(type=TinyBackbone),
        decode_head=dict(
            type='mmext.DilatedFCNHead',
            in_channels=6,
            channels=8,
            dilation=2,
            num_classes=CLASSES,
            loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        ),
        test_cfg=test_cfg,
    )


def build(**test_cfg):
    """Always with the same weights."""
    torch.manual_seed(0)
    model = MODELS.build(settings(**test_cfg)).eval()
    for parameter in model.parameters():  # large weights: scores of different cells differ much
        nn.init.normal_(parameter, std=0.5)
    return model
