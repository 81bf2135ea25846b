import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import mmext
from mmext.layers import InceptionConv2d, Involution
from mmext.models import ICResNet, RedNet


def with_statistics(model):
    """Give every norm statistics and weights of its own."""
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias, 0, 0.1)
    return model


def norms(model):
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


# model, input shape, norms that stay: after an involution, and in front of a convolution only
MODELS = {
    'IC-ResNet-50': (lambda: ICResNet(50, 'detection_r50_k9'), (2, 3, 64, 64), 0),
    'IC-ResNet-18, deep stem': (lambda: ICResNet(18, 'uniform', deep_stem=True, avg_down=True), (2, 3, 64, 64), 0),
    'RedNet-26': (lambda: RedNet(26), (2, 3, 64, 64), 9),
    'three dimensions': (
        lambda: nn.Sequential(nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8, affine=False), nn.ReLU(), nn.Conv3d(8, 4, 1)),
        (2, 3, 4, 8, 8),
        0,
    ),
    'module of mmcv': (lambda: ConvModule(3, 8, 3, norm_cfg=dict(type='BN')), (2, 3, 8, 8), 0),
    'norm first': (
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        (2, 3, 8, 8),
        1,
    ),
    'something between': (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3)),
                          (2, 3, 8, 8), 1),
    'transposed': (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)),
        (2, 3, 8, 8),
        1,
    ),
}  # fmt: skip


def outputs(model, x):
    with torch.inference_mode():
        out = model(x)
    return out if isinstance(out, tuple) else (out,)


@pytest.mark.parametrize('name', MODELS)
def test_results_are_the_same(name):
    make, shape, staying = MODELS[name]
    model = with_statistics(make()).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fused = mmext.fuse(model)
    assert len(norms(fused)) == staying
    x = torch.randn(shape)
    for one, other in zip(outputs(fused, x), outputs(model, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_layers_stay_what_they_are():
    fused = mmext.fuse(ICResNet(50, 'detection_r50_k9').train())
    assert not fused.training
    layer = fused.layer1[0].conv2
    assert isinstance(layer, InceptionConv2d)
    assert layer.bias.shape == (64,)
    assert len(layer.pattern) == 10
    assert any(isinstance(module, Involution) for module in mmext.fuse(RedNet(26)).modules())


def test_shared_convolutions_stay():
    conv = nn.Conv2d(3, 3, 1)
    levels = [nn.Sequential(conv, with_statistics(nn.BatchNorm2d(3))) for _ in range(2)]
    model = nn.Sequential(*levels, nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    fused = mmext.fuse(model)
    assert len(norms(fused)) == 2
    x = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(fused(x), model(x))


@pytest.mark.parametrize('model', [nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3))])
def test_nothing_to_fold(model):
    with pytest.raises(ValueError, match='has no convolution that a batch normalisation follows; give a model that'):
        mmext.fuse(model)


def test_fusing_twice():
    fused = mmext.fuse(ConvModule(3, 8, 3, norm_cfg=dict(type='BN')))
    with pytest.raises(ValueError, match='which has not been fused before'):
        mmext.fuse(fused)
