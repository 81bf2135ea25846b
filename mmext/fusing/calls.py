"""The ways to call a module."""

import inspect
import itertools

from torch import nn

from .questions import uses_keywords

__all__ = ['MAX_WAYS', 'ways_to_call']

MAX_WAYS = 64  # to call a network, and through one module


class _Call(nn.Module):
    """A call of a network with some arguments that are to be traced, by position or name, and fixed ones."""

    def __init__(self, module, positions, names, fixed):
        super().__init__()
        self.module = module
        self.positions = positions
        self.names = names
        self.fixed = fixed

    def forward(self, inputs):
        args = [inputs[position] for position in range(self.positions)]
        return self.module(*args, **{name: inputs[name] for name in self.names}, **self.fixed)


def ways_to_call(module):
    """Yield the calls of a module: both values of a bool, an argument with a default left out and given."""
    positions, optional = 0, []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind == parameter.VAR_POSITIONAL:
            return
        if parameter.kind == parameter.VAR_KEYWORD:
            if uses_keywords(module.forward, parameter.name):
                return
            continue
        if parameter.default is not parameter.empty:
            values = (False, True) if isinstance(parameter.default, bool) else (parameter.default, _GIVEN)
            optional.append([(parameter.name, value) for value in values])
        elif parameter.kind == parameter.KEYWORD_ONLY:
            optional.append([(parameter.name, _GIVEN)])
        else:
            positions += 1
    if 2 ** len(optional) > MAX_WAYS:
        return
    for choice in itertools.product(*optional):
        names = [name for name, value in choice if value is _GIVEN]
        yield _Call(module, positions, names, {name: value for name, value in choice if value is not _GIVEN})


_GIVEN = object()
