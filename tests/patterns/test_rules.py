import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from mmext.patterns import PatternError, load_pattern, make_pattern
from mmext.patterns.rules import make_layer, replaceable_convolutions

RESNET18 = (64,) * 4 + (128,) * 4 + (256,) * 4 + (512,) * 4


def test_uniform():
    assert make_layer('uniform', 32, max_dilation=2) == ((1, 1, 16), (1, 2, 6), (2, 1, 5), (2, 2, 5))
    counts = {run[:2]: run[2] for run in make_layer('uniform', 512)}
    assert len(counts) == 16
    assert counts[1, 1] == 256
    assert sorted(set(counts.values())) == [17, 18, 256]


def test_proportional_is_close_to_the_published_average():
    pattern = make_pattern('proportional', [512])
    published = load_pattern('detection_r101_k9')
    for dilation in ((1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (2, 3), (1, 4)):
        assert pattern.share(*dilation) == pytest.approx(published.share(*dilation), abs=0.03)
    assert pattern.share(1, 2) > pattern.share(1, 3) > pattern.share(3, 3)


@pytest.mark.parametrize('rule', ['uniform', 'proportional'])
@pytest.mark.parametrize('width', [1, 2, 3, 8, 31, 64, 100])
@pytest.mark.parametrize('undilated', [0, 0.3, 0.5, 1])
@pytest.mark.parametrize('groups', [1, 4])
def test_every_width_adds_up(rule, width, undilated, groups):
    layer = make_layer(rule, width * groups, 3, undilated, groups)
    assert sum(run[2] for run in layer) == width * groups
    assert all(run[2] % groups == 0 and run[2] > 0 for run in layer)
    assert layer[0] == (1, 1, width * groups) or undilated < 1
    assert [run[:2] for run in layer] == sorted({run[:2] for run in layer})


def test_largest_dilation_one_is_an_ordinary_convolution():
    assert make_layer('uniform', 7, max_dilation=1) == ((1, 1, 7),)


def test_a_network_gives_its_widths():
    with torch.device('meta'):
        network = resnet18()
    convolutions = replaceable_convolutions(network)
    assert list(convolutions)[:3] == ['layer1.0.conv1', 'layer1.0.conv2', 'layer1.1.conv1']
    assert make_pattern('uniform', network) == make_pattern('uniform', RESNET18)


def test_groups_of_a_network_are_kept():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 7), nn.Conv2d(8, 16, 3, groups=4), nn.Conv2d(16, 16, 3, groups=16), nn.ConvTranspose2d(16, 8, 3)
    )
    pattern = make_pattern('uniform', network)
    assert pattern.widths == (16,)
    assert all(run[2] % 4 == 0 for run in pattern[0])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(rule='random'), "rule='random' is unknown; choose one of uniform, proportional"),
        (dict(network=[64, 0]), 'channels=0: an integer of at least 1'),
        (dict(network=['64']), "channels='64'"),
        (dict(max_dilation=0), 'max_dilation=0'),
        (dict(undilated=1.5), 'undilated=1.5: a share from 0 to 1'),
        (dict(undilated='half'), "undilated='half'"),
        (dict(network=[]), 'the pattern has no layer'),
        (dict(network=nn.Linear(2, 2)), 'Linear has no 3x3 convolution'),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(PatternError, match=message):
        make_pattern(**{**dict(rule='uniform', network=[64]), **options})


def test_channels_that_the_groups_do_not_divide():
    with pytest.raises(PatternError, match='channels=6 is not a multiple of groups=4'):
        make_layer('uniform', 6, groups=4)
