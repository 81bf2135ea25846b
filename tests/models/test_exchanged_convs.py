import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn

from mmext.layers import InceptionConv2d, SupernetConv2d
from mmext.models import RedNet
from mmext.patterns import PatternError

NAMES = ['layer1.0.conv2', 'layer2.0.conv2']
ICRESNET = dict(type='mmext.ICResNet', depth=18, base_channels=8, stem_channels=8, inception_convs=['conv1'])


def build(**options):
    network = dict(ICRESNET, pattern='uniform')
    return ROOT_MODELS.build(dict(type='mmext.ExchangedConvs', network=network, **options))


def test_the_network_is_itself_with_other_convolutions():
    torch.manual_seed(0)
    plain = ROOT_MODELS.build(dict(ICRESNET, pattern='uniform')).eval()
    model = build(convs=NAMES, conv_cfg=dict(type='mmext.SupernetConv2d', max_dilation=2)).eval()
    assert type(model) is type(plain)
    assert list(model.state_dict()) == list(plain.state_dict())
    found = [name for name, module in model.named_modules() if isinstance(module, SupernetConv2d)]
    assert found == NAMES
    model.load_state_dict(plain.state_dict())
    x = torch.rand(1, 3, 33, 40)
    for one, other in zip(model(x), plain(x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_patterns_go_to_the_named_places_in_their_order():
    layers = [[(1, 1, 4), (2, 1, 4)], [(3, 3, 16)]]
    model = build(convs=NAMES, conv_cfg=dict(type='InceptionConv2d'), pattern=layers)
    found = [model.get_submodule(name) for name in NAMES]
    assert [conv.pattern for conv in found] == [((1, 1, 4), (2, 1, 4)), ((3, 3, 16),)]
    assert all(isinstance(conv, InceptionConv2d) for conv in found)


def test_options_of_toolboxes_reach_the_network():
    model = build(convs=NAMES, conv_cfg=dict(type='SupernetConv2d', max_dilation=2), out_indices=(0,), init_cfg=None)
    assert model.out_indices == (0,)


def test_frozen_convolutions_stay_frozen():
    model = build(convs=NAMES, conv_cfg=dict(type='SupernetConv2d', max_dilation=2), frozen_stages=1)
    assert [model.get_submodule(name).weight.requires_grad for name in NAMES] == [False, True]


def test_what_does_not_fit_names_the_place():
    cfg = dict(type='SupernetConv2d', max_dilation=2)
    with pytest.raises(ValueError, match=r"no convolution 'layer1\.0\.conv9'; some that it has: layer1\.0\.conv"):
        build(convs=['layer1.0.conv9'], conv_cfg=cfg)
    with pytest.raises(ValueError, match=r'no convolution .layer1\.0\.bn1'):
        build(convs=['layer1.0.bn1'], conv_cfg=cfg)
    with pytest.raises(PatternError, match=r'layer 1 \(layer2\.0\.conv2\)'):
        build(convs=NAMES, conv_cfg=dict(type='InceptionConv2d'), pattern=[[(1, 1, 8)], [(1, 1, 8)]])


def test_involutions_are_no_convolutions_to_exchange():
    assert not isinstance(RedNet(26, base_channels=16).layer1[0].conv2, nn.Conv2d)
