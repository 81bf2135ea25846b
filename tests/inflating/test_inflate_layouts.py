"""Names of axes."""

import pytest

from mmext.inflating.layouts import IMAGE, Layout, output_layout, reshaped


@pytest.mark.parametrize(
    ('before', 'after', 'expected'),
    [
        ((2, 8, 6, 5), (2, 8, 6, 5), 'N C H W'),
        ((2, 8, 6, 5), (2, 8, 30), 'N C HW'),
        ((2, 8, 6, 5), (2, 240), 'N CHW'),
        ((2, 8, 6, 5), (2, 48, 5), 'N CH W'),
        ((2, 8, 6, 5), (2, 2, 4, 6, 5), 'N ? ? H W'),
        ((2, 8, 6, 5), (2, 16, 15), 'N ? ?'),
        ((2, 8, 6, 5), (2, 8, 1, 30), 'N C ? HW'),
        ((2, 8, 6, 5), (2, 8, 30, 1), 'N C HW ?'),
        ((2, 8, 6, 5), (2, 8, 15, 2), 'N C H W'),
        ((2, 8, 6, 5), (2, 8, 5, 3, 2), 'N C ? ? ?'),
        ((2, 8, 6, 5), (2, 8, 3, 2, 5), 'N C ? ? W'),
        ((2, 1, 6, 5), (2, 30), 'N CHW'),
        ((2, 8, 1, 1), (2, 8), 'N C'),
        ((2, 8, 1, 1), (2, 8, 1, 1, 1), 'N C H W ?'),
    ],
)
def test_reshaped(before, after, expected):
    assert ' '.join(reshaped(IMAGE.frame, before, after)) == expected


def test_axes_of_clips():
    assert [IMAGE.axis(axis) for axis in (0, 1, 2, 3, -1, -2, -4)] == [0, 1, 3, 4, 4, 3, 0]
    assert IMAGE.permuted((0, 2, 3, 1)) == (Layout(('N', 'H', 'W', 'C'), 1), [0, 2, 3, 4, 1])
    assert Layout(('N', 'C'), 2).permuted((1, 0)) == (Layout(('C', 'N'), 2), [1, 0, 2])


def test_layouts_of_results():
    tokens = Layout(('N', 'HW', 'C'), 2)
    assert output_layout((2, 7, 3), tokens) is tokens
    assert output_layout((2, 7, 3)) == Layout(('N', '?', '?'), 1)
    assert output_layout((2, 7, 3, 3), tokens) is IMAGE
