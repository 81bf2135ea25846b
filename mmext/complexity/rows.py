"""The published figures of the model zoo beside what counting finds."""

from dataclasses import dataclass
from decimal import Decimal

from .count import complexity
from .published import to_printed

__all__ = ['Figure', 'compare', 'published_rows']

GIGA, MEGA = 9, 6


@dataclass(frozen=True)
class Figure:
    """One published figure and its reproduction.

    Attributes:
        published: As printed, in millions of parameters or 1e9 multiply-adds.
        exact: What counting finds: parameters or multiply-adds.
        reproduced: ``exact`` in the unit, and rounded to the digits, of ``published``.
    """

    published: Decimal
    exact: int
    reproduced: Decimal

    @property
    def equal(self):
        """bool: Whether the published figure is met."""
        return self.published == self.reproduced


def _figure(published, exact, power):
    published = Decimal(str(published))
    decimals = -published.as_tuple().exponent
    return Figure(published, exact, to_printed(Decimal(exact).scaleb(-power), decimals))


def published_rows():
    """Return the names of the rows with published parameters and FLOPs.

    Returns:
        list[str]: Names that :func:`mmext.zoo.get_entry` takes, in its order.
    """
    from mmext.zoo import get_entry, list_models

    return [name for name in list_models() if {'params_m', 'flops_g'} <= set(get_entry(name)['Metadata']['Published'])]


def compare(name):
    """Count a row by the published convention.

    Args:
        name (str): One of :func:`published_rows`.

    Returns:
        tuple[Figure, Figure]: Parameters and multiply-adds.

    Raises:
        KeyError: If there is no such row.
        ImportError: If the row's toolbox is not installed.
    """
    from mmext.zoo import get_entry

    published = get_entry(name)['Metadata']['Published']
    found = complexity(name, convention='published')
    return (
        _figure(published['params_m'], found.counted_parameters, MEGA),
        _figure(published['flops_g'], found.multiply_adds, GIGA),
    )
