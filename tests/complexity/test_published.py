"""The published convention: all 16 pairs of the involution tables, exactly and as printed."""

from decimal import Decimal

import pytest
import torch
from involution_facts import FACTS, NAMES, config, each_row
from mmengine.hub import get_config
from torch import nn

from mmext.complexity import complexity, to_printed
from mmext.complexity.published import count_published

# the reference's own names of what was counted; a bias of a linear layer and synchronised norms are not
KINDS = {
    'convolution': ('conv', 'bias:conv', 'conv_wrapped', 'bias:conv_wrapped', 'deconv_wrapped', 'bias:deconv_wrapped'),
    'aggregation': ('involution_agg',),
    'linear': ('linear',),
    'norm': ('bn',),
    'activation': ('relu',),
    'pooling': ('pool',),
    'upsampling': ('upsample',),
}


def by_kind(found):
    kinds = {kind for part in found.parts.values() for kind in part.multiply_adds}
    return {kind: sum(part.multiply_adds.get(kind, 0) for part in found.parts.values()) for kind in kinds}


def test_every_row_is_there():
    assert len(FACTS) == len(NAMES) == 16
    assert {fact['config'] for fact in FACTS} == set(NAMES)


@each_row
def test_published_pair(fact):
    found = complexity(config(fact), convention='published')
    assert [1, 3, *found.shape] == fact['input']
    assert found.row == NAMES[fact['config']]
    assert found.counted_parameters == fact['reproduced']['params_exact']
    assert found.multiply_adds == fact['reproduced']['flops_exact']
    decimals = 2 if fact['task'] == 'cls' else 1
    millions, billions = Decimal(found.counted_parameters) / 10**6, Decimal(found.multiply_adds) / 10**9
    assert str(to_printed(millions, decimals)) == f'{fact["published"]["params_m"]:.{decimals}f}'
    assert str(to_printed(billions, decimals)) == f'{fact["published"]["flops_g"]:.{decimals}f}'


@each_row
def test_breakdown_of_the_code_as_written(fact):
    written = fact['code_as_written']
    counting = dict(stem_kernel=written['stem_involution_kernel'])
    found = complexity(config(fact), convention='published', counting=counting)
    assert (found.parameters, found.trainable) == (fact['params_total'], fact['params_trainable'])
    assert found.multiply_adds == written['flops_same_convention']
    expected = {kind: sum(written['breakdown'].get(key, 0) for key in keys) for kind, keys in KINDS.items()}
    assert by_kind(found) == expected


def test_resnet50_by_the_plain_convention():
    # the figures of the plain ResNet-50; its 2,048,000 multiply-adds of the classifier are left out as in the tables
    found = complexity(get_config('mmpretrain::resnet/resnet50_8xb32_in1k.py'), convention='published')
    assert found.row is None
    assert found.counting == {}
    assert found.parameters == 25557032
    assert {kind: count for kind, count in by_kind(found).items() if count} == {
        'convolution': 4087136256,
        'norm': 22227968,
        'activation': 9608704,
        'pooling': 903168,
    }


def test_layers():
    layers = nn.Sequential(
        nn.ConvTranspose2d(6, 4, 3, groups=2),  # [2, 6, 5, 3] -> [2, 4, 7, 5]
        nn.ConvTranspose2d(4, 3, 1, bias=False),
        nn.Conv2d(3, 4, (1, 3), padding=(0, 1)),
        nn.SyncBatchNorm(4),
        nn.BatchNorm2d(4, affine=False),
        nn.Upsample(scale_factor=2),
        nn.Flatten(),
        nn.Linear(4 * 14 * 10, 5),
    )
    out, counts = count_published(layers.eval(), [torch.rand(2, 6, 5, 3)])
    assert out.shape == (2, 5)
    transposed = 2 * (9 * 6 * 2 * 5 * 3 + 4 * 7 * 7) + 2 * 4 * 3 * 7 * 5  # the bias is counted on height x height
    assert counts['convolution'] == transposed + 2 * (3 * 3 * 4 + 4) * 7 * 5
    assert counts['norm'] == 2 * 4 * 7 * 5
    assert counts['upsampling'] == 2 * 4 * 14 * 10
    assert counts['linear'] == 2 * 4 * 14 * 10 * 5
    assert not any(layer._forward_hooks for layer in layers)


def test_layers_left_out():
    layers = nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 1)), nn.Conv2d(1, 1, 1), nn.ReLU())
    _, counts = count_published(layers, [torch.rand(1, 1, 4, 4)], 'head', leave_out=['head.0', 'head.2'])
    assert (counts['convolution'], counts['activation']) == (32, 0)


@pytest.mark.parametrize(
    ('value', 'decimals', 'printed'),
    [
        (177.845138, 1, '177.9'),  # 177.85, then 177.9
        ('26.246276', 1, '26.3'),
        (135.007, 1, '135.0'),
        (1.7334, 2, '1.73'),
        (0.125, 2, '0.13'),
        (2, 0, '2'),
    ],
)
def test_to_printed(value, decimals, printed):
    assert str(to_printed(value, decimals)) == printed


def test_to_printed_with_too_many_decimals():
    with pytest.raises(ValueError, match='decimals=3 must be 0, 1 or 2'):
        to_printed(1.5, 3)
