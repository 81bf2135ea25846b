"""Networks of torchvision, of the toolboxes and of this package, fused by a trace and by a run on an example."""

import copy
import importlib

import pytest
import torch
import torchvision.models as vision
from mmcv.cnn import fuse_conv_bn
from mmengine.registry import DefaultScope
from test_orders import assert_same, fused, norms, with_statistics
from torch import fx, nn

import mmext
from mmext.models import ICResNet, InflatedDenseNet, InflatedResNet, InvolutionFPN, RedNet, WiderResNet


def image(size=32):
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))


def maps():
    return ([torch.randn(1, 8 * 2**level, 16 // 2**level, 16 // 2**level) for level in range(3)],)


def toolbox(name, scope):
    """Return a class of a toolbox, whose own modules are found by their names while it is built."""

    def make(*args, **kwargs):
        pytest.importorskip(name.partition('.')[0])
        path, _, kind = name.rpartition('.')
        importlib.import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
        module = importlib.import_module(path)
        with DefaultScope.overwrite_default_scope(scope):
            return getattr(module, kind)(*args, **kwargs)

    return make


mmdet_resnet = toolbox('mmdet.models.ResNet', 'mmdet')
NORM = dict(type='BN')

# name -> network, input, norms that stay, whether a trace is enough
NETWORKS = {
    'torchvision ResNet': (vision.resnet18, image(), 0, True),
    'torchvision DenseNet': (
        lambda: vision.DenseNet(8, (2, 2), 16, memory_efficient=True), image(), 1 + 4 + 1, True
    ),  # the norm in front of each layer, of the transition and of the classifier
    'torchvision MobileNetV2': (lambda: vision.mobilenet_v2(width_mult=0.1), image(), 0, True),
    'torchvision EfficientNet': (vision.efficientnet_b0, image(), 0, True),
    'torchvision ShuffleNet': (vision.shufflenet_v2_x0_5, image(), 0, True),
    'mmdet ResNet': (
        lambda: mmdet_resnet(50, base_channels=8, with_cp=True, deep_stem=True, avg_down=True), image(), 0, True
    ),
    'mmdet FPN': (
        lambda: toolbox('mmdet.models.FPN', 'mmdet')([8, 16, 32], 8, 4, norm_cfg=NORM, add_extra_convs='on_output'),
        maps(), 0, False,
    ),
    'mmpretrain VGG': (
        lambda: toolbox('mmpretrain.models.VGG', 'mmpretrain')(11, norm_cfg=NORM, out_indices=(1, 3)), image(), 0, True
    ),
    'mmpretrain ResNet': (
        lambda: toolbox('mmpretrain.models.ResNet', 'mmpretrain')(18, base_channels=8), image(), 0, True
    ),
    'mmseg U-Net': (
        lambda: toolbox('mmseg.models.UNet', 'mmseg')(base_channels=4, norm_cfg=NORM, with_cp=True), image(), 0, True
    ),
    'RedNet': (lambda: RedNet(26, stem_channels=32, base_channels=16, with_cp=True), image(), 9, True),
    'IC-ResNet': (lambda: ICResNet(50, 'uniform', base_channels=16, deep_stem=True), image(), 0, True),
    'Wider-ResNet': (lambda: WiderResNet('A', width=1 / 32, pooling='pad'), image(), 18, True),
    'involution FPN': (
        lambda: InvolutionFPN([8, 16, 32], 16, 4, norm_cfg=NORM, add_extra_convs='on_input'), maps(), 0, True
    ),
}  # fmt: skip


@pytest.mark.parametrize('with_example', [False, True])
@pytest.mark.parametrize('name', NETWORKS)
def test_networks(name, with_example):
    make, x, staying, traced = NETWORKS[name]
    model = with_statistics(make())
    before = copy.deepcopy(model.state_dict())
    if not (traced or with_example):
        with pytest.raises(ValueError, match='give an example'):
            fused(model)
        return
    product = fused(model, x if with_example else None)
    assert len(norms(product)) == staying
    assert_same(model, product, *(x if isinstance(x, tuple) else (x,)))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_detector_on_an_example():
    build = toolbox('mmdet.models.RetinaNet', 'mmdet')
    model = build(
        backbone=dict(type='ResNet', depth=18, base_channels=8, norm_cfg=NORM),
        neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, start_level=1, num_outs=4, norm_cfg=NORM),
        bbox_head=dict(
            type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1, norm_cfg=NORM,
            anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], scales=[4], strides=[8, 16, 32, 64]),
        ),
        test_cfg=dict(nms_pre=10, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10),
    )  # fmt: skip
    model = with_statistics(model)
    with pytest.raises(ValueError, match=r'mmext\.fuse\(model, example=\.\.\.\).*: backbone\.conv1 -> backbone\.bn1, '):
        fused(model)
    product = fused(model, image(64))
    assert norms(model)
    assert norms(product) == []
    assert_same(model, product, image(64))


def by_length(x):
    return x * len(x)


def test_graph_modules_that_cannot_be_traced_again():
    graph = fx.Graph()
    x = graph.placeholder('x')
    for number in (1, 2):
        x = graph.call_module(f'conv{number}', (x,))
        if number == 1:
            x = graph.call_function(by_length, (x,))  # between the first two
        x = graph.call_module(f'bn{number}', (x,))
    graph.output(graph.call_module('last', (x,)))
    root = nn.ModuleDict({'last': nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))})
    for number in (1, 2):
        root[f'conv{number}'], root[f'bn{number}'] = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    model = with_statistics(fx.GraphModule(root, graph))
    for example in (None, image()):
        product = fused(model, example)
        assert [name for name, module in product.named_modules() if module in norms(product)] == ['bn1']
        assert_same(model, product, image())


FAMILIES = {
    'RedNet': (lambda: RedNet(26, stem_channels=32, base_channels=16), image(), 31),
    'IC-ResNet': (lambda: ICResNet(18, 'uniform', base_channels=16, deep_stem=True), image(), 23),
    'Wider-ResNet A1': (lambda: WiderResNet('A1', width=1 / 32), image(), 19),
    'Wider-ResNet A2 without its last level': (
        lambda: WiderResNet('A2', width=1 / 32, out_indices=(0, 4), output_stride=16), image(), 15
    ),
    'inflated ResNet': (
        lambda: InflatedResNet(18, stem_channels=8, base_channels=8), torch.rand(1, 3, 4, 32, 32), 0
    ),
    'inflated DenseNet': (
        lambda: InflatedDenseNet(121, growth=4, stem_channels=8), torch.rand(1, 3, 8, 32, 32), 0
    ),
    'involution FPN': (lambda: InvolutionFPN([8, 16, 32], 16, 3, norm_cfg=NORM), maps(), 6),
}  # fmt: skip


@pytest.mark.parametrize('name', FAMILIES)
def test_function_of_mmcv(name):
    """mmdet's benchmark folds norms so, by the order in which layers are declared."""
    make, x, count = FAMILIES[name]
    model = with_statistics(make())
    product = fuse_conv_bn(copy.deepcopy(model))
    assert len(norms(model)) - len(norms(product)) == count
    assert_same(model, product, *(x if isinstance(x, tuple) else (x,)))


def test_fused_by_mmcv_and_by_us():
    model = with_statistics(WiderResNet('A2', width=1 / 32))
    product = fuse_conv_bn(copy.deepcopy(model))
    with pytest.raises(ValueError, match='which has not been fused before'):
        mmext.fuse(product)
