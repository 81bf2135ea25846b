"""Inflated ResNet, ResNeXt and DenseNet."""

import re

import golden
import numpy as np
import pytest
import torch
import torchvision
from inflated_golden import Case
from torch import nn

import mmext
from mmext.models import InflatedDenseNet, InflatedResNet, InflatedResNeXt
from mmext.ops.inflate.conv3d import InflatedConv3d


def narrow_resnet(depth=18, **options):
    return InflatedResNet(depth, **{**dict(stem_channels=8, base_channels=8), **options})


def narrow_densenet(**options):
    return InflatedDenseNet(121, **{**dict(growth=4, stem_channels=8), **options})


@pytest.mark.parametrize('name', golden.names('inflated', 'i3d_*'))
def test_golden(name, tmp_path):
    case = Case(name)
    model = case.backbone(tmp_path)
    outs = {}
    for key, module in model.named_modules():
        # cloned: the ReLU behind a norm works in place
        module.register_forward_hook(
            lambda _, args, out, key=key: outs.update({key: out.clone() if key == 'features.norm5' else out})
        )
    for clip, x in case.clips().items():
        outs.clear()
        with torch.no_grad():
            outs['logits'] = case.logits(model(x))
        for key in case.arrays:
            if key.startswith(f'{clip}/'):
                check(case, key, outs)
    conv_class = {'still16/logits_2d'} if case['options'].get('conv_class') else set()  # another classifier's
    assert case.compared | conv_class == set(case.arrays)


def check(case, key, outs):
    what = key.partition('/')[2]
    if what == 'logits_2d':  # a static clip, and the 2D network on its picture
        if not case['options'].get('conv_class'):
            case._compare(key, outs['logits'].numpy())
        return
    name, _, statistic = what.rpartition('/')
    value = outs[name or what].numpy()
    if statistic in ('mean', 'std') and name:
        value = getattr(value.astype(np.float64), statistic)((0, 2, 3, 4))
    elif name:
        value = np.ascontiguousarray(value).reshape(-1)[:: int(statistic.removeprefix('sub'))]
    case._compare(key, value)


@pytest.mark.parametrize('name', golden.names('inflated', 'i3d_*'))
def test_changed_shapes_and_sizes(name):
    case = Case(name)
    arch = case['options']['arch']
    with torch.device('meta'):
        if arch.startswith('resnet'):
            model = InflatedResNet(int(arch[6:]))
        else:
            model = InflatedDenseNet(int(arch[8:]), inflate_block_convs=case['options']['inflate_block_convs'])
    found = {key: list(value.shape) for key, value in model.state_dict().items()}
    flat = dict(case.keys_and_shapes())
    changed = (
        {key: shape for key, shape in case['changed_shapes'] if key in found}
        if isinstance(case['changed_shapes'], list)
        else {key: shape for key, shape in case['changed_shapes'].items() if key in found}
    )
    assert {key: shape for key, shape in found.items() if list(flat[key]) != shape} == changed
    classifier = (
        sum(int(np.prod(shape)) for key, shape in {**flat, **dict(case['changed_shapes'])}.items() if key not in found)
        if not case['options'].get('conv_class')
        else 400 * 2048 + 400
    )
    assert sum(p.numel() for p in model.parameters()) + classifier == case['params_3d']


def source(kind):
    """A 2D network with statistics of its own, and its inflated form's class and depth."""
    torch.manual_seed(0)
    network = getattr(torchvision.models, kind)()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(
    ('kind', 'model', 'sizes'),
    [
        ('resnet18', lambda path: InflatedResNet(18, pretrained=path), [(1, 33, 47), (2, 64, 64), (9, 40, 40)]),
        ('resnet34', lambda path: InflatedResNet(34, pretrained=path), [(3, 64, 64)]),
        ('resnet50', lambda path: InflatedResNet(50, pretrained=path), [(5, 64, 64)]),
        ('resnet152', lambda path: InflatedResNet(152, pretrained=path), [(2, 32, 32)]),
        ('resnext50_32x4d', lambda path: InflatedResNeXt(50, pretrained=path), [(4, 64, 48)]),
        ('densenet121', lambda path: InflatedDenseNet(121, path), [(8, 64, 64), (19, 45, 32)]),
        ('densenet169', lambda path: InflatedDenseNet(169, path, inflate_block_convs=False), [(8, 32, 32)]),
    ],
)
def test_a_still_clip_is_a_picture(kind, model, sizes, tmp_path):
    network = source(kind)
    torch.save(network.state_dict(), tmp_path / '2d.pth')
    inflated = model(str(tmp_path / '2d.pth'))
    inflated.init_weights()
    inflated.eval()
    for frames, height, width in sizes:
        picture = torch.rand(2, 3, height, width)
        with torch.no_grad():
            logits = network(picture)
            features = inflated(picture[:, :, None].expand(-1, -1, frames, -1, -1))
            classifier = network.fc if hasattr(network, 'fc') else network.classifier
            found = classifier(features.mean((3, 4)).transpose(1, 2))  # of every frame of the features
        for frame in found.unbind(1):
            assert (frame - logits).abs().max() < 1e-5 * logits.abs().max()


def test_checkpoints_of_a_toolbox(tmp_path):
    from mmpretrain.models import DenseNet, ResNet

    for network, model in (
        (ResNet(18), narrow_resnet(18, stem_channels=64, base_channels=64)),
        (DenseNet('121'), InflatedDenseNet(121)),
    ):
        network.eval()
        state = {f'backbone.{key}': value for key, value in network.state_dict().items()}
        torch.save({'state_dict': {**state, 'head.fc.weight': torch.rand(2, 2)}}, tmp_path / '2d.pth')
        model.pretrained = str(tmp_path / '2d.pth')
        model.init_weights()
        picture = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            expected = network(picture)[-1]
            found = model.eval()(picture[:, :, None].expand(-1, -1, 8, -1, -1))
        torch.testing.assert_close(found[:, :, 0], expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_checkpoints_of_the_inflated_network(tmp_path):
    torch.manual_seed(0)
    model = narrow_resnet()
    path = tmp_path / '3d.pth'
    torch.save(model.state_dict(), path)
    again = narrow_resnet(pretrained=str(path), pretrained2d=False)
    again.init_weights()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r'has no 2D convolution.*set pretrained2d=False'):
        narrow_resnet(pretrained=str(path)).init_weights()
    torch.save(torchvision.models.resnet18().state_dict(), path)
    with pytest.raises(
        ValueError, match=r'is of a 2D network \(conv1.weight has 4 dimensions\); set pretrained2d=True'
    ):
        narrow_resnet(pretrained=str(path), pretrained2d=False).init_weights()


def test_a_checkpoint_of_another_depth(tmp_path):
    path = tmp_path / '2d.pth'
    torch.save(torchvision.models.resnet18().state_dict(), path)
    with pytest.raises(ValueError) as info:
        InflatedResNet(34, pretrained=str(path)).init_weights()
    words = 'does not fit InflatedResNet', 'it lacks 80 keys: layer1.2.conv1.weight', 'set depth'
    assert all(word in str(info.value) for word in words), info.value
    torch.save(torchvision.models.resnet34().state_dict(), path)
    with pytest.raises(ValueError, match=r'there is no place for \d+ keys: layer1\.2'):
        InflatedResNet(18, pretrained=str(path)).init_weights()
    with pytest.raises(FileNotFoundError):
        InflatedResNet(18, pretrained=str(tmp_path / 'none.pth')).init_weights()


def test_initialisation_without_a_checkpoint():
    torch.manual_seed(0)
    model = narrow_resnet(base_channels=32)
    model.init_weights()
    weight = model.layer2[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 27)) ** 0.5, rel=0.05)
    assert not model.layer2[0].bn2.weight.any()
    dense = narrow_densenet()
    dense.init_weights()
    assert dense.features.denseblock1.denselayer1.conv2.weight.std() > 0


@pytest.mark.parametrize('make', [narrow_resnet, lambda **o: narrow_resnet(50, **o), narrow_densenet])
def test_recomputing_changes_nothing(make):
    torch.manual_seed(0)
    plain, saving = make(), make(with_cp=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 8, 64, 64)
    results = []
    for model in (plain, saving):
        model.train()
        model(x).square().mean().backward()
        results.append([p.grad for p in model.parameters()] + list(model.buffers()))
    assert all(grad is not None and torch.equal(grad, other) for grad, other in zip(*results))


def test_options_of_the_resnet():
    model = narrow_resnet(50, out_indices=(0, 3), frozen_stages=1, norm_eval=True, temporal_strides=(1, 1, 1, 1))
    outs = model.train()(torch.rand(1, 3, 4, 64, 64))
    assert [tuple(out.shape) for out in outs] == [(1, 32, 2, 16, 16), (1, 256, 2, 2, 2)]
    frozen = {key.split('.')[0] for key, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {'conv1', 'bn1', 'layer1'}
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm3d))
    assert narrow_resnet(num_stages=2)(torch.rand(1, 3, 4, 32, 32)).shape == (1, 16, 1, 4, 4)
    assert narrow_resnet(50, style='caffe').layer2[0].conv1.stride == (2, 2, 2)


def test_options_of_the_densenet():
    model = narrow_densenet(out_indices=(1, 3), frozen_stages=1, norm_eval=True)
    outs = model.train()(torch.rand(1, 3, 9, 64, 48))
    assert [tuple(out.shape[2:]) for out in outs] == [(4, 8, 6), (1, 2, 1)]
    assert outs[1].shape[1] == model.feat_dim
    frozen = {re.match(r'features\.(\w+)', key)[1] for key, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {'conv0', 'norm0', 'denseblock1', 'transition1'}
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm3d))
    assert not hasattr(narrow_densenet(out_indices=(0, 2)).features, 'denseblock4')
    assert all(not p.requires_grad for p in narrow_densenet(frozen_stages=4).parameters())


@pytest.mark.parametrize(
    ('make', 'options', 'words'),
    [
        (InflatedResNet, dict(depth=26), ('depth=26', '[18, 34, 50, 101, 152]')),
        (InflatedResNeXt, dict(depth=18), ('depth=18', '[50, 101, 152]')),
        (InflatedResNet, dict(depth=18, temporal_strides=(1, 2)), ('temporal_strides=(1, 2)', '4 stages')),
        (InflatedResNet, dict(depth=18, temporal_strides=(1, 2, 0, 2)), ('temporal_strides=(1, 2, 0, 2)',)),
        (InflatedResNet, dict(depth=18, pool_temporal_stride=0), ('pool_temporal_stride=0',)),
        (InflatedResNet, dict(depth=18, avg_down=True), ('avg_down=True', 'leave it out')),
        (InflatedResNet, dict(depth=18, out_indices=(4,)), ('out_indices=(4,)',)),
        (InflatedDenseNet, dict(depth=264), ('depth=264', '[121, 161, 169, 201]')),
        (InflatedDenseNet, dict(depth=121, out_indices=(4,)), ('out_indices=(4,)', '(0, 1, 2, 3)')),
        (InflatedDenseNet, dict(depth=121, frozen_stages=5), ('frozen_stages=5', '-1..4')),
    ],
)
def test_options_out_of_range(make, options, words):
    with pytest.raises(ValueError) as info:
        make(**options)
    assert all(word in str(info.value) for word in words), info.value


def test_clips_that_leave_nothing():
    model = narrow_densenet().eval()
    assert model(torch.rand(1, 3, 8, 29, 29)).shape[2:] == (1, 1, 1)
    for shape, where in (((7, 64, 64), 'transition3'), ((16, 28, 64), 'transition3'), ((1, 64, 64), 'transition1')):
        with pytest.raises(
            ValueError, match=f'before {where}, which halves all three; give at least 8 frames of 29 x 29'
        ):
            model(torch.rand(1, 3, *shape))
    assert narrow_resnet().eval()(torch.rand(1, 3, 1, 1, 1)).shape == (1, 64, 1, 1, 1)
    for network in (model, narrow_resnet()):
        with pytest.raises(
            ValueError, match=r'a clip has the shape \[N, C, T, H, W\], but the input has \[1, 3, 8, 8\]'
        ):
            network(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize('make', [lambda **o: narrow_resnet(50, **o), narrow_densenet])
def test_layouts_agree_and_fusing_too(make):
    torch.manual_seed(0)
    models = [make(channels_last=channels_last).eval() for channels_last in (True, False)]
    for module in models[0].modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    models[1].load_state_dict(models[0].state_dict())
    x = torch.rand(2, 3, 8, 64, 64)
    with torch.no_grad():
        last, first = (model(x) for model in models)
        fused = mmext.fuse(models[0])(x)
    for found in (last, fused):
        torch.testing.assert_close(found, first, rtol=1e-4, atol=1e-5 * first.abs().max().item())


@pytest.mark.parametrize('temporal_padding_mode', ['zeros', 'replicate'])
@pytest.mark.parametrize('kernel', [(1, 1, 1), (1, 3, 3), (3, 3, 3), (3, 1, 1)])
@pytest.mark.parametrize('stride', [(1, 1, 1), (2, 2, 2), (2, 1, 1)])
def test_every_form_of_the_convolution(kernel, stride, temporal_padding_mode):
    torch.manual_seed(0)
    padding = tuple(size // 2 for size in kernel)
    conv = InflatedConv3d(8, 6, kernel, stride, padding, groups=2, temporal_padding_mode=temporal_padding_mode)
    x = torch.rand(2, 8, 5, 7, 6)
    padded = nn.functional.pad(
        x,
        (0, 0, 0, 0, padding[0], padding[0]),
        mode='replicate' if temporal_padding_mode == 'replicate' else 'constant',
    )
    expected = nn.functional.conv3d(padded, conv.weight, conv.bias, stride, (0, *padding[1:]), groups=2)
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        given = x.clone(memory_format=layout).requires_grad_()
        out = conv(given)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
        out.sum().backward()
        assert given.grad.shape == x.shape
    assert 'replicate' in repr(conv) or temporal_padding_mode == 'zeros'


def test_settings_of_the_convolution_out_of_range():
    with pytest.raises(ValueError, match="temporal_padding_mode='reflect' is unknown"):
        InflatedConv3d(3, 4, 3, temporal_padding_mode='reflect')
    with pytest.raises(ValueError, match="padding_mode='circular'"):
        InflatedConv3d(3, 4, 3, padding_mode='circular')
    with pytest.raises(ValueError, match="padding='same'"):
        InflatedConv3d(3, 4, 3, padding='same')
    with pytest.raises(ValueError, match=r'\[N, C, T, H, W\]'):
        InflatedConv3d(3, 4, 3)(torch.rand(3, 8, 8, 8))


def with_statistics(model):
    """Give every norm statistics and weights of its own; return the model in evaluation mode."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm3d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.1)
    return model.eval()


@pytest.mark.parametrize('make', [narrow_resnet, narrow_densenet])
def test_fused_in_inference_mode(make):
    model = with_statistics(make())
    x = torch.rand(1, 3, 8, 64, 64)
    with torch.inference_mode():
        expected, inside = model(x), mmext.fuse(model)(x)
    fused = mmext.fuse(model)
    with torch.inference_mode():
        outside = fused(x)
    for found in (inside, outside):
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize('make', [narrow_resnet, narrow_densenet])
def test_traced_in_one_graph(make):
    model = with_statistics(make())
    traced = torch.compile(model, fullgraph=True, backend='eager')
    x = torch.rand(2, 3, 32, 64, 64)
    with torch.no_grad():
        expected = model(x)
        assert (traced(x) - expected).abs().max() < 1e-5 * expected.abs().max()
        program = torch.export.export(model, (x,))
        assert (program.module()(x) - expected).abs().max() < 1e-5 * expected.abs().max()
    torch.compiler.reset()


@pytest.mark.parametrize('training', [True, False])
def test_hooks_on_parts_of_a_block_are_called(training):
    """Such as those of mmaction2's Grad-CAM, which looks at backbone/layer4/1/relu."""
    model = narrow_resnet().train(training)
    seen = []
    for name in ('relu', 'layer4.1.relu', 'layer4.0.downsample'):
        model.get_submodule(name).register_forward_hook(lambda *args, name=name: seen.append(name))
    model(torch.rand(1, 3, 8, 64, 64))
    assert seen == ['relu', 'layer4.0.downsample', 'layer4.1.relu']
