import mxnet_writer
import pytest
import torch
import wider
import wider_golden

from mmext.convert import ConversionError, convert
from mmext.convert.writing import write_checkpoint
from mmext.models import WiderResNet

AFFINITY = {
    'f8_3.weight': (64, 512, 1, 1),
    'f8_4.weight': (128, 1024, 1, 1),
    'f8_5.weight': (256, 4096, 1, 1),
    'f9.weight': (448, 448, 1, 1),
}


def checkpoint(counters=False, **options):
    """A state dict of a narrow network under psa's names, and the network."""
    torch.manual_seed(1)
    network = wider.Classifier(**options)
    state = {
        wider.psa_key(key): value
        for key, value in network.state_dict().items()
        if counters or not key.endswith(wider.COUNTER)
    }
    del state['fc8.bias']
    state['fc8.weight'] = state['fc8.weight'][:, :, None, None]
    return state, network


def test_the_names_are_those_of_the_project():
    state, _ = checkpoint()
    for key in (
        *('conv1a.weight', 'b2.bn_branch2a.weight', 'b2.conv_branch1.weight', 'b2_2.conv_branch2b1.weight'),
        *('b4_5.bn_branch2b1.running_var', 'b6.conv_branch2b2.weight', 'b7.bn_branch2b2.bias', 'bn7.running_mean'),
    ):
        assert key in state
    assert state['fc8.weight'].shape == (5, 64, 1, 1)


def test_every_key_of_the_published_size():
    shapes = {wider.our_key(name): shape for name, shape in wider.listed('a1_cls1000_s32_even').items()}
    state = {wider.psa_key(key): torch.zeros(shape) for key, shape in shapes.items() if key != 'head.fc.bias'}
    state['fc8.weight'] = torch.zeros(20, 4096, 1, 1)
    converted, report = convert(state, 'psa')
    assert report.mapped == {wider.psa_key(key): key for key in shapes if key != 'head.fc.bias'}
    assert report.architecture == dict(
        arch='A, A1 or A2', width=1.0, in_channels=3, head='LinearClsHead', num_classes=20
    )
    assert converted['head.fc.weight'].shape == (20, 4096)
    assert converted['head.fc.bias'].shape == (20,)
    assert all(tuple(converted[key].shape) == shape for key, shape in shapes.items() if not key.startswith('head.'))


@pytest.mark.parametrize('counters', [True, False])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_scores_are_those_of_the_original(tmp_path, counters, prefix):
    state, network = checkpoint(counters)
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / 'res38.pth')
    converted, report = convert(tmp_path / 'res38.pth', 'psa')
    assert set(report.filled) == {'head.fc.bias'} | (
        set() if counters else {key for key in converted if key.endswith(wider.COUNTER)}
    )
    assert len(converted) == len(network.state_dict())
    assert not converted['head.fc.bias'].any()
    other = wider.Classifier()
    other.load_state_dict(converted, strict=True)
    image = torch.rand(2, 3, 48, 56)
    with torch.no_grad():
        scores = torch.nn.functional.conv2d(
            network.backbone(image)[-1].mean((2, 3), keepdim=True), state['fc8.weight']
        ).flatten(1)
        torch.testing.assert_close(other(image), scores, rtol=1e-5, atol=1e-6)


def test_the_same_weights_in_both_formats():
    converted, _ = convert(checkpoint()[0], 'psa')
    wanted, _ = convert(wider.classifier(), 'ademxapp')
    assert list(converted) == list(wanted)
    assert all(torch.equal(converted[key], value) for key, value in wanted.items() if key != 'head.fc.bias')


def test_affinity_and_attention_are_dropped():
    state, _ = checkpoint()
    extra = {key: torch.zeros(shape) for key, shape in AFFINITY.items()}
    converted, report = convert({**state, **extra}, 'psa')
    assert sorted(report.dropped) == sorted(AFFINITY)
    assert set(report.dropped.values()) == {'affinity and attention, no part of this network'}
    text = str(report)
    assert 'dropped  4 keys: f8_3.weight, f8_4.weight, f8_5.weight, f9.weight (affinity' in text
    assert 'reshaped 1 key: head.fc.weight (a 1x1 convolution after pooling is a linear layer)' in text
    assert 'filled   1 key: head.fc.bias (the classifier of the original has no bias)' in text
    assert 'filled   37 keys: ' in text
    assert list(converted) == list(convert(state, 'psa')[0])


def test_a_network_without_classifier():
    state, network = checkpoint()
    del state['fc8.weight']
    state['f8_3.weight'] = torch.ones(1)
    converted, report = convert(state, 'psa')
    assert report.architecture['part'] == 'backbone alone'
    assert list(converted) == [key for key in network.state_dict() if key.startswith('backbone.')]


def test_a_converted_file_converts_to_itself(tmp_path):
    first = write_checkpoint(*convert(checkpoint()[0], 'psa'), tmp_path / 'first.pth')
    (tmp_path / 'again').mkdir()
    second = write_checkpoint(*convert(first, 'psa'), tmp_path / 'again' / 'second.pth')
    assert second.read_bytes() == first.read_bytes()


def test_init_cfg(tmp_path):
    state, network = checkpoint()
    torch.save(state, tmp_path / 'res38.pth')
    init_cfg = dict(
        type='mmext.PublishedCheckpoint', source='psa', checkpoint=str(tmp_path / 'res38.pth'), prefix='backbone.'
    )
    model = WiderResNet('A1', output_stride=8, width=wider.WIDTH, out_indices=(4,), init_cfg=init_cfg)
    model.init_weights()
    wanted = network.backbone.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())


def test_golden_features_under_the_names_of_psa():
    case = wider_golden.Case('a1_feat_s8')
    arrays = case.checkpoint()
    names = {name: wider.psa_key(wider.our_key(name)) for name in wider.listed('a1_feat_s8')}
    state = {theirs: torch.from_numpy(arrays[name.partition(':')[2]]) for name, theirs in names.items()}
    converted, _ = convert(state, 'psa')
    with torch.device('meta'):
        network = wider_golden.Network(fcn=False, **case['options'])
    network.load_state_dict(converted, strict=True, assign=True)
    with torch.no_grad():
        errors = case.errors(network.eval()(case.image()))
    assert max(errors.values()) < 1e-5


def test_missing_keys():
    state, _ = checkpoint()
    del state['b5_2.bn_branch2a.running_mean'], state['b3.conv_branch1.weight']
    message = r'lacks 2 keys: backbone\.level3\.0\.shortcut\.weight, backbone\.level5\.2\.bn1\.running_mean.*allow'
    with pytest.raises(ConversionError, match=message):
        convert(state, 'psa')
    assert len(convert(state, 'psa', allow_missing=True)[1].missing) == 2


@pytest.mark.parametrize('key', ['fc8.bias', 'fc9.weight', 'b4_6.conv_branch2a.weight', 'f8_3', 'f10.weight'])
def test_unknown_keys_are_named(key):
    with pytest.raises(ConversionError, match=f'the network has no place for 1 key: {key}. Read as psa'):
        convert({**checkpoint()[0], key: torch.ones(5)}, 'psa', allow_missing=True)


@pytest.mark.parametrize(
    ('key', 'shape', 'message'),
    [
        ('fc8.weight', (5, 64, 3, 3), r'head\.fc\.weight \(\[5, 64, 3, 3\], the network needs \[5, 64\]'),
        ('fc8.weight', (5, 32, 1, 1), r'head\.fc\.weight \(\[5, 32\], the network needs \[5, 64\]'),
        ('b4_2.conv_branch2a.weight', (8, 8, 1, 1), r'level4\.2\.conv1\.weight \(\[8, 8, 1, 1\], .*\[8, 8, 3, 3\]'),
    ],
)
def test_a_wrong_shape_is_named(key, shape, message):
    with pytest.raises(ConversionError, match=rf'shapes differ in 1 key: \S*{message}'):
        convert({**checkpoint()[0], key: torch.zeros(shape)}, 'psa')


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        (['encoder.weight'], 'where a Wider-ResNet has conv1a.weight; give a Wider-ResNet checkpoint, or the source'),
        (['arg:conv1a_weight'], "it has the names of the ademxapp project; choose the source 'ademxapp'"),
        (['layer1.0.conv1.weight', 'fc.weight'], 'it is of another network; choose the source that fits'),
        (['backbone.layer1.0.conv1.weight', 'head.fc.weight'], 'it is of another network; choose the source that fits'),
        (['f9.weight'], 'no checkpoint of the psa project: it has 1 key: f9.weight'),
    ],
)
def test_another_architecture(keys, message):
    with pytest.raises(ConversionError, match=message):
        convert({key: torch.ones(1) for key in keys}, 'psa', allow_missing=True)


def test_an_mxnet_file(tmp_path):
    path = mxnet_writer.write(tmp_path / 'small.params', wider.classifier())
    with pytest.raises(ConversionError, match=r"is an MXNet .params file, no PyTorch .* source 'ademxapp'"):
        convert(path, 'psa')
