import copy
import io
import pickle

import golden
import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer, fuse_conv_bn
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mmext.layers.inception_conv import InceptionConv2d
from mmext.patterns import PatternError

RUNS = ((1, 1, 7), (3, 2, 4), (1, 4, 5))
CFG = dict(type='mmext.InceptionConv2d', pattern='uniform')


def published_state(layer):
    """The layer's weights as the published code names them."""
    state, first = {}, 0
    for index, (_, _, channels) in enumerate(layer.pattern or [(1, 1, layer.out_channels)]):
        for name, value in layer.state_dict().items():
            state[f'conv_list.{index}.{name}'] = value[first : first + channels].clone()
        first += channels
    return state


@pytest.mark.parametrize('name', golden.names('ic_conv', 'layer_*'))
@pytest.mark.parametrize('backend', ['cpu', 'reference'])
def test_golden(name, backend):
    case = golden.Case('ic_conv', name)
    options = dict(case['options'])
    pattern = options.pop('counts')
    if backend == 'cpu':
        pytest.importorskip('numba')
        backend = 'cpu' if options.get('groups', 1) == 1 else None  # the compiled backend takes no groups
    layer = InceptionConv2d(**options, pattern=pattern, backend=backend)
    assert [(key, tuple(value.shape)) for key, value in published_state(layer).items()] == case.keys_and_shapes()
    case.load(layer)
    inputs = case.inputs()
    x = inputs['x'].requires_grad_()
    out = layer(x)
    out.backward(inputs['grad_out'])
    case.check('out', out)
    case.check('grad_x', x.grad)
    first = 0
    for index, (_, _, channels) in enumerate(pattern):
        for key, parameter in layer.named_parameters():
            case.check(f'grad/conv_list.{index}.{key}', parameter.grad[first : first + channels])
        first += channels
    case.check_complete()


@pytest.mark.parametrize('backend', ['cpu', 'reference'])
def test_dilations_of_rows_and_columns(backend):
    """The network's dilation multiplies the pattern's, each side its own, also where it is set afterwards."""
    layer = InceptionConv2d(2, 4, 3, dilation=(1, 3), pattern=((2, 1, 1), (1, 2, 3)), bias=False, backend=backend)
    x = torch.randn(1, 2, 15, 16)
    for factors in ((1, 3), (2, 1)):
        layer.dilation = factors
        with torch.no_grad():
            out = layer(x)
        first = 0
        for h, w, channels in layer.pattern:
            dilation = h * factors[0], w * factors[1]
            filters = layer.weight[first : first + channels].detach()
            expected = nn.functional.conv2d(x, filters, padding=dilation, dilation=dilation)
            torch.testing.assert_close(out[:, first : first + channels], expected, rtol=1e-4, atol=1e-5)
            first += channels


def test_state_dict_is_that_of_a_convolution():
    layer = InceptionConv2d(6, 16, 3, pattern=RUNS)
    conv = nn.Conv2d(6, 16, 3)
    assert {k: v.shape for k, v in layer.state_dict().items()} == {k: v.shape for k, v in conv.state_dict().items()}
    layer.load_state_dict(conv.state_dict())
    assert torch.equal(layer.weight, conv.weight)


@pytest.mark.parametrize('bias', [True, False])
def test_published_keys_load(bias):
    source, target = (nn.Sequential(nn.ReLU(), InceptionConv2d(6, 16, 3, bias=bias, pattern=RUNS)) for _ in range(2))
    state = {f'1.{key}': value for key, value in published_state(source[1]).items()}
    before = dict(state)
    assert str(target.load_state_dict(state, strict=True)) == '<All keys matched successfully>'
    assert state.keys() == before.keys()
    assert torch.equal(target[1].weight, source[1].weight)
    x = torch.rand(1, 6, 8, 8)
    torch.testing.assert_close(target(x), source(x))


def test_published_keys_load_into_an_ordinary_convolution():
    source = InceptionConv2d(6, 16, 1, pattern='uniform')
    target = InceptionConv2d(6, 16, 1, pattern='uniform')
    target.load_state_dict(published_state(source))
    assert torch.equal(target.weight, source.weight)
    assert torch.equal(target.bias, source.bias)


def test_published_keys_load_as_mmengine_does():
    source, target = (nn.Sequential(InceptionConv2d(6, 16, 3, pattern=RUNS)) for _ in range(2))
    load_state_dict(target, {f'0.{key}': value for key, value in published_state(source[0]).items()}, strict=True)
    assert torch.equal(target[0].weight, source[0].weight)


def test_keys_that_do_not_fit():
    layer = InceptionConv2d(6, 16, 3, pattern=RUNS)
    weight = layer.weight.detach().clone()
    state = published_state(layer)
    del state['conv_list.1.weight'], state['conv_list.2.bias']
    state['conv_list.3.weight'] = torch.zeros(1, 6, 3, 3)
    state = {key: value + 1 for key, value in state.items()}
    result = layer.load_state_dict(state, strict=False)
    assert result.missing_keys == ['conv_list.1.weight', 'conv_list.2.bias']
    assert torch.equal(layer.weight, weight)
    with pytest.raises(RuntimeError) as caught:
        layer.load_state_dict(state)
    assert 'Missing key(s) in state_dict: "conv_list.1.weight", "conv_list.2.bias"' in str(caught.value)
    assert 'Unexpected key(s) in state_dict: "conv_list.3.weight"' in str(caught.value)


def test_weights_of_another_pattern():
    layer = InceptionConv2d(6, 16, 3, bias=False, pattern=RUNS)
    state = published_state(InceptionConv2d(6, 16, 3, bias=False, pattern=[(1, 1, 8), (3, 2, 3), (1, 4, 5)]))
    message = (
        r'size mismatch for conv_list\.0\.weight: the checkpoint has shape \[8, 6, 3, 3\], run 0 of the pattern needs '
        r'\[7, 6, 3, 3\]; give the pattern that the checkpoint was trained with'
    )
    with pytest.raises(RuntimeError, match=message):
        layer.load_state_dict(state)


def test_both_kinds_of_keys():
    layer = InceptionConv2d(6, 16, 3, bias=False, pattern=RUNS)
    state = {**layer.state_dict(), **published_state(layer)}
    assert len(layer.load_state_dict(state, strict=False).unexpected_keys) == 3


def test_copies_and_files():
    layer = InceptionConv2d(6, 16, 3, pattern=RUNS, dilation=2)
    x = torch.rand(1, 6, 8, 8)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False),
    ):
        assert other.pattern == RUNS
        torch.testing.assert_close(other(x), layer(x))


def test_layers_are_independent():
    x = torch.rand(1, 6, 9, 9)
    weight, outs = torch.rand(16, 6, 3, 3), []
    layers = [InceptionConv2d(6, 16, 3, bias=False, pattern=[(d, d, 16)]) for d in (1, 2, 3)]
    for layer in layers:
        nn.init.zeros_(layer.weight)
        layer.load_state_dict(dict(weight=weight))
    for dilation, layer in enumerate(layers, 1):
        outs.append(layer(x))
        torch.testing.assert_close(outs[-1], nn.functional.conv2d(x, weight, None, 1, dilation, dilation))
    assert not torch.allclose(outs[0], outs[1])


def test_the_networks_dilation_multiplies():
    layer = InceptionConv2d(2, 4, 3, padding=2, dilation=2, pattern=[(1, 2, 4)])
    x = torch.zeros(1, 2, 13, 13, requires_grad=True)
    layer(x)[0, 0, 6, 6].backward()
    rows, columns = x.grad[0, 0].nonzero().T.tolist()
    assert set(rows) == {4, 6, 8}
    assert set(columns) == {2, 6, 10}
    assert layer.pattern == ((1, 2, 4),)


def test_height_and_width_are_told_apart():
    """Dilations of the network and of the pattern, and strides, that differ along height and width."""
    layer = InceptionConv2d(2, 4, 3, (2, 1), padding=(2, 3), dilation=(2, 3), pattern=[(1, 2, 4)])
    x = torch.randn(1, 2, 15, 17)
    expected = nn.functional.conv2d(x, layer.weight, layer.bias, (2, 1), (2, 6), (2, 6))
    assert expected.shape == (1, 4, 8, 17)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r'takes padding=\(2, 3\); leave it out'):
        InceptionConv2d(2, 4, 3, padding=(3, 2), dilation=(2, 3), pattern=[(1, 2, 4)])


@pytest.mark.parametrize('stride', [1, 2, (1, 3)])
@pytest.mark.parametrize('kernel_size', [1, 3, 5])
def test_any_size_rounds_up(kernel_size, stride):
    layer = InceptionConv2d(3, 16, kernel_size, stride, pattern=RUNS)
    strides = (stride, stride) if isinstance(stride, int) else stride
    for size in ((7, 9), (1, 1), (8, 5)):
        assert list(layer(torch.rand(2, 3, *size)).shape[2:]) == [-(-n // s) for n, s in zip(size, strides)]


def test_mixed_precision():
    layer = InceptionConv2d(6, 16, 3, pattern=RUNS)
    x = torch.rand(2, 6, 9, 9)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(out.float(), layer(x), rtol=2e-2, atol=2e-2)


def test_rules_make_ordinary_convolutions_of_all_but_3x3():
    assert build_conv_layer(CFG, 8, 64, 3, padding=1).pattern[0] == (1, 1, 32)
    for args, options in (
        ((8, 64, 1), {}),
        ((3, 64, 7), dict(stride=2, padding=3)),
        ((8, 64, 2), dict(stride=2)),
        ((64, 64, 3), dict(padding=1, groups=64)),
        ((8, 64, (1, 3)), dict(padding=(0, 1))),
    ):
        layer, conv = build_conv_layer(CFG, *args, **options), nn.Conv2d(*args, **options)
        assert layer.pattern is None
        layer.load_state_dict(conv.state_dict())
        x = torch.rand(1, args[0], 8, 8)
        torch.testing.assert_close(layer(x), conv(x))
    assert 'ordinary' in repr(layer)


def test_rules_with_options_and_groups():
    layer = build_conv_layer(
        dict(CFG, pattern=dict(rule='proportional', max_dilation=2, undilated=0.25)), 32, 64, 3, padding=1, groups=8
    )
    assert layer.pattern == ((1, 1, 16), (1, 2, 24), (2, 1, 16), (2, 2, 8))
    assert layer(torch.rand(1, 32, 5, 5)).shape == (1, 64, 5, 5)
    assert '4 runs' in repr(layer)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(pattern='detection_r50_k9'),
            "'detection_r50_k9' is no rule of one layer .the pattern of a whole network",
        ),
        (dict(pattern='unifrm'), 'give one of uniform, proportional'),
        (dict(pattern=dict(max_dilation=4)), 'is no rule of one layer'),
        (dict(pattern=dict(rule='uniform', maximum=4)), "the unknown key 'maximum'; known are rule, max_dilation"),
        (dict(pattern=dict(rule='uniform', undilated=2)), 'undilated=2: a share from 0 to 1'),
        (dict(pattern=[(1, 1, 7)]), 'add up to 7, out_channels=16'),
        (dict(pattern=[(1, 1, -1), (1, 2, 17)]), 'pattern has the run .1, 1, -1.'),
        (dict(pattern=[]), 'pattern has no channels'),
        (dict(pattern=RUNS, groups=2), r'run \(1, 1, 7\) of the pattern has 7 channels, no multiple of groups=2'),
        (dict(pattern=RUNS, kernel_size=4), r'kernel_size=\(4, 4\): .* square kernel of odd size'),
        (dict(pattern=RUNS, kernel_size=(1, 3)), r'kernel_size=\(1, 3\)'),
        (
            dict(pattern=RUNS, padding=0),
            'padding=0 with kernel_size=3 and dilation=1: .* takes padding=1; leave it out',
        ),
        (dict(pattern=RUNS, padding=1, dilation=2), 'takes padding=2'),
        (dict(pattern='uniform', padding='same'), "padding='same'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        InceptionConv2d(**{**dict(in_channels=4, out_channels=16, kernel_size=3), **options})
    assert issubclass(PatternError, ValueError)


def test_batch_norm_can_be_fused():
    module = ConvModule(4, 32, 3, padding=1, conv_cfg=CFG, norm_cfg=dict(type='BN')).eval()
    nn.init.uniform_(module.bn.running_mean)
    nn.init.uniform_(module.bn.weight)
    x = torch.rand(1, 4, 8, 8)
    before = module(x)
    torch.testing.assert_close(fuse_conv_bn(module)(x), before, rtol=1e-4, atol=1e-5)


def test_in_a_resnet_of_mmdet():
    resnet = pytest.importorskip('mmdet.models.backbones').ResNet
    model = resnet(
        50, conv_cfg=CFG, base_channels=16, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), zero_init_residual=False
    )
    model.init_weights()
    inception = {name: module for name, module in model.named_modules() if getattr(module, 'pattern', None)}
    assert len(inception) == 16
    assert all(name.endswith('conv2') for name in inception)
    assert inception['layer3.0.conv2'].dilation == (1, 1)
    assert inception['layer4.1.conv2'].dilation == (2, 2)
    # Kaiming initialisation reaches them as it does any convolution
    assert inception['layer1.0.conv2'].weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.1)
    outs = model(torch.rand(1, 3, 64, 64))
    assert [tuple(out.shape[1:]) for out in outs] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 4, 4)]
    sum(out.sum() for out in outs).backward()
    assert all(module.weight.grad.abs().sum() > 0 for module in inception.values())


def test_in_a_unet_of_mmseg():
    models = pytest.importorskip('mmseg.registry').MODELS
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = models.build(dict(type='UNet', base_channels=16, conv_cfg=dict(CFG, pattern='proportional')))
    inception = [module for module in model.modules() if getattr(module, 'pattern', None)]
    assert len(inception) == 18
    outs = model(torch.rand(1, 3, 32, 48))
    assert [out.shape[2:] for out in outs][-1] == (32, 48)
    sum(out.sum() for out in outs).backward()
    assert all(module.weight.grad.abs().sum() > 0 for module in inception)
