"""What a conversion did, what it complains with, and how both name keys."""

from dataclasses import dataclass, field

__all__ = ['ConversionError', 'ConversionReport', 'name_keys']

SHOWN = 5
LONGEST = 200  # characters of a key that are shown


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
    return f'{len(keys)} key{"s" * (len(keys) > 1)}: {", ".join(map(_short, keys[:SHOWN]))}{more}'


def _short(key):
    key = str(key)
    return key if len(key) <= LONGEST else f'{key[:LONGEST]}...'


@dataclass
class ConversionReport:
    """The coverage of one conversion; ``str()`` prints it.

    Attributes:
        source: Name of the format.
        architecture: Settings read off the checkpoint, plain numbers, words and truth values. Of a network with
            inception convolutions also 'runs', {our name of the convolution: channels of each of its runs}.
        mapped: Key of the checkpoint -> our key. Several of the same one are parts of it, in this order.
        dropped: Key of the checkpoint -> why nothing of ours takes it.
        reshaped: Our key -> why its tensor has lost the trailing dimensions of size 1 that the checkpoint's has.
        filled: Our key -> why the checkpoint need not have it; it becomes zeros.
        missing: Our keys that the checkpoint does not fill. Empty unless the caller allowed it.
        dataset_meta: Classes and palette that the checkpoint says it was trained with, under mmengine's names; empty
            where it says nothing.
        verified: Name of the published file that has the same MD5 sum; '' if that was not asked for.
    """

    source: str
    architecture: dict
    mapped: dict = field(default_factory=dict)
    dropped: dict = field(default_factory=dict)
    reshaped: dict = field(default_factory=dict)
    filled: dict = field(default_factory=dict)
    missing: list = field(default_factory=list)
    dataset_meta: dict = field(default_factory=dict)
    verified: str = ''

    @property
    def settings(self):
        """str: The architecture in one line, but for the runs."""
        return ', '.join(f'{name}={value!r}' for name, value in self.architecture.items() if name != 'runs')

    def __str__(self):
        runs = self.architecture.get('runs', {})
        lines = [
            f'source   {self.source}',
            f'settings {self.settings}',
            *([f'runs     {sum(map(len, runs.values()))} in {len(runs)} inception convolutions'] if runs else []),
            f'mapped   {len(self.mapped)} of {len(self.mapped) + len(self.dropped)} keys',
            *(
                f'{what:<8} {name_keys(keys)} ({reason})'
                for what in ('dropped', 'reshaped', 'filled')
                for reason, keys in _by_reason(getattr(self, what)).items()
            ),
            f'missing  {name_keys(self.missing) if self.missing else "none"}',
            *([f'verified {self.verified}, by its MD5 sum'] if self.verified else []),
            *(
                f'{name:<8} {repr(values) if isinstance(values, str) else len(values)}, from the checkpoint'
                for name, values in self.dataset_meta.items()
            ),
        ]
        return '\n'.join(lines)


def _by_reason(reasons):
    found = {}
    for key, reason in reasons.items():
        found.setdefault(reason, []).append(key)
    return found
