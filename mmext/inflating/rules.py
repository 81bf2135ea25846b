"""The rules of an inflation: which module or function they name, and what is to be done with it."""

import difflib
import fnmatch
import inspect
from collections.abc import Mapping

from torch import nn

from .layers import OPTIONS, kind_of

__all__ = ['FRAMES', 'Rules', 'shown']

FRAMES = 'frames'
KNOWN_OPTIONS = sorted({name for names in OPTIONS.values() for name in names})


class Rules:
    """Rules by name, by type and by function.

    Args:
        rules (dict, optional): As of :func:`mmext.inflate`. Default: None, no rules.

    Raises:
        TypeError: If a key or a value is of a wrong type.
        ValueError: If an option is unknown.
    """

    def __init__(self, rules=None):
        if rules is None:
            rules = {}
        if not isinstance(rules, Mapping):
            raise TypeError(f'rules={rules!r} must be a dict of module name, module type or function to what to do')
        self._rules = dict(rules)
        self._used = set()
        for key, value in self._rules.items():
            self._check(key, value)

    def _check(self, key, value):
        is_type = inspect.isclass(key) and issubclass(key, nn.Module)
        if not (isinstance(key, str) or is_type or (callable(key) and not inspect.isclass(key))):
            raise TypeError(f'rules: the key {key!r} is no module name (or pattern), subclass of nn.Module or function')
        if isinstance(key, str) or is_type:
            allowed = f'{FRAMES!r}, a dict of options or a function of the module'
            right = value == FRAMES or isinstance(value, Mapping) or callable(value)
        else:
            allowed, right = f'{FRAMES!r} for a function', isinstance(value, str) and value == FRAMES
        if not right:
            raise TypeError(f'rules: {shown(key)} has {value!r}; allowed is {allowed}')
        if isinstance(value, Mapping):
            for option in value:
                if option not in KNOWN_OPTIONS:
                    close = difflib.get_close_matches(str(option), KNOWN_OPTIONS, n=1)
                    hint = f'did you mean {close[0]!r}? ' if close else ''
                    raise ValueError(
                        f'rules: {shown(key)} has the unknown option {option!r}: {hint}known are '
                        f'{", ".join(KNOWN_OPTIONS)}'
                    )

    def of_module(self, name, module):
        """Return what to do with a module, None where no rule names it.

        Exact names come first, then patterns in their order, then types in their order. Options stand for layers that
        have them; a pattern or type passes over all others, an exact name must not name them.

        Raises:
            ValueError: If an exact name gives options to a module that does not take them.
        """
        exact = [key for key in self._rules if key == name]
        patterns = [
            key for key in self._rules if isinstance(key, str) and key != name and fnmatch.fnmatchcase(name, key)
        ]
        types = [key for key in self._rules if inspect.isclass(key) and isinstance(module, key)]
        for key in (*exact, *patterns, *types):
            value = self._rules[key]
            if isinstance(value, Mapping):
                kind = kind_of(module)
                unfit = [option for option in value if option not in OPTIONS.get(kind, ())]
                if unfit and key == name:
                    takes = ', '.join(OPTIONS.get(kind, ())) or f'none; {FRAMES!r} or a function of the module fit'
                    raise ValueError(
                        f'rules: {name!r} is a {type(module).__name__}, which does not take {", ".join(unfit)}; '
                        f'its options: {takes}'
                    )
                if unfit or kind not in OPTIONS:
                    continue
            return key, value
        return None

    def of_function(self, function):
        """Return whether a function (or method of ``torch.Tensor``) is to run on every frame."""
        for key in self._rules:
            if key is function or (not isinstance(key, str) and not inspect.isclass(key) and key == function):
                self._used.add(key)
                return True
        return False

    def use(self, key):
        """Note that a rule has been applied."""
        self._used.add(key)

    def unused(self):
        """Return the names and functions that have not been applied; types may stay unused."""
        return [key for key in self._rules if key not in self._used and not inspect.isclass(key)]


def shown(key):
    """Return a key of rules as it is written."""
    if isinstance(key, str):
        return repr(key)
    return f'{getattr(key, "__module__", None) or ""}.{getattr(key, "__qualname__", key)}'.lstrip('.')
