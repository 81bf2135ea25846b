import golden
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from wider_golden import Case, our_key

import mmext
from mmext.models import WiderResNet

CASES = golden.names('wider_resnet', 'a*') + golden.names('wider_resnet', 'fcn*')
TRAINED = [name for name in CASES if name.endswith('_train')]
# Differences of 38 layers in float32, relative to an array's largest value: 4e-6 at most. Of a softmax it is the
# difference of the scores that its exponential makes relative.
TOLERANCE = 1e-5


def narrow(arch='A1', **options):
    return WiderResNet(arch, **{**dict(width=1 / 16), **options})


@pytest.mark.parametrize('name', [name for name in CASES if name not in TRAINED])
def test_golden_forward(name):
    case = Case(name)
    with torch.no_grad():
        outputs = case.network()(case.image())
    errors = case.errors(outputs)
    scale = outputs['scores'].abs().max().item() if 'softmax' in errors else 1
    assert all(error < TOLERANCE * (scale if key == 'softmax' else 1) for key, error in errors.items()), errors


def step(case, dtype=torch.float32):
    """One training step: scores, {array of the case: gradient}, buffers before and after, all gradients."""
    network = case.network().train().to(dtype)
    before = {key: value.clone() for key, value in network.named_buffers()}
    image = case.image().to(dtype).requires_grad_()
    ties = {}
    network.backbone.bn7.register_forward_hook(lambda _, args, out: ties.update(bn7=out.detach().abs().amin((0, 2, 3))))
    scores = network(image)['scores']
    label = torch.from_numpy(case.arrays['label'])
    if scores.ndim == 4:  # mean over what is not ignored; the classification's golden gradients are those of a sum
        loss = F.cross_entropy(scores, label.view(-1, *scores.shape[2:]), ignore_index=255)
    else:
        loss = F.cross_entropy(scores, label, reduction='sum')
    loss.backward()
    parameters = dict(network.named_parameters())
    gradients = {}
    for key, expected in case.arrays.items():
        kind, _, name = key.rpartition('/')
        if key == 'grad/data':
            value = image.grad
            every = image.shape[2] // expected.shape[2]
            gradients[key] = value[:, :, ::every, ::every].numpy()
        elif kind in ('grad', 'grad_sub'):
            value = parameters[our_key(name)].grad
            gradients[key] = (value[::4, ::4] if kind == 'grad_sub' else value).numpy()
    return scores.detach(), gradients, before, network, ties


def distance(value, expected):
    """The length of the difference, relative to the expected array's."""
    return np.linalg.norm(value - expected) / np.linalg.norm(expected)


def test_golden_training_step_with_frozen_statistics():
    case = Case('fcn_a1_cls21_s8_train')
    scores, gradients, before, network, _ = step(case)
    assert np.abs(scores.numpy() - case.arrays['scores']).max() < TOLERANCE * np.abs(case.arrays['scores']).max()
    for key, value in gradients.items():
        expected = case.arrays[key]
        assert value.shape == expected.shape
        assert np.abs(value - expected).max() < 1e-4 * np.abs(expected).max(), key
    parameters = dict(network.named_parameters())
    lengths = {name: length for name, length in case['grad_l2'].items() if name != 'data'}
    assert {our_key(name) for name in lengths} == set(parameters)
    for name, length in lengths.items():
        assert parameters[our_key(name)].grad.double().norm().item() == pytest.approx(length, rel=1e-4), name
    for key, value in network.named_buffers():
        assert torch.equal(value, before[key]), key


def test_golden_training_step_with_batch_statistics():
    # Of some million ReLUs a few are within rounding of zero. Each that falls to the other side moves the gradients
    # before it by a visible amount, so that float32 and float64 of one and the same network differ by half a percent.
    # That is the tolerance which the arithmetic allows; it is measured here instead of chosen.
    case = Case('a1_cls1000_s32_train')
    scores, gradients, before, network, ties = step(case)
    assert np.abs(scores.numpy() - case.arrays['scores']).max() < 2e-5 * np.abs(case.arrays['scores']).max()
    uncertain = step(case, torch.float64)[1]
    for key, value in gradients.items():
        expected = case.arrays[key]
        assert value.shape == expected.shape
        if key in ('grad/bn7_gamma', 'grad/bn7_beta'):  # one of the 65,536 ReLUs behind it, 2e-5 from zero
            near = (ties['bn7'] < 3e-5).numpy()  # of values around 2
            assert near.sum() == 2
            value, expected = value[~near], expected[~near]
            assert distance(value, expected) < 1e-4, key
        elif key == 'grad/linear1000_bias':
            assert distance(value, expected) < TOLERANCE
        else:
            own = distance(value, uncertain[key])
            assert own < 0.01, key
            assert distance(value, expected) < 1.5 * own, key
    parameters = dict(network.named_parameters())
    for name, length in case['grad_l2'].items():
        if name != 'data':
            assert parameters[our_key(name)].grad.double().norm().item() == pytest.approx(length, rel=5e-3), name

    buffers = dict(network.named_buffers())
    for key, expected in case.arrays.items():
        if key.startswith('aux/'):
            name = our_key(key[4:])
            value = buffers[name]
            if name.endswith('var'):  # MXNet's is the biased variance of the batch, PyTorch's the unbiased one
                size = {'backbone.bn7': 4 * 2 * 2, 'backbone.level2': 4 * 64 * 64, 'backbone.level4': 4 * 8 * 8}
                count = next((n for start, n in size.items() if name.startswith(start)), 4 * 4 * 4)
                value = 0.9 * before[name] + (value - 0.9 * before[name]) * (count - 1) / count
            assert np.abs(value.numpy() - expected).max() < TOLERANCE * np.abs(expected).max(), key


@pytest.mark.parametrize('norm_eval', [False, True])
def test_recomputing_changes_nothing(norm_eval):
    torch.manual_seed(0)
    options = dict(output_stride=8, dropout=(0.3, 0.5), norm_eval=norm_eval, out_indices=(3, 6))
    plain, saving = narrow(**options), narrow(with_cp=True, **options)
    plain.init_weights()
    saving.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 40, 56)
    results = []
    for model in (plain, saving):
        torch.manual_seed(1)  # of the dropout
        model.train()
        sum(out.square().mean() for out in model(x)).backward()
        results.append([p.grad for p in model.parameters()] + list(model.buffers()))
    assert all(torch.equal(a, b) for a, b in zip(*results))
    assert all((norm.momentum, norm.track_running_stats) == (0.1, True) for norm in _norms(saving))


def _norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ('arch', 'output_stride', 'sizes'),
    [
        ('A', 32, (70, 35, 17, 8, 4, 2, 2)),
        ('A', 16, (70, 35, 17, 8, 4, 4, 4)),
        ('A1', 32, (70, 35, 18, 9, 5, 3, 3)),
        ('A1', 16, (70, 35, 18, 9, 5, 5, 5)),
        ('A1', 8, (70, 35, 18, 9, 9, 9, 9)),
        ('A2', 32, (70, 35, 17, 9, 5, 3, 3)),
        ('A2', 16, (70, 35, 17, 9, 5, 5, 5)),
        ('A2', 8, (70, 35, 17, 9, 9, 9, 9)),
    ],
)
def test_sizes_dilations_and_parameters(arch, output_stride, sizes):
    with torch.device('meta'):
        model = WiderResNet(arch, output_stride, out_indices=range(7))
        outs = model(torch.empty(1, 3, 70, 70))
    assert tuple(out.shape[2] for out in outs) == sizes
    assert [out.shape[1] for out in outs] == [64, 128, 256, 512, 1024, 2048, 4096]
    assert sum(p.numel() for p in model.parameters()) == 105_070_912  # facts: trunk only
    assert sum(b.numel() for key, b in model.named_buffers() if 'running' in key) == 47_744
    assert len(_norms(model)) == 37
    assert all(norm.eps == 1.001e-5 for norm in _norms(model))
    dilations = {
        8: dict(level5=(1, 2, 2, 2, 2, 2), level6=(1, 4, 1), level7=(1, 4, 1)),
        16: dict(level5=(1,) * 6, level6=(1, 2, 1), level7=(1, 2, 1)),
        32: dict(level5=(1,) * 6, level6=(1, 1, 1), level7=(1, 1, 1)),
    }[output_stride]
    for level, expected in dilations.items():
        convs = [m for key, m in getattr(model, level).named_modules() if '.conv' in key]
        assert tuple(conv.dilation[0] for conv in convs) == expected
        assert all(conv.padding[0] == conv.dilation[0] * (conv.kernel_size[0] // 2) for conv in convs)


@pytest.mark.parametrize(
    ('pooling', 'sizes'), [('ceil', (56, 28, 14, 7)), ('pad', (56, 28, 14, 7)), ('floor', (55, 27, 13, 6))]
)
def test_pooling_styles(pooling, sizes):
    with torch.device('meta'):
        outs = WiderResNet('A', pooling=pooling, out_indices=(2, 3, 4, 5))(torch.empty(1, 3, 224, 224))
    assert tuple(out.shape[2] for out in outs) == sizes


def test_shortcuts_take_the_shared_activation():
    model = narrow(out_indices=(1,)).eval()
    block = model.level2[0]
    block.requires_grad_(False)
    x = torch.randn(1, 4, 8, 8)
    activation = block.bn1(x).relu()
    branch = block.conv2(block.bn2(block.conv1(activation)).relu())
    torch.testing.assert_close(block(x), branch + block.shortcut(activation))
    block = model.level2[1]
    x = torch.randn(1, 8, 8, 8)
    branch = block.conv2(block.bn2(block.conv1(block.bn1(x).relu())).relu())
    torch.testing.assert_close(block(x), branch + x)  # without a convolution it is the input itself


def test_fused_for_inference():
    torch.manual_seed(0)
    model = narrow(out_indices=range(7)).eval()
    for norm in _norms(model):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 1.5)
    fused = mmext.fuse(model)
    assert len(_norms(fused)) == 1 + 17  # the norm before a block's first convolution and the last one stay
    x = torch.rand(1, 3, 64, 64)
    for out, expected in zip(fused(x), model(x)):
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_dropout_is_before_the_last_convolution_of_levels_6_and_7():
    model = narrow(dropout=(0.3, 0.5))
    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert {name: rate for name, rate in rates.items() if rate} == {'level6.0.dropout': 0.3, 'level7.0.dropout': 0.5}
    block = model.level7[0].train()
    seen = []
    block.dropout.register_forward_hook(lambda _, args, out: seen.append(out))
    block.conv3.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    block(torch.rand(1, 128, 4, 4))
    assert seen[0] is seen[1]


def test_levels_after_the_last_output_are_not_built():
    model = narrow(out_indices=(2, 4))
    assert not hasattr(model, 'level6')
    assert not hasattr(model, 'bn7')
    assert [tuple(out.shape) for out in model(torch.rand(1, 3, 33, 64))] == [(1, 16, 9, 16), (1, 64, 3, 4)]


def test_initialisation_as_published():
    torch.manual_seed(0)
    model = narrow(width=1 / 4)
    model.init_weights()
    for name in ('level4.2.conv1', 'level7.0.conv2', 'level6.0.shortcut'):
        weight = model.get_submodule(name).weight
        assert weight.std().item() == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.02), name
    assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in _norms(model))


def test_frozen_levels_and_statistics():
    model = narrow(frozen_stages=3, norm_eval=True)
    assert model.train() is model
    frozen = {key.split('.')[0] for key, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {'conv1', 'level2', 'level3'}
    assert not model.level3.training
    assert model.level4.training
    assert not any(norm.training for norm in _norms(model))
    assert all(p.requires_grad for p in narrow(frozen_stages=-1).parameters())
    assert not any(p.requires_grad for p in narrow(frozen_stages=7).parameters())


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(arch='B'), ("arch='B'", "'A', 'A1', 'A2'")),
        (dict(arch='A', output_stride=8), ('output_stride=8', '(16, 32)', "arch='A1'")),
        (dict(output_stride=4), ('output_stride=4', '(8, 16, 32)')),
        (dict(width=0), ('width=0', 'above 0')),
        (dict(out_indices=(7,)), ('out_indices=(7,)', '0..6')),
        (dict(out_indices=()), ('out_indices=()', '0..6')),
        (dict(dropout=(0.3,)), ('dropout=(0.3,)', 'two probabilities')),
        (dict(dropout=(0.3, 1.0)), ('dropout=(0.3, 1.0)', '[0, 1)')),
        (dict(pooling='caffe'), ("pooling='caffe'", "'ceil', 'floor', 'pad'")),
        (dict(frozen_stages=8), ('frozen_stages=8', '-1..7')),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(ValueError) as info:
        WiderResNet(**{'arch': 'A1', **options})
    assert all(word in str(info.value) for word in words), info.value


def test_an_image_too_small_for_the_pooling():
    model = narrow('A', pooling='floor').eval()
    assert model(torch.rand(1, 3, 63, 63))[0].shape[2:] == (1, 1)
    with pytest.raises(ValueError, match=r"40 x 63 pixels is 1 x 3 before level 6.*larger images or set pooling='pad'"):
        model(torch.rand(1, 3, 40, 63))
    assert narrow('A', pooling='pad').eval()(torch.rand(1, 3, 1, 1))[0].shape[2:] == (1, 1)
