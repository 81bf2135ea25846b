"""What a conversion did, what it complains with, and how both name keys."""

from dataclasses import dataclass, field

__all__ = ['ConversionError', 'ConversionReport', 'name_keys']

SHOWN = 5


class ConversionError(ValueError):
    """A checkpoint that cannot be read, is not what it is said to be, or does not fit. The message says what to do."""


def name_keys(keys):
    """Name the first few of some keys, and how many there are.

    Args:
        keys (Iterable[str]): At least one key.

    Returns:
        str: For example ``'7 keys: a, b, c, d, e, ...'``.
    """
    keys = list(keys)
    more = ', ...' if len(keys) > SHOWN else ''
    return f'{len(keys)} key{"s" * (len(keys) > 1)}: {", ".join(map(str, keys[:SHOWN]))}{more}'


@dataclass
class ConversionReport:
    """The coverage of one conversion; ``str()`` prints it.

    Attributes:
        source: Name of the format.
        architecture: Settings read off the checkpoint, plain numbers, words and truth values. Of a network with
            inception convolutions also 'runs', {our name of the convolution: channels of each of its runs}.
        mapped: Key of the checkpoint -> our key. Several of the same one are parts of it, in this order.
        dropped: Key of the checkpoint -> why nothing of ours takes it.
        missing: Our keys that the checkpoint does not fill. Empty unless the caller allowed it.
        dataset_meta: Classes and palette that the checkpoint says it was trained with, under mmengine's names; empty
            where it says nothing.
    """

    source: str
    architecture: dict
    mapped: dict = field(default_factory=dict)
    dropped: dict = field(default_factory=dict)
    missing: list = field(default_factory=list)
    dataset_meta: dict = field(default_factory=dict)

    @property
    def settings(self):
        """str: The architecture in one line, but for the runs."""
        return ', '.join(f'{name}={value!r}' for name, value in self.architecture.items() if name != 'runs')

    def __str__(self):
        reasons = {}
        for key, reason in self.dropped.items():
            reasons.setdefault(reason, []).append(key)
        runs = self.architecture.get('runs', {})
        lines = [
            f'source   {self.source}',
            f'settings {self.settings}',
            *([f'runs     {sum(map(len, runs.values()))} in {len(runs)} inception convolutions'] if runs else []),
            f'mapped   {len(self.mapped)} of {len(self.mapped) + len(self.dropped)} keys',
            *(f'dropped  {name_keys(keys)} ({reason})' for reason, keys in reasons.items()),
            f'missing  {name_keys(self.missing) if self.missing else "none"}',
            *(f'{name:<8} {len(values)}, from the checkpoint' for name, values in self.dataset_meta.items()),
        ]
        return '\n'.join(lines)
