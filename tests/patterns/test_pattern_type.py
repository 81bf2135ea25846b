import copy
import pickle

import pytest

from mmext.patterns import PUBLISHED, Pattern, PatternError, load_pattern

LAYERS = [[[1, 1, 40], [1, 2, 24]], [[2, 1, 64], [3, 3, 0], [1, 1, 64]]]
RESNET50 = (64,) * 3 + (128,) * 4 + (256,) * 6 + (512,) * 3


def test_is_immutable_hashable_and_equal_by_its_layers():
    pattern = Pattern(LAYERS)
    assert pattern == Pattern(tuple(LAYERS)) == Pattern(pattern)
    assert len({pattern, Pattern(LAYERS)}) == 1
    assert pattern[1] == ((2, 1, 64), (1, 1, 64))
    assert pattern.widths == (64, 128)
    assert pattern.max_dilation == 2
    assert pattern.share(1, 1) == pytest.approx((40 / 64 + 64 / 128) / 2)
    assert repr(pattern) == 'Pattern(2 layers, 64 to 128 channels)'
    for other in (copy.deepcopy(pattern), pickle.loads(pickle.dumps(pattern))):
        assert type(other) is Pattern
        assert other == pattern
    with pytest.raises(AttributeError):
        pattern.name = 'mine'


@pytest.mark.parametrize(
    ('layers', 'message'),
    [
        ([], 'the pattern has no layer'),
        ([[[1, 1, 4]], []], 'layer 1 has no channels'),
        ([[[1, 1, 4]], [[1, 1, 0]]], 'layer 1 has no channels'),
        ([[[1, 1, 4], [1, 2, -3]]], r'layer 0 has the run \(1, 2, -3\): -3 channels'),
        ([[[1, 1, 4], [0, 2, 3]]], r'layer 0 has the run \(0, 2, 3\): dilations are in pixels and at least 1'),
        ([[[1, 1, 4], [2, 3]]], r'layer 0 has the run \[2, 3\]; three integers'),
        ([[[1, 1, 4.5]]], r'layer 0 has the run \[1, 1, 4.5\]; three integers'),
        ([[1, 1, 4]], 'layer 0 has the run 1; three integers'),
        ([[[1, 1, True]]], 'three integers'),
        ([4], 'layer 0 is 4; a list of'),
        (['abc'], "layer 0 is 'abc'; a list of"),
    ],
)
def test_illegal(layers, message):
    with pytest.raises(PatternError, match=message):
        Pattern(layers)


def test_widths():
    pattern = load_pattern('detection_r50_k9')
    assert pattern.check_widths(RESNET50) is pattern
    with pytest.raises(PatternError) as caught:
        load_pattern('pose_r101_k13').check_widths(RESNET50, "'pose_r101_k13'")
    assert str(caught.value) == (
        "'pose_r101_k13' has 33 layers, the network has 16 inception convolutions: it is the pattern of another depth; "
        'published ones that fit: detection_r50_k9, segmentation_r50_k9, pose_r50_k13'
    )
    names = [f'layer{index}' for index in range(16)]
    with pytest.raises(PatternError) as caught:
        pattern.check_widths([*RESNET50[:-1], 500], layer_names=names)
    assert str(caught.value) == (
        'layer 15 (layer15) of the pattern: the channels add up to 512, the convolution has 500 (1x1: 206, 1x2: 32, '
        '1x3: 15, 1x4: 63, ...); make one with `mmext pattern make`'
    )


@pytest.mark.parametrize('name', PUBLISHED)
def test_published(name):
    pattern = load_pattern(name)
    depth, reach = (int(part[1:]) for part in name.split('_')[1:])
    blocks = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    assert pattern.widths == tuple(64 * 2**stage for stage, count in enumerate(blocks) for _ in range(count))
    assert pattern.max_dilation == (reach - 1) // 2
    assert 0.4 < pattern.share(1, 1) < 0.55
    branches = {'detection_r50_k9': 238, 'segmentation_r50_k9': 233, 'pose_r50_k13': 414, 'pose_r101_k13': 908}
    assert sum(map(len, pattern)) == branches.get(name, 510)
