import itertools

import numpy as np
import pytest
import torch

from mmext.ops.inception_conv import inception_conv2d
from mmext.search import choose, dilations, errors


def kept_mask(kernel, max_dilation, pair):
    size = (kernel - 1) * max_dilation + 1
    mask = torch.zeros(size, size, dtype=torch.bool)
    for row, column in itertools.product(range(kernel), repeat=2):
        half = kernel // 2
        mask[size // 2 + (row - half) * pair[0], size // 2 + (column - half) * pair[1]] = True
    return mask


@pytest.mark.parametrize('kernel', [3, 5])
@pytest.mark.parametrize('max_dilation', [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize('criterion', ['l1', 'expectation'])
def test_choice_is_that_of_brute_force(kernel, max_dilation, criterion):
    size = (kernel - 1) * max_dilation + 1
    weight = torch.randn(12, 5, size, size, generator=torch.Generator().manual_seed(max_dilation)).double()
    found = choose(weight, max_dilation, criterion)
    for index, filter_weight in enumerate(weight):
        best = None
        for pair in itertools.product(range(1, max_dilation + 1), repeat=2):
            left = filter_weight.masked_fill(kept_mask(kernel, max_dilation, pair), 0)
            error = left.abs().sum() if criterion == 'l1' else left.sum((1, 2)).abs().sum()
            if best is None or error < best[0]:
                best = error, pair
        assert found.dilations[index] == best[1]


@pytest.mark.parametrize('pair', [(1, 1), (1, 3), (4, 2), (4, 4)])
@pytest.mark.parametrize('kernel', [3, 5])
def test_known_dilation_is_found_in_noise(pair, kernel):
    torch.manual_seed(0)
    size = (kernel - 1) * 4 + 1
    weight = 0.01 * torch.randn(32, 8, size, size)
    weight[:, :, kept_mask(kernel, 4, pair)] += torch.randn(32, 8, kernel**2)
    found = choose(weight, 4)
    assert found.runs == ((*pair, 32),)
    assert found.order == tuple(range(32))


def test_runs_order_and_masked_kernel_agree():
    torch.manual_seed(0)
    weight = torch.randn(24, 6, 9, 9, dtype=torch.double)
    found = choose(weight, 4)
    x = torch.randn(2, 6, 11, 13, dtype=torch.double)
    masked = torch.stack([w * kept_mask(3, 4, pair) for w, pair in zip(weight, found.dilations)])
    expected = torch.nn.functional.conv2d(x, masked, padding=4)
    taken = torch.stack([w[:, kept_mask(3, 4, pair)].view(6, 3, 3) for w, pair in zip(weight, found.dilations)])
    result = inception_conv2d(x, taken[list(found.order)], None, found.runs)
    torch.testing.assert_close(result, expected[:, list(found.order)])
    assert sorted(found.order) == list(range(24))
    assert list(found.runs) == sorted(found.runs)


def test_ties_go_to_the_smaller_area_then_to_the_wider():
    assert dilations(3)[:6] == [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2)]
    weight = torch.zeros(2, 1, 5, 5)
    weight[0, 0, 2, [0, 4]] = 1  # kept by (1, 2) and (2, 2)
    weight[1, 0, [0, 0, 4, 4], [0, 4, 0, 4]] = 1  # (2, 2)
    assert choose(weight, 2).dilations == ((1, 2), (2, 2))
    cross = torch.zeros(1, 1, 5, 5)
    cross[0, 0, 2, 0] = cross[0, 0, 0, 2] = 1  # either direction keeps one, (2, 2) both
    assert choose(cross, 2).dilations == ((2, 2),)
    square = torch.zeros(1, 1, 5, 5)
    square[0, 0, 2, 2] = 1
    assert choose(square, 2).dilations == ((1, 1),)


def test_dead_filters_are_undilated_and_counted():
    weight = torch.zeros(4, 2, 5, 5)
    weight[0, :, 2, 4] = 1
    found = choose(weight, 2)
    assert (found.dead, found.runs, found.order) == (3, ((1, 1, 3), (1, 2, 1)), (1, 2, 3, 0))
    assert (found.lost, found.total) == (0, 2)


def test_groups_share_the_numbers_of_filters():
    torch.manual_seed(0)
    weight = torch.randn(12, 4, 5, 5, dtype=torch.double)
    found = choose(weight, 2, groups=3)
    assert all(channels % 3 == 0 for *_, channels in found.runs)
    pairs = [sorted(found.dilations[begin : begin + 4]) for begin in (0, 4, 8)]
    assert pairs[0] == pairs[1] == pairs[2]
    # least in sum among all assignments with these numbers
    error, _ = errors(weight, 2)
    known = dilations(2)
    slots = [known.index(pair) for pair in pairs[0]]
    least = sum(
        min(sum(error[begin + i, slot] for i, slot in enumerate(p)) for p in itertools.permutations(slots))
        for begin in (0, 4, 8)
    )
    assert found.lost == pytest.approx(least)
    # of a run, the filters stand group by group, as grouped convolutions take them
    begin = 0
    for *_, channels in found.runs:
        groups = [index // 4 for index in found.order[begin : begin + channels]]
        assert groups == sorted(groups)
        begin += channels
    x = torch.randn(1, 12, 9, 9, dtype=torch.double)
    masked = torch.stack([w * kept_mask(3, 2, pair) for w, pair in zip(weight, found.dilations)])
    expected = torch.nn.functional.conv2d(x, masked, padding=2, groups=3)
    taken = torch.stack([w[:, kept_mask(3, 2, pair)].view(4, 3, 3) for w, pair in zip(weight, found.dilations)])
    result = inception_conv2d(x, taken[list(found.order)], None, found.runs, groups=3)
    torch.testing.assert_close(result, expected[:, list(found.order)])


def test_depthwise_filters_share_one_dilation():
    weight = torch.zeros(6, 1, 5, 5)
    weight[:, :, 2, [0, 4]] = 1
    assert choose(weight, 2, groups=6).runs == ((1, 2, 6),)


def test_channel_means_weight_the_expectation():
    weight = torch.zeros(1, 2, 5, 5, dtype=torch.double)
    weight[0, 0, 2, 4] = 1  # columns
    weight[0, 1, 4, 2] = 2  # rows
    weight[0, :, 2, 2] = 1
    only_first = torch.tensor([1.0, 0])
    assert choose(weight, 2, 'expectation', channel_means=only_first).dilations == ((1, 2),)
    assert choose(weight, 2, 'expectation', channel_means=only_first.flip(0)).dilations == ((2, 1),)


def test_a_large_layer():
    weight = torch.randn(512, 512, 13, 13)
    found = choose(weight, 6)
    assert sum(run[2] for run in found.runs) == 512
    assert found.lost < found.total


def test_bad_input():
    with pytest.raises(ValueError, match='NaN or infinite'):
        choose(torch.full((1, 1, 5, 5), np.nan), 2)
    with pytest.raises(ValueError, match='max_dilation=4'):
        choose(torch.zeros(1, 1, 5, 5), 4)
    with pytest.raises(ValueError, match='max_dilation=1'):
        choose(torch.zeros(1, 1, 4, 4), 1)
    with pytest.raises(ValueError, match='l1, expectation'):
        choose(torch.zeros(1, 1, 5, 5), 2, 'l2')
    with pytest.raises(ValueError, match='divisor'):
        choose(torch.zeros(4, 1, 5, 5), 2, groups=3)
