"""What every inflation has in common: checks of its arguments, and the state that goes over to the new module."""

import copy

from torch import nn
from torch.nn.parameter import UninitializedTensorMixin

__all__ = ['carry', 'copied', 'integer', 'is_plain', 'plain']

# these take part in no computation that nn's own layers do not do
EQUAL_WRAPPERS = 'mmcv.cnn.bricks.wrappers'


def is_plain(module, base):
    """Say whether a module computes just what ``base`` does: it is one, or a subclass with the same ``forward``."""
    if not isinstance(module, base):
        return False
    for cls in type(module).__mro__:
        if cls is base:
            return True
        overridden = {'forward', '_conv_forward'} & set(vars(cls))
        if overridden and cls.__module__ not in (EQUAL_WRAPPERS, base.__module__):
            return False
    return True


def plain(module, bases, what):
    """Return the first of ``bases`` that a module computes, or raise what to do about it."""
    for base in bases:
        if is_plain(module, base):
            break
    else:
        names = ', '.join(f'nn.{base.__name__}' for base in bases)
        raise TypeError(
            f'{type(module).__name__} is no {what} with the forward of {names}; run it on every frame, or write its 3D '
            'form'
        )
    weight = getattr(module, 'weight', None)
    if isinstance(weight, UninitializedTensorMixin):
        raise ValueError(f'{type(module).__name__} has no weight yet; run it on an input first')
    if weight is not None and 'weight' not in module._parameters:
        raise ValueError(
            f'{type(module).__name__} computes its weight (by weight normalisation or another parametrisation); '
            'remove that first'
        )
    return base


def integer(name, value, least, note=''):
    """Raise unless a value is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f'{name}={value!r} must be an integer of at least {least}{note}')


def carry(old, new, **changed):
    """Give a new module (made on the meta device) the state of an old one.

    Args:
        old (nn.Module): Source of parameters, buffers, mode and ``requires_grad``.
        new (nn.Module): Has the same names.
        **changed: Values that differ from the source's.

    Returns:
        nn.Module: ``new``; it shares no memory with ``old``.
    """
    for name, value in old.named_parameters(recurse=False):
        data = changed.get(name, value).detach().clone()
        new.register_parameter(name, nn.Parameter(data, requires_grad=value.requires_grad))
    for name, value in old.named_buffers(recurse=False):
        new.register_buffer(name, value.detach().clone())
    return new.train(old.training)


def copied(module):
    """Return a copy of a module that works on any number of axes."""
    return copy.deepcopy(module)
