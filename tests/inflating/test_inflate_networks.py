"""Whole networks: what a clip gives against the 2D network on its pictures."""

import copy
import io
import pickle

import golden
import pytest
import torch
import torch.nn.functional as F
import torchvision
from network_helpers import assert_equal, assert_still_clips, filled, outputs, still
from torch import nn

import mmext
from mmext.inflating.published import published_rules
from mmext.models import ICResNet, RedNet, WiderResNet

CLASSES = 20
GLOBAL_MODULE = {nn.AdaptiveAvgPool2d: 'frames'}
GLOBAL_FUNCTION = {F.adaptive_avg_pool2d: 'frames'}
# name -> size in pixels, the rule by which nothing pools over time
TORCHVISION = {
    'resnet18': (64, GLOBAL_MODULE),
    'resnet50': (64, GLOBAL_MODULE),
    'densenet121': (64, GLOBAL_FUNCTION),
    'vgg11_bn': (64, GLOBAL_MODULE),
    'mobilenet_v2': (64, GLOBAL_FUNCTION),
    'efficientnet_b0': (64, GLOBAL_MODULE),
    'convnext_tiny': (64, GLOBAL_MODULE),
    'shufflenet_v2_x1_0': (64, {torch.Tensor.mean: 'frames'}),
}


def network_2d(name):
    if name == 'vgg11_bn':  # the classifier of 120 M parameters in small
        model = torchvision.models.VGG(torchvision.models.vgg.make_layers(VGG11, batch_norm=True), init_weights=False)
        model.classifier = nn.Sequential(nn.Linear(512 * 49, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, CLASSES))
        return filled(model)
    return filled(getattr(torchvision.models, name)(num_classes=CLASSES))


VGG11 = [64, 'M', 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512, 'M']


@pytest.mark.parametrize('name', TORCHVISION)
def test_torchvision(name):
    size, by_frame = TORCHVISION[name]
    model = network_2d(name)
    before = copy.deepcopy(model.state_dict())
    network = mmext.inflate(model, image_size=size)
    assert set(network.state_dict()) == set(before)
    assert not any(module.training for module in network.modules())
    assert_still_clips(model, network, torch.randn(2, 3, size, size), frames=(1, 3))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    # a moving clip, without pooling over time: what the 2D network gives for every frame
    network = mmext.inflate(model, by_frame, image_size=size)
    clip = torch.randn(2, 3, 3, size, size)
    with torch.inference_mode():
        expected = torch.stack([model(frame) for frame in clip.unbind(2)], 1)
        assert_equal(network(clip), expected)


@pytest.mark.parametrize('name', ['resnet18', 'resnet50', 'resnext50_32x4d'])
@pytest.mark.parametrize('frames', [1, 5, 16])
def test_published_resnets(name, frames):
    model = network_2d(name)
    rules = published_rules(model, frames)
    network = mmext.inflate(model, rules, image_size=64)
    assert network.conv1.kernel_size == (3, 7, 7)
    assert network.maxpool.stride == (2, 2, 2)
    image = torch.randn(1, 3, 64, 64)
    assert_still_clips(model, network, image, frames=(frames,))
    shapes = []
    network.get_submodule('layer4.0.downsample.0').register_forward_hook(lambda *call: shapes.append(call[2].shape))
    outputs(network, still(image, frames))
    assert shapes[0][2] == -(-frames // 16)


def test_published_densenet():
    model = network_2d('densenet121')
    network = mmext.inflate(model, published_rules(model, 17), image_size=64)
    assert network.classifier.in_features == 2 * 1024
    assert_still_clips(model, network, torch.randn(1, 3, 64, 64), frames=(16, 17))
    with pytest.raises(ValueError, match='1 frames reach a linear layer that was inflated for 2; give clips of the'):
        network(torch.randn(1, 3, 8, 64, 64))
    with pytest.raises(ValueError, match='frames=7: the transitions of an inflated DenseNet take 8 or more'):
        published_rules(model, 7)
    assert published_rules(nn.Linear(1, 1), 1) is None


def test_golden_moving_clip():
    """The published inflated ResNet-50 on a clip that moves, with temporal kernels, strides and pooling."""
    case = golden.Case('inflated', 'i3d_resnet50')
    model = torchvision.models.resnet50()
    case.load(model)
    network = mmext.inflate(model, published_rules(model, 5), image_size=112)
    (given,) = [given for given in case['input'] if given['name'] == 'clip5_112']
    clip = torch.from_numpy(golden.fill.fill_input(given['name'], given['shape'], given['seed']))
    with torch.inference_mode():
        case.check('clip5_112/logits', network(clip))


def test_golden_densenet():
    """The published inflated DenseNet-121, with averaged kernels and pooling along time."""
    case = golden.Case('inflated', 'i3d_densenet121_f8_inflate')
    model = torchvision.models.densenet121()
    case.load(model)
    network = mmext.inflate(model, published_rules(model, 8))
    (given,) = [given for given in case['input'] if given['kind'] == 'clip']
    clip = torch.from_numpy(golden.fill.fill_input(given['name'], given['shape'], given['seed']))
    with torch.inference_mode():
        case.check(f'{given["name"]}/logits', network(clip))


def toolbox_resnet(name):
    if name == 'mmpretrain':
        from mmpretrain.models import ResNetV1d

        return ResNetV1d(depth=50, out_indices=(1, 3))
    from mmdet.models import ResNet

    return ResNet(depth=18, frozen_stages=1, norm_eval=True)


BACKBONES = {
    'mmpretrain': lambda: toolbox_resnet('mmpretrain'),
    'mmdet': lambda: toolbox_resnet('mmdet'),
    'RedNet-26': lambda: RedNet(26),
    'Wider-ResNet A': lambda: WiderResNet('A', width=1 / 16, out_indices=(4, 6)),
    'Wider-ResNet A1': lambda: WiderResNet('A1', output_stride=8, width=1 / 16),
    'IC-ResNet-18': lambda: ICResNet(18, 'uniform', deep_stem=True, avg_down=True),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_backbones(name):
    model = filled(BACKBONES[name]())
    network = mmext.inflate(model, image_size=64)
    assert set(network.state_dict()) == set(model.state_dict())
    kept = {key: value.requires_grad for key, value in model.named_parameters()}
    assert {key: value.requires_grad for key, value in network.named_parameters()} == kept
    assert_still_clips(model, network, torch.randn(1, 3, 64, 64), frames=(1, 4))
    clip = torch.randn(1, 3, 3, 64, 64)
    frames = [outputs(model, frame) for frame in clip.unbind(2)]
    for level, found in enumerate(outputs(network, clip)):
        assert_equal(found, torch.stack([frame[level] for frame in frames], 2))


def test_classifier_of_a_toolbox():
    from mmpretrain import get_model

    model = filled(get_model('resnet18_8xb32_in1k'))
    network = mmext.inflate(model, image_size=64)
    assert_still_clips(model, network, torch.randn(1, 3, 64, 64))


def test_state_copies_and_training():
    model = network_2d('resnet18').train()
    rules = {'conv1': dict(temporal_kernel=3, mode='average', temporal_padding_mode='replicate')}
    network = mmext.inflate(model, rules, image_size=64)
    assert all(module.training for module in network.modules())
    twin = mmext.inflate(network_2d('resnet18').train(), rules, image_size=64)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True), strict=True)
    clip = torch.randn(2, 3, 4, 64, 64)
    copied = copy.deepcopy(network)
    expected = network(clip)
    assert torch.equal(copied(clip), expected)
    assert torch.equal(twin(clip), expected)
    network(clip).square().mean().backward()
    missing = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert missing == []
    before = network(clip).square().mean()
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    assert network(clip).square().mean() < before
    assert model.bn1.num_batches_tracked == 0


def test_other_dtype():
    model = network_2d('resnet18').double()
    network = mmext.inflate(model, image_size=64)
    assert {value.dtype for value in network.parameters()} == {torch.float64}
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    assert_still_clips(model, network, image)


@pytest.mark.parametrize('name', ['resnet18', 'densenet121'])
def test_fusing(name):
    model = network_2d(name)
    network = mmext.inflate(model, published_rules(model, 8), image_size=64)
    fused = mmext.fuse(network)
    norms = [len([m for m in net.modules() if isinstance(m, nn.BatchNorm3d)]) for net in (network, fused)]
    assert norms[1] < norms[0]
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.inference_mode():
        assert_equal(fused(clip), network(clip))


def test_pickling():
    network = mmext.inflate(network_2d('shufflenet_v2_x1_0'), image_size=64)
    clip = torch.randn(1, 3, 2, 64, 64)
    assert torch.equal(pickle.loads(pickle.dumps(network))(clip), network(clip))
