import golden
import pytest
import torch
from torch import nn

from mmext.layers import InceptionConv2d
from mmext.models import ICResNet, ICResNeXt
from mmext.patterns import make_pattern

CLASSIFIERS = golden.names('ic_conv', 'ic_resnet*')
POSE = golden.names('ic_conv', 'pose_*')


class Classifier(nn.Module):
    """Backbone, global average pooling and linear layer under the key names of the published classifiers."""

    def __init__(self, backbone, classes):
        super().__init__()
        for name, module in backbone.named_children():
            self.add_module(name, module)
        self.fc = nn.Linear(backbone.feat_dim, classes)
        self.backbone = [backbone]  # in a list, so that its keys have no prefix

    def forward(self, x):
        stages = self.backbone[0](x)
        return self.fc(stages[-1].mean((2, 3))), stages


def sizes_of(state_dict):
    return sorted((key, tuple(value.shape)) for key, value in state_dict.items())


def published(model):
    """The state dict under the published keys: one convolution for each run of a pattern."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, InceptionConv2d):
            parts = state.pop(f'{name}.weight').split([run[2] for run in module.pattern])
            state |= {f'{name}.conv_list.{index}.weight': part for index, part in enumerate(parts)}
    return state


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_golden_classifiers(name):
    case = golden.Case('ic_conv', name)
    options = case['options']
    model = Classifier(ICResNet(options['depth'], options['pattern']), options.get('num_classes', 1000))
    assert sizes_of(published(model)) == sorted(case.keys_and_shapes())
    assert sum(p.numel() for p in model.parameters()) == case['params']
    case.load(model)
    with torch.no_grad():
        for key, x in case.inputs().items():
            logits, stages = model(x)
            case.check(f'{key}/logits', logits)
            for stage, out in enumerate(stages, 1):
                case.check(f'{key}/stage{stage}', out)
    case.check_complete()


@pytest.mark.parametrize('name', POSE)
def test_golden_pose_backbones(name):
    case = golden.Case('ic_conv', name)
    model = ICResNet(**case['options'], inception_convs=('conv2',))
    assert sizes_of(published(model)) == sorted(case.keys_and_shapes())
    assert sum(p.numel() for p in model.parameters()) == case['params']
    case.load(model)
    with torch.no_grad():
        for key, x in case.inputs().items():
            for stage, out in enumerate(model(x), 1):
                case.check(f'{key}/stage{stage}', out)
    case.check_complete()


def narrow(depth=18, **options):
    return ICResNet(depth, **{**dict(pattern='uniform', stem_channels=16, base_channels=16), **options})


@pytest.mark.parametrize('model', [narrow(), narrow(50), ICResNeXt(50, 'proportional', groups=4, width_per_group=8)])
def test_a_step_reaches_every_parameter(model):
    torch.manual_seed(0)
    model.init_weights()
    for name, parameter in model.named_parameters():
        if name.endswith(('bn2.weight', 'bn3.weight')) and not parameter.any():
            nn.init.ones_(parameter)  # zero_init_residual leaves nothing to learn from in the first step
    sum(out.square().mean() for out in model.train()(torch.randn(2, 3, 64, 64))).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_resnext_has_the_published_size():
    with torch.device('meta'):
        model = ICResNeXt(101, 'uniform', out_indices=(3,))
        model(torch.empty(1, 3, 64, 64))
    assert sum(p.numel() for p in model.parameters()) == 44_177_704 - 2_049_000  # ResNeXt-101 32x4d, without its fc


def test_two_networks_in_one_process_are_independent():
    torch.manual_seed(0)
    first = narrow(34, inception_convs=('conv2',)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = first(x)
        second = narrow(18, pattern=dict(rule='proportional', max_dilation=2)).eval()
        second(x)
        assert all(torch.equal(a, b) for a, b in zip(expected, first(x)))
    assert (first.pattern.max_dilation, second.pattern.max_dilation) == (4, 2)
    assert first.layer1[0].conv2.pattern == first.pattern[0]
    assert second.layer4[1].conv2.pattern == second.pattern[-1]
    assert type(first.layer1[0].conv1) is nn.Conv2d


def test_resnet_weights_load():
    """A pattern of dilation 1 alone is a ResNet, weights and outputs."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    resnet = resnet50().eval()
    model = ICResNet(50, dict(rule='uniform', undilated=1.0)).eval()
    state = {key: value for key, value in resnet.state_dict().items() if not key.startswith('fc.')}
    model.load_state_dict(state)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            model(x)[-1].mean((2, 3)), nn.Sequential(*list(resnet.children())[:-1])(x).flatten(1), rtol=1e-4, atol=1e-5
        )


def test_dilations_of_stages_multiply_those_of_the_pattern():
    pattern = [[(1, 1, 10), (2, 1, 6)]] * 2 + [[(1, 1, 32)]] * 2 + [[(1, 1, 64)]] * 2 + [[(1, 2, 128)]] * 2
    options = dict(pattern=pattern, inception_convs=('conv2',), strides=(1, 2, 1, 1))
    plain, dilated = narrow(**options), narrow(**options, dilations=(1, 1, 2, 4))
    dilated.load_state_dict(plain.state_dict())
    outs = dilated.eval()(torch.randn(1, 3, 65, 47))
    assert [tuple(out.shape[1:]) for out in outs] == [(16, 17, 12), (32, 9, 6), (64, 9, 6), (128, 9, 6)]
    x = torch.randn(1, 128, 20, 21)
    layer = dilated.layer4[1].conv2
    expected = nn.functional.conv2d(x, layer.weight, padding=(4, 8), dilation=(4, 8))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


def test_fewer_stages_use_the_first_layers():
    with torch.device('meta'):
        model = ICResNet(50, 'detection_r50_k9', num_stages=3, out_indices=(2,))
        assert model(torch.empty(1, 3, 64, 64))[0].shape == (1, 1024, 4, 4)
    assert len(model.pattern) == 13
    assert model.pattern[-1] == ICResNet(50, 'detection_r50_k9').pattern[12]


@pytest.mark.parametrize('deep_stem', [False, True])
def test_frozen_stages_and_norm_eval_survive_train(deep_stem):
    model = narrow(frozen_stages=1, norm_eval=True, deep_stem=deep_stem)
    assert model.train() is model
    trainable = {name.split('.')[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {'layer2', 'layer3', 'layer4'}
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))


def test_initialisation():
    torch.manual_seed(0)
    model = narrow()
    model.init_weights()
    weight = model.layer4[0].conv2.weight  # Kaiming, fan out: 9 taps, 128 channels
    assert weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.05)
    assert not model.layer1[0].bn2.weight.any()
    assert model.layer1[0].bn1.weight.eq(1).all()


def test_recomputation_gives_equal_gradients():
    grads = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = narrow(with_cp=with_cp).train()
        sum(out.square().mean() for out in model(torch.randn(2, 3, 33, 32))).backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(depth=26), r'depth=26 is unknown to ICResNet; choose one of \[18, 34, 50, 101, 152\]'),
        (
            dict(depth=101, pattern='detection_r50_k9'),
            'detection_r50_k9 has 16 layers, the network has 33 inception',
        ),
        (dict(pattern='pose_r50_k13'), 'pose_r50_k13 has 16 layers, the network has 8 .*mmext pattern make'),
        (dict(pattern='detection_r50'), "no published pattern 'detection_r50': did you mean 'detection_r50_k9'"),
        (dict(depth=50, pattern='detection_r50_k9'), r'layer 0 \(layer1.0.conv2\) of detection_r50_k9: .* 64, .* 16'),
        (dict(pattern=dict(rule='even')), "rule='even' is unknown; choose one of uniform, proportional"),
        (dict(pattern=dict(rule='uniform', dilation=3)), "unknown key 'dilation'; known are rule, max_dilation"),
        (dict(inception_convs='conv2'), r"inception_convs='conv2' must be one or both of \('conv1', 'conv2'\)"),
        (dict(inception_convs=('conv3',)), r"inception_convs=\('conv3',\) must be"),
        (dict(num_stages=5), r'num_stages=5 must be in 1..4'),
        (dict(out_indices=(4,)), r'out_indices=\(4,\) must be one or more of'),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        narrow(**{'inception_convs': ('conv2',), **options})


def test_pattern_of_another_depth_names_those_that_fit():
    with pytest.raises(
        ValueError, match=r'16 layers, .* 33 .*that fit: detection_r101_k9, segmentation_r101_k9, pose_r101'
    ):
        ICResNet(101, 'detection_r50_k9')


def test_resnext_refuses_runs_that_groups_do_not_divide():
    with pytest.raises(ValueError, match='no multiple of groups=32'):
        ICResNeXt(50, make_pattern('uniform', ICResNeXt(50, 'uniform').pattern.widths))
