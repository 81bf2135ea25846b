from decimal import Decimal

from mmext.complexity.rows import Figure, compare, published_rows


def test_a_row_beside_its_published_figures():
    assert compare('retinanet_red50_fpn-inv-neck_1x_coco') == (
        Figure(Decimal('26.3'), 26246276, Decimal('26.3')),
        Figure(Decimal('199.9'), 199898500520, Decimal('199.9')),
    )
    assert len(published_rows()) == 16


def test_equal_is_at_the_printed_digits():
    assert Figure(Decimal('26.3'), 26246276, Decimal('26.3')).equal
    assert not Figure(Decimal('26.2'), 26246276, Decimal('26.3')).equal
