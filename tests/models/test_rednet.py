import golden
import pytest
import torch
from mmengine.runner import load_checkpoint
from torch import nn

from mmext.models import RedNet
from mmext.models.resnet_skeleton import ResidualBlock

# 3 in the published classification code, which most golden cases come from
STEM_KERNEL = {'rednet50_det': 7}

BACKBONES = [name for name in golden.names('involution', 'rednet*') if not name.endswith('_classifier')]
CLASSIFIERS = golden.names('involution', 'rednet*_classifier')


class Classifier(nn.Module):
    """Backbone, global average pooling and linear layer under the key names of the published classifiers."""

    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone = backbone
        self.head = nn.ModuleDict(dict(fc=nn.Linear(backbone.feat_dim, classes)))

    def forward(self, x):
        return self.head.fc(self.backbone(x)[-1].mean((2, 3)))


def narrow(**options):
    """The narrowest legal RedNet-26."""
    return RedNet(26, **{**dict(stem_channels=32, base_channels=16, expansion=2), **options})


@pytest.mark.parametrize('name', BACKBONES)
def test_golden_stages(name):
    case = golden.Case('involution', name)
    model = RedNet(**case['options'], stem_kernel=STEM_KERNEL.get(name, 3))
    assert sorted((key, tuple(value.shape)) for key, value in model.state_dict().items()) == sorted(
        case.keys_and_shapes()
    )
    assert sum(p.numel() for p in model.parameters()) == case['params']
    case.load(model)
    with torch.no_grad():
        for key, x in case.inputs().items():
            for stage, out in enumerate(model(x), 1):
                case.check(f'{key}/stage{stage}', out)
    case.check_complete()


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_golden_logits(name):
    case = golden.Case('involution', name)
    options = case['options']
    model = Classifier(RedNet(options['depth'], stem_kernel=3, out_indices=(3,)), options['num_classes'])
    case.load(model)
    with torch.no_grad():
        for key, x in case.inputs().items():
            case.check(f'{key}/logits', model(x))
    case.check_complete()


@pytest.mark.parametrize('depth', [26, 50, 101, 152])
def test_published_keys_of_the_classifiers(depth):
    case = golden.Case('involution', f'rows/rednet{depth}')
    with torch.device('meta'):
        model = Classifier(RedNet(depth, stem_kernel=3), 1000)
    assert sorted((key, tuple(value.shape)) for key, value in model.state_dict().items()) == sorted(
        case.keys_and_shapes()
    )


def test_depth_38_has_the_published_size():
    with torch.device('meta'):
        model = Classifier(RedNet(38, stem_kernel=3), 1000)
    assert sum(p.numel() for p in model.parameters()) == 12386986  # facts/complexity_involution.json, code as written


def test_a_step_reaches_every_parameter():
    model = narrow(zero_init_residual=False)
    model.init_weights()
    model.train()
    sum(out.pow(2).mean() for out in model(torch.rand(2, 3, 64, 64))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize('size', [(65, 47), (33, 32)])
@pytest.mark.parametrize('options', [{}, dict(style='caffe'), dict(avg_down=True)])
def test_odd_sizes(size, options):
    outs = narrow(**options).eval()(torch.rand(1, 3, *size))
    height, width = size
    for stage, out in enumerate(outs):
        assert out.shape[2:] == (-(-height // 2 ** (stage + 2)), -(-width // 2 ** (stage + 2)))


def test_dilations_replace_strides():
    model = narrow(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)).eval()
    assert [tuple(out.shape[2:]) for out in model(torch.rand(1, 3, 64, 64))] == [(16, 16), (8, 8), (8, 8), (8, 8)]
    assert [model.get_submodule(f'layer{i}.0.conv2').dilation for i in (1, 2, 3, 4)] == [1, 1, 2, 4]


def test_frozen_stages_and_norm_eval_survive_train():
    model = narrow(frozen_stages=1, norm_eval=True)
    assert model.train() is model
    for module in (model.stem, model.layer1):
        assert not any(p.requires_grad for p in module.parameters())
        assert not module.training
    assert all(p.requires_grad for p in model.layer2.parameters())
    assert not model.layer2[0].bn1.training
    assert model.layer2[0].conv2.training


def test_recomputation_gives_equal_outputs_and_gradients():
    plain, recomputed = narrow(), narrow(with_cp=True)
    recomputed.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 32, 32)
    for model in (plain, recomputed):
        model.eval()(x)[-1].sum().backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), recomputed.named_parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_initialisation():
    model = narrow()
    model.init_weights()
    blocks = [module for module in model.modules() if isinstance(module, ResidualBlock)]
    assert len(blocks) == 8
    for block in blocks:
        assert (block.last_norm.weight == 0).all()
        assert (block.bn1.weight == 1).all()
    conv = model.layer4[0].conv3.weight  # Kaiming, fan out: std = sqrt(2 / 256)
    assert conv.std().item() == pytest.approx((2 / conv.shape[0]) ** 0.5, rel=0.05)
    assert (model.layer4[0].conv2.conv2.conv.bias == 0).all()


def test_a_second_initialisation_changes_nothing():
    model = narrow()
    model.init_weights()
    with torch.no_grad():
        model.layer1[0].bn3.weight.fill_(0.5)
    model.init_weights()
    assert (model.layer1[0].bn3.weight == 0.5).all()


def test_pretrained_classifier_fills_the_backbone(tmp_path):
    source = narrow()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.uniform_(0.1, 0.2)
    path = tmp_path / 'classifier.pth'
    torch.save({'state_dict': {f'backbone.{key}': value for key, value in source.state_dict().items()}}, path)
    model = narrow(init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='backbone.'))
    model.init_weights()
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize('strict', [True, False])
def test_checkpoint_with_the_other_stem_kernel_names_the_setting(tmp_path, strict):
    path = tmp_path / 'stem3.pth'
    torch.save(narrow(stem_kernel=3).state_dict(), path)
    with pytest.raises(ValueError, match=r'stem involution of 3 x 3 .* stem_kernel=7; set stem_kernel=3'):
        load_checkpoint(narrow(), str(path), strict=strict)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(depth=34), r'depth=34 is unknown to RedNet; choose one of \[26, 38, 50, 101, 152\]'),
        (dict(depth=26, out_indices=(4,)), r'out_indices=\(4,\) must be one or more of \(0, 1, 2, 3\)'),
        (dict(depth=26, num_stages=2), r'out_indices=\(0, 1, 2, 3\) must be one or more of \(0, 1\)'),
        (dict(depth=26, out_indices=()), r'out_indices=\(\) must be one or more'),
        (dict(depth=26, num_stages=5), r'num_stages=5 must be in 1\.\.4'),
        (dict(depth=26, style='tensorflow'), r"style='tensorflow' is unknown"),
        (dict(depth=26, frozen_stages=5), r'frozen_stages=5 must be in -1\.\.4'),
        (dict(depth=26, strides=(1, 2)), r'strides=\(1, 2\) has 2 entries; num_stages=4'),
        (dict(depth=26, base_channels=24), r'channels=24 is not a multiple of group_channels=16'),
        (dict(depth=26, stem_kernel=4), r'kernel_size=4: .* odd'),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        RedNet(**options)
