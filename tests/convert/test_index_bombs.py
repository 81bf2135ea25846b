"""Checkpoints of few bytes that claim long lists, large shapes or many parts cost neither time nor memory."""

import itertools
import re
import subprocess
import sys

import golden
import pytest
import torch
import wider

from mmext.convert import ConversionError, convert
from mmext.convert.shapes import Shapes
from mmext.models import ICResNet

ONE = torch.zeros(1)


def row(name):
    return {key: torch.zeros(shape) for key, shape in golden.Case('involution', f'rows/{name}')['state']}


def ic_resnet(prefix=''):
    with torch.device('meta'):
        shapes = {key: value.shape for key, value in ICResNet(50, pattern='uniform').state_dict().items()}
    names = {key: key.replace('.conv2.', '.conv2.conv_list.0.') for key in shapes}
    return {prefix + names[key]: torch.zeros(shape) for key, shape in shapes.items()}


def pose():
    shapes = {'deconv_layers.0.weight': (2048, 9, 4, 4), 'final_layer.weight': (17, 9, 1, 1), 'final_layer.bias': (17,)}
    shapes |= {f'deconv_layers.1.{name}': (9,) for name in ('weight', 'bias', 'running_mean', 'running_var')}
    head = {f'keypoint_head.{key}': torch.zeros(shape) for key, shape in shapes.items()}
    return {**ic_resnet('backbone.'), **head, 'keypoint_head.deconv_layers.1.num_batches_tracked': torch.tensor(0)}


def psa():
    state = {wider.psa_key(key): value for key, value in wider.Classifier().state_dict().items()}
    del state['head.fc.bias' if 'head.fc.bias' in state else 'fc8.bias']
    return {**state, 'fc8.weight': state['fc8.weight'][..., None, None]}


MAKERS = {
    'involution': (
        *(lambda name=name: row(name) for name in ('mask_rcnn_red50_neck_fpn_head', 'retinanet_red50_fpn')),
        *(lambda name=name: row(name) for name in ('fpn_red50_neck', 'upernet_red50')),
    ),
    'ic-conv': (ic_resnet, pose),
    'psa': (psa,),
    'ademxapp': (wider.classifier, wider.segmentor),
}
STATES = [
    pytest.param(source, maker, id=f'{source}{number}')
    for source, makers in MAKERS.items()
    for number, maker in enumerate(makers)
]


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
    """Building for a claimed length ends in an error of this test, not of the machine."""
    from mmext.convert import involution_parts

    def bounded(*args):
        numbers = range(*args)
        assert len(numbers) < 10_000, 'something is built for every claimed index'
        return numbers

    monkeypatch.setattr(involution_parts, 'range', bounded, raising=False)


@pytest.fixture
def sizes_without_memory(monkeypatch):
    """Tensors of any size, as they may come from a large file; those here have one element, which is refused before."""
    from mmext.convert import reading

    monkeypatch.setattr(reading, '_oddity', lambda value: '')
    monkeypatch.setattr(reading, '_check_shared', lambda state_dict, name: None)


def lists_of(state):
    """A key of each list: with {} in the place of its number."""
    found = {}
    for key in state:
        for match in re.finditer(r'(?<=\.)\d+(?=\.)|(?<=^b\d_)\d+|(?<=\db)\d+', key):
            pattern = f'{key[: match.start()]}{{}}{key[match.end() :]}'
            found.setdefault(re.sub(r'\d+', '0', key[: match.start()]), pattern)
    return list(found.values())


@pytest.mark.parametrize(('source', 'maker'), STATES)
def test_every_list_with_a_large_index(source, maker):
    state = maker()
    convert(state, source)
    patterns = lists_of(state)
    assert len(patterns) >= 1
    others = itertools.cycle(('9' * 30, '9' * 5000, '01', '-1', '٣', ''))
    for pattern in patterns:
        for index in ('99999999', next(others)):
            key = pattern.format(index)
            with pytest.raises(ConversionError) as caught:
                convert({**state, key: ONE}, source)
            assert key[:150] in str(caught.value) or 'is a list of' in str(caught.value), key
            assert len(str(caught.value)) < 5000


@pytest.mark.parametrize(('source', 'maker'), STATES)
@pytest.mark.usefixtures('sizes_without_memory')
def test_every_shape_that_a_setting_is_read_off(source, maker):
    state = maker()
    sizes = itertools.cycle((2**20 + 1, 2**31, 2**40))
    blocks = r'layer[234]|layer1\.[12]|level|b[34567]_?\d?\.|res|bn|num_batches|running|bias'
    keys = {re.sub(r'\d+', '0', key): key for key in state if not re.search(blocks, key)}.values()  # one of each kind
    assert len(keys) >= 2
    for key in keys:
        value = torch.as_tensor(state[key])
        for dim in range(min(value.ndim, 2)):
            large = torch.zeros(()).expand(*value.shape[:dim], next(sizes), *value.shape[dim + 1 :])
            with pytest.raises(ConversionError):
                convert({**state, key: large}, source, allow_missing=True)


def test_a_list_may_have_gaps_up_to_its_keys():
    shapes = Shapes({f'head.convs.{index}.{name}': ONE for index in (0, 3) for name in ('weight', 'bias')}, 'head.')
    assert shapes.count('convs') == 4
    shapes = Shapes({f'head.convs.{index}.{name}': ONE for index in (0, 4) for name in ('weight', 'bias')}, 'head.')
    message = (
        r'head\.convs is a list of 5 modules, of which the checkpoint has no more than 4 keys: head\.convs\.0\.weight'
    )
    with pytest.raises(ConversionError, match=message):
        shapes.count('convs')
    assert Shapes({'a.b': ONE, 'a.01.c': ONE}, '').count('a') == 0


def test_many_levels_of_a_semantic_fpn():
    state = {f'decode_head.scale_heads.{level}.0.conv.weight': torch.zeros(9, 9, 3, 3) for level in range(400)}
    state |= {**row('rednet50'), 'decode_head.conv_seg.weight': torch.zeros(5, 9, 1, 1)}
    message = r'decode_head\.scale_heads is a list of 79800 modules, of which the checkpoint has no more than 400 keys'
    with pytest.raises(ConversionError, match=message):
        convert(state, 'involution', allow_missing=True)


def test_a_class_count_that_only_a_name_has():
    state = wider.classifier()
    state = {key: value for key, value in state.items() if 'linear' not in key}
    state['arg:linear999999999_weight'] = torch.zeros(5, wider.CHANNELS)
    with pytest.raises(ConversionError, match=r'shapes differ in 1 key: head\.fc\.weight'):
        convert(state, 'ademxapp', allow_missing=True)


@pytest.mark.usefixtures('sizes_without_memory')
def test_a_bias_is_not_filled_for_a_classifier_of_any_size():
    state = psa()
    state['fc8.weight'] = torch.zeros(()).expand(2**40, wider.CHANNELS, 1, 1)
    with pytest.raises(ConversionError, match='the weight of the classifier has shape'):
        convert(state, 'psa')


def test_a_file_of_few_bytes(tmp_path):
    """The whole command, in a process whose memory is counted."""
    state = {
        key: value.clone() if not value.ndim else ONE[:0].expand(0) for key, value in row('retinanet_red50_fpn').items()
    }
    state = {**state, 'bbox_head.cls_convs.99999999.conv.weight': ONE}
    torch.save(state, tmp_path / 'bomb.pth')
    code = (
        'import resource, sys\n'
        'from mmext.cli import main\n'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
        'status = main(["convert", sys.argv[1], sys.argv[2], "--source", "involution"])\n'
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10)\n'
        'sys.exit(status)\n'
    )
    arguments = [sys.executable, '-W', 'ignore', '-c', code, tmp_path / 'bomb.pth', tmp_path]
    found = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stderr.count('\n')) == (1, 1), found.stderr
    assert int(found.stdout) < 1000  # MB, most of it the toolboxes that are imported
