"""Rules, and what is said about mistakes in them and about networks that cannot be inflated."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from network_helpers import assert_still_clips, filled
from torch import nn

import mmext
from mmext.layers import InceptionConv2d
from mmext.ops.inflate import InflatedConv3d

SIZE = 12


def small(**layers):
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))


def kernels(network):
    return [module.kernel_size[0] for module in network.modules() if isinstance(module, InflatedConv3d)]


@pytest.mark.parametrize(
    ('rules', 'expected'),
    [
        (None, [1, 1]),
        ({'0': dict(temporal_kernel=5)}, [5, 1]),
        ({nn.Conv2d: dict(temporal_kernel=3)}, [3, 3]),
        ({'*': dict(temporal_kernel=3), '3': dict(temporal_kernel=7)}, [3, 7]),
        ({nn.Conv2d: dict(temporal_kernel=3), '[3-9]': {}}, [3, 1]),
        ({'0': dict(temporal_kernel=3), '*': dict(temporal_kernel=5)}, [3, 5]),
        ({'0': 'frames'}, [1]),
    ],
)
def test_which_rule_counts(rules, expected):
    model = filled(small())
    network = mmext.inflate(model, rules, image_size=SIZE)
    assert kernels(network) == expected
    assert_still_clips(model, network, torch.randn(1, 3, SIZE, SIZE))


def test_temporal_kernel_worked_out():
    """A kernel over frames against the sum that defines it."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    network = mmext.inflate(model, {'0': dict(temporal_kernel=3, temporal_stride=2)}, image_size=SIZE)
    with torch.no_grad():
        network.get_submodule('0').weight.normal_()
    weight, bias = network.get_submodule('0').weight, network.get_submodule('0').bias
    clip = torch.randn(1, 3, 4, SIZE, SIZE)
    padded = F.pad(clip, (0, 0, 0, 0, 1, 1))
    frames = [
        sum(F.conv2d(padded[:, :, start + tap], weight[:, :, tap], padding=1) for tap in range(3)) for start in (0, 2)
    ]
    torch.testing.assert_close(network(clip), torch.stack(frames, 2) + bias[:, None, None, None])


def test_own_module():
    model = filled(small())

    def other(module):
        new = nn.Conv3d(3, 8, 1)
        nn.init.zeros_(new.weight)
        return new

    network = mmext.inflate(model, {'0': other}, image_size=SIZE)
    assert type(network.get_submodule('0')) is nn.Conv3d
    with pytest.raises(TypeError, match=r"the function for '0' returned None; it has to return an nn\.Module"):
        mmext.inflate(model, {'0': lambda module: None}, image_size=SIZE)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.block = Fourier()
        self.attention = nn.MultiheadAttention(5, 1)

    def forward(self, x):
        x = self.block(self.stem(x))
        x = torch.cummax(x, 1)[0]
        return self.attention(x[:, :, 0], x[:, :, 1], x[:, :, 2])[0]


class Fourier(nn.Module):
    def forward(self, x):
        return torch.fft.rfft2(x).abs().cumprod(1)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_all_places_are_named_at_once():
    with pytest.raises(ValueError, match='4 parts of Odd cannot be inflated') as info:
        mmext.inflate(Odd(), {'stem': dict(temporal_kernel=3)}, image_size=8)
    lines = str(info.value).splitlines()
    assert len(lines) == 5
    assert "torch.fft.rfft2 in 'block' has no 3D form; add rules={'block': 'frames'}" in lines[1]
    assert "torch.Tensor.cumprod in 'block' has no 3D form; add rules={'block': 'frames'}" in lines[2]
    assert 'cummax in the forward of the network has no 3D form; add rules={' in lines[3]
    assert (
        "'attention' (MultiheadAttention) is of a type that is not known; add rules={'attention': 'frames'}" in lines[4]
    )


def test_patterns_that_stand_for_several_places():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Fourier(), Fourier(), nn.Sequential(nn.Sequential(Fourier())))
    with pytest.raises(ValueError, match='cannot be inflated') as info:
        mmext.inflate(model, image_size=8)
    assert 'by patterns' not in str(info.value)  # '*' would name the convolution as well
    blocks = [nn.ModuleDict({'conv': nn.Conv2d(3, 3, 1), 'fourier_1': Fourier()}) for _ in range(2)]
    model = nn.Sequential(*(nn.Sequential(OrderedDict(block)) for block in blocks))
    with pytest.raises(ValueError, match='4 parts of Sequential cannot') as info:
        mmext.inflate(model, image_size=8)
    assert str(info.value).splitlines()[-1] == "  by patterns, several at once: rules={'*.fourier_*': 'frames'}"
    mmext.inflate(model, {'*.fourier_*': 'frames'}, image_size=8)


def pooled():
    """Layers 'conv', 'norm', 'pool', 'fc.0' and 'unused'."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    names = ('conv', 'norm', 'pool', 'flatten')
    net = nn.Sequential(OrderedDict(zip(names, net)))
    net.add_module('fc', nn.Sequential(nn.Linear(4, 2)))
    return net


@pytest.mark.parametrize(
    ('rules', 'message'),
    [
        ({'fc.0': dict(frames=4)}, r": 'fc\.0' exists, but time has been pooled away before it; leave this rule out"),
        ({'fc.?': dict(frames=4)}, r"'fc\.\?' names .*: 'fc\.0' exists, but time has been pooled away before it"),
        ({'n*': dict(temporal_kernel=3)}, r": 'norm' is a BatchNorm2d, which does not; leave this rule out"),
        ({'fc': 'frames', 'fc.0': 'frames'}, r"'fc' names nothing .*: 'fc' exists, but time has been pooled away"),
        (
            {'conv': 'frames', 'con*': 'frames'},
            r"'con\*' names .*: 'conv' exists, but a rule that comes first names it",
        ),
        ({'fd.0': 'frames'}, r": did you mean 'fc\.0'\?"),
    ],
)
def test_rules_that_name_nothing_with_time(rules, message):
    with pytest.raises(ValueError, match=message):
        mmext.inflate(pooled(), rules, image_size=SIZE)


def test_rules_for_what_is_not_called():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="'unused' exists, but forward does not call it"):
        mmext.inflate(Unused(), {'unused': 'frames'}, image_size=SIZE)
    mmext.inflate(Unused(), {nn.MaxPool2d: dict(temporal_kernel=2)}, image_size=SIZE)  # types may name nothing


def test_weights_that_are_shared():
    def tied():
        net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        net[1].weight = net[0].weight
        net[2].bias = net[2].weight
        return net

    wide = dict(temporal_kernel=3)
    network = mmext.inflate(tied(), {'?': wide}, image_size=SIZE)
    assert network.get_submodule('0').weight is network.get_submodule('1').weight
    assert network.get_submodule('2').weight is network.get_submodule('2').bias
    assert len(list(network.parameters())) == len(list(tied().parameters())) == 4
    with pytest.warns(
        UserWarning, match=r"'0\.weight' and '1\.weight' are one parameter in 2D and two in the inflated"
    ):
        network = mmext.inflate(tied(), {'0': wide}, image_size=SIZE)
    assert len(list(network.parameters())) == 5


def test_the_rules_that_are_named_help():
    model = filled(nn.Sequential(nn.Conv2d(3, 8, 1), Fourier(), Branching()))
    rules = {'1': 'frames', '2': 'frames'}
    assert_still_clips(model, mmext.inflate(model, rules, image_size=8), torch.randn(1, 3, 8, 8))

    class Sorted(nn.Module):
        def forward(self, x):
            return torch.fft.rfft2(x).abs().cumprod(1)

    model = Sorted()
    rules = {torch.fft.rfft2: 'frames', torch.Tensor.cumprod: 'frames'}
    network = mmext.inflate(model, rules, image_size=8)
    assert_still_clips(model, network, torch.rand(1, 3, 8, 8))


def test_control_flow():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(Branching()))
    message = r"'1\.0' \(Branching\) cannot be traced by torch\.fx: .* by rules={'1\.0': 'frames'}, or give a 3D module"
    with pytest.raises(ValueError, match=message):
        mmext.inflate(model, image_size=8)
    with pytest.raises(ValueError, match='the forward of Branching itself cannot be traced'):
        mmext.inflate(Branching(), image_size=8)


class BySize(nn.Module):
    def forward(self, x):
        return F.pad(x, (0, 1)) if x.shape[-1] % 2 else x


def test_branches_on_sizes_are_checked():
    network = mmext.inflate(BySize(), image_size=9)
    assert network(torch.rand(1, 3, 2, 9, 9)).shape == (1, 3, 2, 9, 10)
    with pytest.raises(ValueError, match=r'takes another branch for clips of this size .* inflate it with image_size'):
        network(torch.rand(1, 3, 2, 8, 8))


@pytest.mark.parametrize(
    ('rules', 'message'),
    [
        ({'0': dict(temporal_kernel=2)}, r"'0' \(Conv2d\): temporal_kernel=2 must be at least 1, and odd"),
        ({'0': dict(temporl_kernel=3)}, "'0' has the unknown option 'temporl_kernel': did you mean 'temporal_kernel'"),
        ({'1': dict(temporal_kernel=3)}, "'1' is a BatchNorm2d, which does not take temporal_kernel"),
        ({'0': dict(frames=3)}, "'0' is a Conv2d, which does not take frames; its options: temporal_kernel"),
        ({'conv1': dict(temporal_kernel=3)}, "'conv1' names nothing in Sequential that sees time"),
        ({F.adaptive_avg_pool2d: 'frames'}, 'adaptive_avg_pool2d names nothing in Sequential'),
    ],
)
def test_wrong_rules(rules, message):
    with pytest.raises(ValueError, match=message):
        mmext.inflate(small(), rules, image_size=SIZE)


@pytest.mark.parametrize(
    ('rules', 'message'),
    [
        ([], r'rules=\[\] must be a dict'),
        ({3: 'frames'}, 'the key 3 is no module name'),
        ({int: 'frames'}, r'the key .* is no module name'),
        ({'0': 'frame'}, "'0' has 'frame'; allowed is 'frames', a dict of options or a function of the module"),
        ({F.relu: dict(temporal_kernel=3)}, "allowed is 'frames' for a function"),
    ],
)
def test_wrong_types_of_rules(rules, message):
    with pytest.raises(TypeError, match=message):
        mmext.inflate(small(), rules, image_size=SIZE)


def test_inception_convolution_keeps_its_kernel():
    model = nn.Sequential(InceptionConv2d(3, 8, 3, pattern='uniform'))
    with pytest.raises(ValueError, match="'0' is a InceptionConv2d, which does not take temporal_kernel"):
        mmext.inflate(model, {'0': dict(temporal_kernel=3)}, image_size=SIZE)


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize(
    ('model', 'options', 'message'),
    [
        (TwoInputs(), {}, 'TwoInputs needs x, y; give a network whose forward takes an image alone'),
        (small(), dict(image_size=0), 'image_size=0 must be a number of pixels'),
        (small(), dict(image_size=(1, 2, 3, 4)), r'image_size=\(1, 2, 3, 4\) must be a number of pixels'),
        (
            nn.Sequential(nn.Conv2d(3, 8, 9)),
            dict(image_size=4),
            'does not run on images of 3 channels and 4 x 4 pixels',
        ),
    ],
)
def test_wrong_networks(model, options, message):
    with pytest.raises(ValueError, match=message):
        mmext.inflate(model, **options)
    with pytest.raises(TypeError, match=r'is a int; mmext\.inflate takes an nn\.Module'):
        mmext.inflate(3)


def test_a_module_with_and_without_time():
    shared = nn.Conv2d(3, 3, 1)

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = shared

        def forward(self, x):
            return self.conv(F.adaptive_avg_pool2d(self.conv(x), 1))

    with pytest.raises(ValueError, match="'conv' stands in two places, one of which has no time axis; use two modules"):
        mmext.inflate(Shared(), image_size=8)
