import copy
import pickle

import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import mmext
from mmext.models import InflatedDenseNet, InflatedResNet, InflatedResNeXt
from mmext.models.packed_resnet import PackedInflatedResNet
from mmext.utils.configs import build_model


def network(**options):
    torch.manual_seed(0)
    kind = InflatedResNeXt if 'groups' in options else InflatedResNet
    options = dict(dict(depth=50, stem_channels=8, base_channels=8), **options)
    model = kind(**options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def outputs(model, clip):
    with torch.no_grad():
        outs = model(clip)
    return outs if isinstance(outs, tuple) else (outs,)


def assert_same(model, other, clip):
    for one, two in zip(outputs(model, clip), outputs(other, clip), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5 * two.abs().max().item())
        assert one.layout is torch.strided


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(depth=18),
        dict(out_indices=(0, 2)),
        dict(num_stages=2),
        dict(style='caffe'),
        dict(in_channels=2),
        dict(groups=4, width_per_group=4, base_channels=64),
        dict(dilations=(1, 1, 1, 2), strides=(1, 2, 2, 1)),
    ],
)
@pytest.mark.parametrize('shape', [(2, 8, 40, 33), (1, 1, 32, 32), (1, 3, 17, 64)])
def test_packed_is_the_network(options, shape):
    model = network(**options)
    packed = mmext.fuse(model, pack=True)
    assert type(packed) is PackedInflatedResNet
    count, *size = shape
    assert_same(packed, model, torch.rand(count, options.get('in_channels', 3), *size))


def test_copies_are_packed_networks():
    model = network()
    packed = mmext.fuse(model, pack=True)
    clip = torch.rand(1, 3, 4, 32, 32)
    expected = packed(clip)
    calls = []
    packed.register_forward_hook(lambda *_: calls.append(1))
    for other in (copy.deepcopy(packed), copy.copy(packed)):
        assert torch.equal(other(clip), expected)
    assert len(calls) == 2  # the copies have the hook of the network itself
    packed._forward_hooks.clear()
    assert torch.equal(pickle.loads(pickle.dumps(packed))(clip), expected)


def test_later_changes_of_the_network_do_not_reach_the_packed_one():
    model = network()
    packed = mmext.fuse(model, pack=True)
    clip = torch.rand(1, 3, 4, 32, 32)
    expected = packed(clip)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(packed(clip), expected)
    assert not list(packed.parameters())
    assert not list(packed.buffers())
    assert not list(packed.children())


def test_part_of_a_recogniser():
    pytest.importorskip('mmaction')
    backbone = dict(type='mmext.InflatedResNet', depth=18, base_channels=8, stem_channels=8)
    head = dict(type='I3DHead', num_classes=3, in_channels=64)
    cfg = Config(dict(default_scope='mmaction', model=dict(type='Recognizer3D', backbone=backbone, cls_head=head)))
    model = build_model(cfg).eval()
    clips = torch.rand(1, 1, 3, 4, 32, 32)
    packed = mmext.fuse(model, example=dict(inputs=clips), pack=True)
    assert type(packed.backbone) is PackedInflatedResNet
    torch.testing.assert_close(packed(clips), model(clips), rtol=1e-4, atol=1e-6)


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def under_mode(model, clip):
    with Mode():
        model(clip)


def test_what_needs_gradients_parts_or_another_device_raises():
    packed = mmext.fuse(network(depth=18), pack=True)
    clip = torch.rand(1, 3, 4, 32, 32)
    assert packed.eval() is packed
    assert packed.cpu() is packed
    assert packed.float() is packed
    for run, reason in (
        (lambda: packed.train(), 'cannot be trained'),
        (lambda: packed.half(), 'stays on the CPU'),
        (lambda: packed.to('meta'), 'stays on the CPU'),
        (lambda: packed.state_dict(), 'has no state dict'),
        (lambda: nn.Sequential(packed).state_dict(), 'has no state dict'),
        (lambda: packed.load_state_dict({}), 'loads no state dict'),
        (lambda: packed(clip.clone().requires_grad_()), 'requires a gradient'),
        (lambda: torch.vmap(packed)(clip[None]), 'torch.func'),
        (lambda: under_mode(packed, clip), 'TorchDispatchMode'),
        (lambda: torch.jit.trace(packed, clip), 'traced'),
    ):
        with pytest.raises(RuntimeError, match=reason):
            run()
    for name in ('layer1', 'conv1', 'relu'):
        with pytest.raises(AttributeError, match=f'{name} is packed.*mmext.fuse'):
            getattr(packed, name)
    with pytest.raises(AttributeError, match='no_such_name'):
        packed.no_such_name  # noqa: B018
    for wrong, reason in ((clip[0], 'N, C, T, H, W'), (clip.double(), 'float64'), (clip.half(), 'x.float')):
        with pytest.raises(ValueError, match=reason):
            packed(wrong)


def test_autocast_leaves_it_in_float32():
    packed = mmext.fuse(network(depth=18), pack=True)
    clip = torch.rand(1, 3, 4, 32, 32)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(packed(clip), packed(clip.clone()))
        assert packed(clip).dtype == torch.float32


class Doubled(nn.Conv3d):
    def _conv_forward(self, x, weight, bias):
        return 2 * super()._conv_forward(x, weight, bias)


@pytest.mark.filterwarnings('ignore:mmext.fuse leaves')
def test_convolution_with_a_forward_of_its_own():
    model = network(depth=18)
    model.layer2[0].conv1.__class__ = Doubled
    assert_same(mmext.fuse(model, pack=True), model, torch.rand(1, 3, 4, 32, 32))


def test_what_cannot_be_packed():
    hooked = network(depth=18)
    hooked.layer1[0].relu.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r'layer1\.0\.relu has hooks'):
        mmext.fuse(hooked, pack=True)
    with pytest.raises(ValueError, match=r'float64 on cpu.*float'):
        mmext.fuse(network(depth=18).double(), pack=True)
    with pytest.raises(ValueError, match='has no part to pack'):
        mmext.fuse(InflatedDenseNet(121, growth=4, stem_channels=8), pack=True)
    activated = network(depth=18)
    activated.layer2[0].relu1 = nn.Softplus()
    with pytest.raises(ValueError, match='does not run in the layout of oneDNN'):
        mmext.fuse(activated, pack=True)
