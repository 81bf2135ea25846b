"""The values of a symbolic trace: those of ``torch.fx``, which say so where the trace would go wrong without a word."""

import inspect

import torch
from torch import fx

__all__ = ['Value']


# What a tensor may have or not, and what is of this object only.
STORED = {
    *('_backward_hooks', '_base', '_grad', '_grad_fn', '_version', 'grad', 'grad_fn', 'is_leaf', 'name', 'names'),
    *('output_nr', 'retains_grad'),
}


def _is_inside(frame):
    """Say whether a frame is of the inside of ``torch``, other than what answers questions for a forward."""
    module = frame.f_globals.get('__name__') or ''
    # torch.is_tensor is in torch itself
    return module.startswith(('torch.', 'mmext.fusing.')) and not module.startswith('torch.jit')


class _Text(str):
    """A value as a string: may stand in a message, and decides nothing."""

    __slots__ = ('tracer',)

    @classmethod
    def of(cls, text, tracer):
        """Return it for the text of a value."""
        made = cls(text)
        made.tracer = tracer
        return made

    def _ask(self, *args, **kwargs):
        self.tracer.give_up('the text of a value decides what runs')

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __contains__ = __getitem__ = __len__ = _ask
    startswith = endswith = find = index = count = split = rsplit = partition = rpartition = replace = _ask
    removeprefix = removesuffix = strip = lstrip = rstrip = lower = upper = _ask


class Value(fx.Proxy):
    """A proxy that is never taken for what it is not.

    The proxies of ``torch.fx`` answer ``isinstance(x, torch.Tensor)`` and ``hasattr(x, ...)`` as proxies do, so that a
    ``forward`` that asks takes a branch that no tensor takes. Here such questions end the trace of that module.
    """

    @property
    def __class__(self):
        """The type, for the inside of ``torch``; others ask for it to choose a branch."""
        self._only_inside('the type of a value decides what runs')
        return type(self)

    def _only_inside(self, reason):
        """End the trace, unless it is the inside of ``torch`` that asks."""
        if not _is_inside(inspect.currentframe().f_back.f_back):
            self.tracer.give_up(reason)

    def __hash__(self):
        self._only_inside('a value is looked up in a set or dict')
        return object.__hash__(self)

    def __repr__(self):
        text = super().__repr__()
        return text if _is_inside(inspect.currentframe().f_back) else _Text.of(text, self.tracer)

    def __str__(self):
        text = super().__str__()
        return text if _is_inside(inspect.currentframe().f_back) else _Text.of(text, self.tracer)

    def __format__(self, spec):
        text = super().__repr__()
        return text if _is_inside(inspect.currentframe().f_back) else _Text.of(text, self.tracer)

    def __getattr__(self, name):
        if not hasattr(torch.Tensor, name):
            self.tracer.give_up(f'a value is asked for its {name}, which no tensor has')
        if name in STORED:
            self.tracer.give_up(f'a value is asked for its {name}')
        return _Attribute(self, name)

    def __len__(self):
        self.tracer.give_up('the length of a value decides what runs')

    def __index__(self):
        self.tracer.give_up('a value is used as a number')

    __int__ = __float__ = __complex__ = __index__

    def __contains__(self, item):
        self.tracer.give_up('what is in a value decides what runs')


class _Attribute(Value):
    """An attribute of a value: a node of the graph if it is used as a value, none if it is called as a method."""

    def __init__(self, root, name):
        self.root = root
        self.attr = name
        self.tracer = root.tracer
        self._node = None

    @property
    def node(self):
        """Its node, made at first use."""
        if self._node is None:
            self._node = self.tracer.create_proxy('call_function', getattr, (self.root, self.attr), {}).node
        return self._node

    def __call__(self, *args, **kwargs):
        return self.tracer.create_proxy('call_method', self.attr, (self.root, *args), kwargs)
