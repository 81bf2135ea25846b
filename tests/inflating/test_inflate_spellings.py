"""Every function that mmext.inflate knows, however its arguments are written: right on clips, or refused in words."""

import re

import pytest
import spellings
import torch
import torch.nn.functional as F
from network_helpers import assert_equal
from torch import nn

import mmext
from mmext.inflating.functions import HANDLERS, function_name
from mmext.inflating.rules import Rules
from mmext.inflating.tracing import trace

SIZE = 8, 6, 5
FRAMES = 3


class Net(nn.Module):
    """An expression of x."""

    def __init__(self, spelling):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        for name, shape in spellings.PARAMETERS.items():
            self.register_buffer(name, torch.rand(shape, generator=generator))
        scope = {'torch': torch, 'F': F}
        if any(f' {sign}= ' in spelling for sign in '+-*/'):
            exec(f'def function(net, x):\n    {spelling}\n    return x', scope)
        else:
            exec(f'def function(net, x):\n    return {spelling}', scope)
        self.function = scope['function']

    def forward(self, x):
        return self.function(self, x * 1)


def lines(text):
    return [line.strip() for line in text.strip().splitlines()]


def inflated(spelling):
    return mmext.inflate(Net(spelling).eval(), image_size=SIZE)


def pictures(spelling, clip):
    """What the 2D network gives for the pictures of a clip."""
    return [Net(spelling)(frame.clone()) for frame in clip.unbind(2)]


def place_of_time(expected):
    return 2 if expected.ndim == 4 else 1


def assert_same(found, expected):
    assert found.dtype == expected.dtype
    if expected.is_floating_point() and expected.dtype != torch.bfloat16 and bool((expected != 0).any()):
        assert found.isnan().equal(expected.isnan())
        assert_equal(found.nan_to_num(), expected.nan_to_num())
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize('spelling', lines(spellings.FRAMES))
def test_every_frame(spelling):
    clip = torch.randn(2, 8, FRAMES, 6, 5)
    network = inflated(spelling)
    expected = pictures(spelling, clip)
    found = network(clip.clone())
    time = place_of_time(expected[0])
    if found.ndim == 5 and found.shape[time] != FRAMES:
        time = 1
    assert_same(found, torch.stack(expected, time))
    parts = [clip[:, :, :1]]  # a single frame, a single clip, images of another size
    if 'squeeze(' not in spelling:
        parts.append(clip[:1])
    other = torch.randn(2, 8, 2, 12, 7)
    try:
        pictures(spelling, other)
    except RuntimeError:  # the 2D network takes images of one size only
        pass
    else:
        parts.append(other)
    for part in parts:
        assert_same(network(part.clone()), torch.stack(pictures(spelling, part), time))


@pytest.mark.parametrize(
    ('spelling', 'over'),
    [
        *[(line, torch.mean) for line in lines(spellings.MEANS)],
        *[(line, torch.amax) for line in lines(spellings.MAXIMA)],
        *[(line, torch.amin) for line in lines(spellings.MINIMA)],
    ],
)
def test_over_time(spelling, over):
    clip = torch.randn(2, 8, FRAMES, 6, 5)
    network = inflated(spelling)
    assert_same(network(clip), over(torch.stack(pictures(spelling, clip)), 0))
    assert_same(network(clip[:, :, :1]), pictures(spelling, clip)[0])


@pytest.mark.parametrize('spelling', lines(spellings.OVER_FRAMES))
def test_statistics_over_frames(spelling):
    clip = torch.randn(2, 8, FRAMES, 6, 5)
    assert_same(inflated(spelling)(clip), Net(spelling)(clip.flatten(2, 3)).unflatten(2, (FRAMES, 6)))


@pytest.mark.parametrize('spelling', lines(spellings.RANDOM))
def test_random_values(spelling):
    clip = torch.randn(2, 8, FRAMES, 6, 5)
    network = inflated(spelling)
    one, other = network(clip), network(clip)
    assert one.shape == clip.shape
    assert 'empty' in spelling or not torch.equal(one, other)


@pytest.mark.parametrize('spelling', spellings.REFUSED)
def test_refused(spelling):
    with pytest.raises(ValueError, match='1 part of Net cannot be inflated:') as info:
        inflated(spelling)
    assert re.search(
        rf'in the forward of the network .*{spellings.REFUSED[spelling]}.*; (or )?add rules=', str(info.value)
    )


def test_every_function_is_spelled():
    texts = [getattr(spellings, name) for name in ('FRAMES', 'MEANS', 'MAXIMA', 'MINIMA', 'OVER_FRAMES', 'RANDOM')]
    known = set()
    for spelling in [*spellings.REFUSED, *(line for text in texts for line in lines(text))]:
        known.update(function_name(node) for node in trace(Net(spelling), Rules(), SIZE).graph.nodes)
    assert set(HANDLERS) - known == {'cuda'}  # which needs a GPU
