"""What all backbones have in common: documented defaults, training by default, freezing, recomputation, their start."""

import ast
import inspect
import re

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmext import layers, models
from mmext.models import ICResNet, ICResNeXt, InflatedDenseNet, InflatedResNet, RedNet, WiderResNet
from mmext.models.resnet_skeleton import ResidualBlock, ResNetSkeleton
from mmext.models.wider_resnet import PreActivationBlock
from mmext.ops import inception_conv2d, involution

IMAGE, CLIP = (2, 3, 64, 64), (2, 3, 8, 64, 64)
# backbone -> how to make a narrow one, its input, the first parts in the order in which they are frozen
BACKBONES = {
    'RedNet': (lambda **o: RedNet(26, stem_channels=32, base_channels=16, **o), IMAGE, ['stem', 'layer1', 'layer2']),
    'ICResNet': (
        lambda **o: ICResNet(50, 'uniform', stem_channels=16, base_channels=16, **o),
        IMAGE,
        ['conv1', 'layer1', 'layer2'],
    ),
    'ICResNeXt': (
        lambda **o: ICResNeXt(50, 'uniform', groups=4, width_per_group=8, stem_channels=16, **o),
        IMAGE,
        ['conv1', 'layer1', 'layer2'],
    ),
    'WiderResNet': (lambda **o: WiderResNet('A1', width=1 / 16, **o), IMAGE, ['conv1', 'level2', 'level3']),
    'InflatedResNet': (
        lambda **o: InflatedResNet(50, stem_channels=8, base_channels=8, **o),
        CLIP,
        ['conv1', 'layer1', 'layer2'],
    ),
    'InflatedDenseNet': (
        lambda **o: InflatedDenseNet(121, growth=4, stem_channels=8, **o),
        CLIP,
        ['features.conv0', 'features.denseblock1', 'features.denseblock2'],
    ),
}
every_backbone = pytest.mark.parametrize('name', BACKBONES)


def norms(model):
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@every_backbone
def test_everything_trains_by_default(name):
    make, shape, _ = BACKBONES[name]
    model = make().train()
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    before = [norm.running_mean.clone() for norm in norms(model)]
    assert len(before) > 10
    model(torch.randn(shape))
    unmoved = [n for n, (norm, mean) in enumerate(zip(norms(model), before)) if torch.equal(norm.running_mean, mean)]
    assert not unmoved


@every_backbone
def test_norm_eval_keeps_statistics_and_trains_weights(name):
    make, shape, _ = BACKBONES[name]
    model = make(norm_eval=True).train()
    before = [norm.running_mean.clone() for norm in norms(model)]
    outs = model(torch.randn(shape))
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms(model), before, strict=True))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(norm.training for norm in norms(model))
    assert any(module.training for module in model.modules() if not list(module.children()))
    outs = outs if isinstance(outs, tuple) else (outs,)
    assert all(out.requires_grad for out in outs)
    assert all(norm.training for norm in norms(make(norm_eval=False).train()))


@every_backbone
@pytest.mark.parametrize('stages', [-1, 0, 1, 2])
def test_frozen_stages_are_these_and_no_others(name, stages):
    make, _, parts = BACKBONES[name]
    model = make(frozen_stages=stages).train()
    count = stages + 1
    if name == 'WiderResNet':  # whose levels count the first convolution
        count = max(stages, 0)
    for number, part in enumerate(parts):
        module = model.get_submodule(part)
        assert all(parameter.requires_grad == (number >= count) for parameter in module.parameters()), part
        assert module.training == (number >= count), part


def saved_bytes(model, x):
    """What a forward pass in training keeps for the backward pass."""
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    weights = {parameter.data_ptr() for parameter in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(x)
    assert out is not None
    return sum(size for pointer, size in kept.items() if pointer not in weights)


@every_backbone
def test_recomputation_keeps_less(name):
    make, shape, _ = BACKBONES[name]
    x = torch.randn(shape)
    plain, saving = (saved_bytes(make(with_cp=with_cp).train(), x) for with_cp in (False, True))
    assert saving < 0.7 * plain
    assert saved_bytes(make().train(), x) == plain


@every_backbone
def test_convolutions_start_with_the_published_spread(name):
    make, _, _ = BACKBONES[name]
    torch.manual_seed(0)
    model = make()
    model.init_weights()
    fan_in = name in ('WiderResNet', 'InflatedDenseNet')  # N(0, 2 / fan_in), the others fan out
    ratios = []
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)) and module.weight.numel() >= 1500 and module.groups == 1:
            fan = module.weight[0].numel() if fan_in else module.weight[:, 0].numel()
            ratios.append(module.weight.std().item() * (fan / 2) ** 0.5)
    assert len(ratios) >= 5
    assert all(ratio == pytest.approx(1, abs=0.1) for ratio in ratios), ratios
    last = {id(block.last_norm) for block in model.modules() if isinstance(block, ResidualBlock)}
    assert all(norm.weight.eq(0 if id(norm) in last else 1).all() for norm in norms(model))
    assert all(norm.bias.eq(0).all() for norm in norms(model))


@pytest.mark.parametrize('name', ['RedNet', 'ICResNet', 'ICResNeXt'])
def test_blocks_start_as_the_identity_only_where_asked_to(name):
    for zero in (True, False):
        model = BACKBONES[name][0](zero_init_residual=zero)
        model.init_weights()
        for block in (module for module in model.modules() if isinstance(module, ResidualBlock)):
            assert block.last_norm.weight.eq(0 if zero else 1).all()


PUBLIC = [
    *(getattr(layers, name) for name in layers.__all__),
    *(getattr(models, name) for name in models.__all__),
    ResNetSkeleton,
    ResidualBlock,
    PreActivationBlock,
    involution,
    inception_conv2d,
]
ARGUMENT = re.compile(r'^    (\w+) \(.*?\): (.*?)(?=^    \S|\Z)', re.DOTALL | re.MULTILINE)
DEFAULT = re.compile(r"Default:\s+(``[^`]+``|'[^']*'|\([^)]*\)|-?[\w.]*\w)")


def documented_defaults(documented):
    """{argument: default} of a docstring, as far as it is a literal or a dict(...), not words."""
    section = re.search(r'^Args:\n(.*?)(?=^\S|\Z)', inspect.getdoc(documented), re.DOTALL | re.MULTILINE)
    found = {}
    for name, words in ARGUMENT.findall(section[1]):
        default = DEFAULT.search(words)
        if default is None or re.fullmatch(r'(?!None|True|False)[A-Za-z]+', default[1]):
            continue
        value = default[1].strip('`')
        if value.startswith('dict('):
            call = ast.parse(value, mode='eval').body
            found[name] = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        else:
            found[name] = ast.literal_eval(value)
    return found


@pytest.mark.parametrize('documented', PUBLIC, ids=lambda documented: documented.__name__)
def test_defaults_are_those_of_the_docstring(documented):
    told = documented_defaults(documented)
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(documented).parameters.items()
        if parameter.default is not parameter.empty
    }
    assert {name: defaults[name] for name in told if name in defaults} == {
        name: value for name, value in told.items() if name in defaults
    }
    of_bases = {}
    for base in inspect.getmro(documented)[1:] if inspect.isclass(documented) else ():
        if base.__module__.startswith('mmext') and 'Args:' in (base.__doc__ or ''):
            of_bases |= documented_defaults(base)
    silent = {name for name in defaults if name not in told and name not in of_bases and name != 'init_cfg'}
    assert not silent, f'the docstring does not say the default of {sorted(silent)}'
    if documented is ICResNet:  # names them for its own use; the options are those of the base
        assert {name: defaults[name] for name in ('num_stages', 'base_channels')} == dict(
            num_stages=4, base_channels=64
        )


def test_defaults_are_found_in_docstrings():
    assert documented_defaults(WiderResNet) == dict(
        output_stride=32,
        in_channels=3,
        width=1,
        out_indices=(6,),
        dropout=(0, 0),
        pooling='ceil',
        frozen_stages=-1,
        conv_cfg=None,
        norm_cfg=dict(type='BN', eps=1.001e-5, requires_grad=True),
        norm_eval=False,
        with_cp=False,
        init_cfg=None,
    )
    assert set(documented_defaults(ICResNeXt)) == {'groups', 'width_per_group'}
