"""The classifiers of inflated networks: golden logits through mmaction2's recognizer, inflated weights, bad input."""

import subprocess
import sys

import golden
import pytest
import torch
from inflated_golden import Case
from mmengine.registry import MODELS
from torch import nn

from mmext.video import InflatedConvHead, InflatedLinearHead

# golden case -> clips compared here and frames of the last map; the backbone's own tests compare all clips
LINEAR = {
    'i3d_resnet50': (['clip5_112', 'clip8'], 1),
    'i3d_densenet121_f8': (['still8', 'clip8'], 1),
    'i3d_densenet121_f16_inflate': (['still16', 'clip16'], 2),
}


def recognizer(case, folder, **head):
    """Build mmaction2's recognizer with the backbone of a golden case, both parts from the file of the 2D network."""
    torch.save(case.state_dict(), folder / '2d.pth')
    arch, options = case['options']['arch'], {}
    if 'densenet' in arch:
        options = dict(inflate_block_convs=case['options']['inflate_block_convs'])
    backbone = dict(
        type='mmext.InflatedResNet' if 'resnet' in arch else 'mmext.InflatedDenseNet',
        depth=int(arch.removeprefix('resnet').removeprefix('densenet')),
        pretrained=str(folder / '2d.pth'),
        **options,
    )
    cfg = dict(type='Recognizer3D', backbone=backbone, cls_head=head)
    model = MODELS.build(cfg)
    model.init_weights()
    return model.eval()


def check_logits(case, model, names):
    clips = case.clips()
    with torch.no_grad():
        for name in names:
            logits = model(clips[name][:, None], stage='head')  # one crop
            case.check(f'{name}/logits', logits)
            if f'{name}/logits_2d' in case.arrays and not case['options'].get('conv_class'):
                case.check(f'{name}/logits_2d', logits)


@pytest.mark.parametrize('name', LINEAR)
def test_golden_logits_of_the_linear_classifier(name, tmp_path):
    clips, frames = LINEAR[name]
    case = Case(name)
    channels = dict(case['state'])['fc.weight' if 'resnet' in name else 'classifier.weight'][1]
    head = dict(type='mmext.InflatedLinearHead', num_classes=1000, in_channels=channels, frames=frames)
    model = recognizer(case, tmp_path, **head, pretrained=str(tmp_path / '2d.pth'))
    shape = dict(case['changed_shapes']).get('classifier.weight', [1000, channels])
    assert list(model.cls_head.fc_cls.weight.shape) == shape == [1000, frames * channels]
    check_logits(case, model, clips)


def test_golden_logits_of_the_convolutional_classifier(tmp_path):
    case = Case('i3d_resnet50_conv')
    model = recognizer(case, tmp_path, type='mmext.InflatedConvHead', num_classes=400, in_channels=2048)
    extra = {
        name.replace('classifier', 'fc_cls'): torch.from_numpy(
            golden.fill.fill_param(name, shape, case['weights_seed'])
        )
        for name, shape in case['extra_fill']
    }
    model.cls_head.load_state_dict(extra, strict=True)
    assert sum(p.numel() for p in model.parameters()) == case['params_3d']
    check_logits(case, model, ['still16', 'clip16'])


def linear(frames=3, **options):
    return InflatedLinearHead(5, 8, frames, **options)


def conv(**options):
    return InflatedConvHead(5, 8, **options)


@pytest.mark.parametrize('make', [linear, conv])
def test_starts_as_the_mean_over_frames(make):
    """With the weights it starts from, each gives what mmaction2's I3DHead gives for the same 2D weight."""
    head = make().eval()
    head.init_weights()
    weight = head.fc_cls.weight.flatten(1)[:, :8] * (3 if make is linear else 1)
    assert 0.007 < weight.std() < 0.013  # init_std of mmaction2
    x = torch.rand(2, 8, 3, 4, 5)
    expected = x.mean((2, 3, 4)) @ weight.T + head.fc_cls.bias
    torch.testing.assert_close(head(x), expected)


def test_frames_may_come_to_differ():
    head = linear(frames=2, dropout_ratio=0)
    x = torch.rand(3, 8, 2, 4, 4)
    means = x.mean((3, 4))
    early, late = head.fc_cls.weight[:, :8], head.fc_cls.weight[:, 8:]
    expected = means[:, :, 0] @ early.T + means[:, :, 1] @ late.T + head.fc_cls.bias
    torch.testing.assert_close(head(x), expected)


def test_convolution_takes_any_number_of_frames():
    head = conv().eval()
    for frames in (1, 2, 5):
        x = torch.rand(2, 8, frames, 3, 3)
        expected = x.mean((2, 3, 4)) @ head.fc_cls.weight.flatten(1).T + head.fc_cls.bias
        torch.testing.assert_close(head(x), expected)


@pytest.mark.parametrize('make', [linear, conv])
def test_dropout_is_for_training_only(make):
    head, x = make(dropout_ratio=0.5), torch.rand(2, 8, 3, 4, 4)
    assert not torch.equal(head.train()(x), head(x))
    assert torch.equal(head.eval()(x), head(x))


@pytest.mark.parametrize('make', [linear, conv])
def test_a_2d_classifier_is_inflated_when_loaded(make):
    flat = nn.Linear(8, 5)
    head = make().eval()
    head.load_state_dict({f'fc_cls.{name}': value for name, value in flat.state_dict().items()})
    x = torch.rand(2, 8, 3, 4, 4)
    torch.testing.assert_close(head(x), flat(x.mean((2, 3, 4))))
    own = {name: value.clone() for name, value in head.state_dict().items()}  # its own weights are taken as they are
    again = make().eval()
    again.load_state_dict(own)
    assert torch.equal(again(x), head(x))


@pytest.mark.parametrize('make', [linear, conv])
@pytest.mark.parametrize('prefix', ['fc', 'classifier', 'head.fc', 'cls_head.fc_cls'])
def test_pretrained(make, prefix, tmp_path):
    flat = nn.Linear(8, 5)
    state = {f'{prefix}.{name}': value for name, value in flat.state_dict().items()}
    torch.save(state if prefix == 'fc' else dict(state_dict=state), tmp_path / '2d.pth')
    head = make(pretrained=str(tmp_path / '2d.pth')).eval()
    head.init_weights()
    x = torch.rand(1, 8, 3, 2, 2)
    torch.testing.assert_close(head(x), flat(x.mean((2, 3, 4))))


def test_pretrained_of_other_sizes(tmp_path):
    path = tmp_path / '2d.pth'
    torch.save({f'fc.{name}': value for name, value in nn.Linear(8, 1000).state_dict().items()}, path)
    with pytest.raises(
        ValueError, match=r'no 2D classifier of num_classes x in_channels = 5 x 8: fc is \[1000, 8\]; set'
    ):
        linear(pretrained=str(path)).init_weights()
    torch.save(dict(state_dict={}), path)
    with pytest.raises(ValueError, match=r'none of fc, classifier, head\.fc, cls_head\.fc_cls'):
        conv(pretrained=str(path)).init_weights()


def test_wrong_number_of_frames():
    with pytest.raises(ValueError, match='made for maps of frames=3 but got 4: set frames, or set clip_len'):
        linear()(torch.rand(1, 8, 4, 2, 2))


@pytest.mark.parametrize('make', [linear, conv])
@pytest.mark.parametrize(
    ('x', 'seen'),
    [
        (torch.rand(1, 9, 3, 2, 2), r'\[1, 9, 3, 2, 2\]'),
        (torch.rand(1, 8, 2, 2), r'\[1, 8, 2, 2\]'),
        ((torch.rand(1, 8, 3, 2, 2),) * 2, 'tuple'),
    ],
)
def test_wrong_maps(make, x, seen):
    with pytest.raises(ValueError, match=rf"takes one map \[N, 8, T', H', W'\] but got {seen}; set in_channels"):
        make()(x)


def test_one_map_in_a_tuple():
    head, x = conv().eval(), torch.rand(1, 8, 3, 2, 2)
    assert torch.equal(head((x,)), head(x))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_classes=0), 'num_classes=0 must be an integer of at least 1'),
        (dict(in_channels=2.5), 'in_channels=2.5 must be an integer of at least 1'),
        (dict(frames=0), 'frames=0 must be an integer of at least 1'),
        (dict(frames=True), 'frames=True must be an integer of at least 1'),
        (dict(spatial_type='max'), "spatial_type='max': only the mean"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        InflatedLinearHead(**{**dict(num_classes=5, in_channels=8, frames=2), **options})


def test_heads_are_found_from_mmaction2_without_custom_imports():
    code = "import mmext; from mmaction.registry import MODELS; print(MODELS.get('mmext.InflatedConvHead').__module__)"
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert result.stdout.strip() == 'mmext.video.heads', result.stderr[-2000:]
