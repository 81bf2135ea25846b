"""Tensors that are no weights, and classes and palettes that are none: refused by name, before anything is written."""

import os

import numpy as np
import pytest
import torch
import wider
from narrow import classifier

from mmext.cli import main
from mmext.convert import ConversionError, convert
from mmext.convert.values import check_values

KEY = 'backbone.layer1.0.conv1.weight'


class Odd(torch.Tensor):
    pass


def quantized(x):
    return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)


def with_one(value):
    def change(x):
        x = x.clone()
        x.view(-1)[-1] = value
        return x

    return change


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            torch.Tensor.to_sparse,
            r'no plain weights under 1 key: .{key}. \(torch\.sparse_coo\); plain are dense real tensors',
        ),
        (lambda x: x.flatten(1).to_sparse_csr(), r'{key}. \(torch\.sparse_csr\)'),
        (lambda x: torch.nested.nested_tensor([x, x]), r'{key}. \(nested\)'),
        (lambda x: x.to('meta'), r'{key}. \(on the meta device, without values\)'),
        (quantized, r'{key}. \(quantized, torch\.qint8\)'),
        (lambda x: x.as_subclass(Odd), r'{key}. \(of type Odd\)'),
        (lambda x: torch.nn.UninitializedParameter(), r'{key}. \(not initialised yet\)'),
        (lambda x: x.to(torch.complex64), r'{key}. \(complex, torch\.complex64\)'),
        (lambda x: x.to(torch.int8), 'values of torch.int8 under 1 key: {key}'),
        (lambda x: x.to(torch.int64), 'values of torch.int64 under 1 key: {key}'),
        (lambda x: x > 2.5, 'values of torch.bool under 1 key: {key}'),
        (lambda x: x.to(torch.float8_e4m3fn), 'values of torch.float8_e4m3fn under 1 key: {key}'),
        (with_one(float('nan')), 'NaN or infinite values under 1 key: {key}; training diverged or the file is damaged'),
        (with_one(float('inf')), 'NaN or infinite values under 1 key: {key}'),
        (with_one(float('-inf')), 'NaN or infinite values under 1 key: {key}'),
        (lambda x: x.half() * 1e5, 'NaN or infinite values under 1 key: {key}'),
        (lambda x: torch.full(x.shape, float('nan')), 'NaN or infinite values under 1 key: {key}'),
    ],
)
@pytest.mark.filterwarnings('ignore')  # of beta states
def test_tensors_that_are_no_weights(change, message):
    state = classifier()
    state[KEY] = change(state[KEY])
    with pytest.raises(ConversionError, match=message.format(key=KEY)):
        convert(state, 'involution', allow_missing=True)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_stay_as_they_are(dtype):
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in classifier().items()}
    converted, _ = convert(state, 'involution')
    assert all(torch.equal(converted[key], value) for key, value in state.items())
    assert {value.dtype for value in converted.values()} == {dtype, torch.int64}


def test_counters():
    key = 'backbone.layer1.0.bn1.num_batches_tracked'
    for value in (torch.tensor(7, dtype=torch.int32), torch.tensor(7.0)):
        assert torch.equal(convert({**classifier(), key: value}, 'involution')[0][key], value)
    for value in (torch.tensor(True), torch.tensor(float('nan')), torch.tensor(7j)):
        with pytest.raises(ConversionError, match=key):
            convert({**classifier(), key: value}, 'involution')


def test_what_is_dropped_may_hold_anything():
    state = {**classifier(), 'ema_backbone_layer1_0_bn1_num_batches_tracked': torch.tensor(7)}
    assert len(convert(state, 'involution')[1].dropped) == 1


def test_values_of_an_mxnet_file():
    arrays = wider.classifier()
    arrays['arg:conv1a_weight'] = arrays['arg:conv1a_weight'].astype(np.int8)
    with pytest.raises(ConversionError, match=r'values of torch\.int8 under 1 key: arg:conv1a_weight'):
        convert(arrays, 'ademxapp')
    arrays = wider.classifier()
    arrays['aux:bn7_moving_var'][3] = np.inf
    with pytest.raises(ConversionError, match='NaN or infinite values under 1 key: aux:bn7_moving_var'):
        convert(arrays, 'ademxapp')


def test_several_keys_and_more_integers():
    state = {f'k{index}': torch.tensor([1]) for index in range(7)}
    check_values(state, integers=state)
    with pytest.raises(
        ConversionError, match=r'values of torch\.int64 under 7 keys: k0, k1, k2, k3, k4, \.\.\.; weights'
    ):
        check_values(state)
    check_values({'empty': torch.zeros(0), 'view': torch.arange(12.0).view(3, 4).t()[1:, ::2]})


@pytest.mark.parametrize(
    ('meta', 'message'),
    [
        (5, r'its meta is a int \(5\) where a mapping is needed; correct it, or leave .meta. out'),
        (dict(dataset_meta='x'), r"its meta's dataset_meta is a str \('x'\) where a mapping is needed"),
        (dict(dataset_meta=torch.zeros(3)), r"its meta's dataset_meta is a Tensor \(not shown\) where a mapping"),
        (dict(dataset_meta=dict(classes=5)), r'the classes in its meta is a int \(5\) where a list or tuple of names'),
        (dict(dataset_meta=dict(classes='cat')), r"the classes in its meta is a str \('cat'\) where a list or tuple"),
        (dict(CLASSES=('cat', 5)), r"the classes in its meta is a tuple \(\('cat', 5\)\) where"),
        (dict(CLASSES={'cat': 1}), 'the classes in its meta is a dict'),
        (dict(PALETTE=5), r'the palette in its meta is a int \(5\) where a list or tuple of colours'),
        (dict(PALETTE=[(1, 2, 300)]), 'the palette in its meta is a list'),
        (dict(PALETTE=[(1, 2)]), 'the palette in its meta is a list'),
        (dict(PALETTE=[(1, 2, 3), 'red']), 'the palette in its meta is a list'),
        (dict(PALETTE=[(0.5, 0.5, 0.5)]), 'the palette in its meta is a list'),
        (dict(PALETTE=torch.zeros(3)), r'the palette in its meta is a Tensor \(not shown\)'),
    ],
)
def test_odd_meta(meta, message, tmp_path, capsys):
    with pytest.raises(ConversionError, match=message):
        convert(dict(meta=meta, state_dict=classifier()), 'involution')
    torch.save(dict(meta=meta, state_dict=classifier()), tmp_path / 'a.pth')
    (tmp_path / 'out').mkdir()
    assert main(['convert', str(tmp_path / 'a.pth'), str(tmp_path / 'out'), '--source', 'involution']) == 1
    assert capsys.readouterr().err.count('\n') == 1
    assert os.listdir(tmp_path / 'out') == []


@pytest.mark.parametrize(
    ('palette', 'expected'),
    [
        (np.array([[1, 2, 3], [4, 5, 6]], np.uint8), [[1, 2, 3], [4, 5, 6]]),
        ([np.array([1, 2, 3]), (4, 5, 6)], [[1, 2, 3], (4, 5, 6)]),
        ([(np.uint8(1), 2, 3)], [(1, 2, 3)]),
        ((1, 2, 3), (1, 2, 3)),
        ('random', 'random'),
    ],
)
def test_palettes_of_other_kinds_become_plain_numbers(palette, expected):
    _, report = convert(dict(meta=dict(PALETTE=palette), state_dict=classifier()), 'involution')
    assert report.dataset_meta == dict(palette=expected)
    flat = np.ravel(np.array(expected, object)).tolist()
    assert all(type(value) in (int, str) for value in flat)
    shown = "'random'" if isinstance(palette, str) else str(len(expected))
    assert str(report).endswith(f'palette  {shown}, from the checkpoint')


def test_a_tensor_called_meta_is_no_meta():
    state = {**classifier(), 'meta': torch.zeros(1)}
    with pytest.raises(ConversionError, match='no place for 1 key: meta'):
        convert(state, 'involution')
