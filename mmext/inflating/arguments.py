"""The arguments of a call by name, bound by the signature of the function however they were given."""

import inspect
import numbers
import types
import typing

import torch
import torch.nn.functional as F
from torch import fx
from torch.fx.operator_schemas import get_signature_for_torch_op

__all__ = ['Call', 'Refused', 'bind', 'example', 'integers']

# other spellings of keywords that PyTorch's own functions take, as NumPy's have them
ALIASES = {'axis': 'dim', 'keepdims': 'keepdim', 'x': 'input', 'a': 'input', 'x1': 'input', 'x2': 'other'}
# schemas call them integers
TYPES = {'dtype': torch.dtype, 'layout': torch.layout, 'memory_format': torch.memory_format}


class Refused(ValueError):  # noqa: N818 - no error yet: all of a network are collected
    """A call that cannot be inflated; says why, as the end of a sentence that starts with the function."""


class Call:
    """A call with its arguments by name.

    Args:
        node (fx.Node): The call in the 2D network.
        tensor (fx.Node or list): Its first argument.
        given (dict): Arguments after the first one that are given, by parameter.
        parameters (dict[str, inspect.Parameter]): All parameters after the first one.
    """

    def __init__(self, node, tensor, given, parameters):
        self.node = node
        self.tensor = tensor
        self.given = given
        self._parameters = parameters

    def __getitem__(self, name):
        """Return an argument: the given one, else its default, None where there is no such parameter."""
        if name in self.given or name not in self._parameters:
            return self.given.get(name)
        default = self._parameters[name].default
        return None if default is inspect.Parameter.empty else default

    def is_default(self, name):
        """Say whether an argument is what it would be if it were not given."""
        default = self._parameters[name].default
        return type(default) is type(self.given[name]) and default == self.given[name]

    def again(self, rewriter, tensor, **changes):
        """Add the same call to the new graph.

        Args:
            rewriter (Rewriter): Owner of the new graph.
            tensor (fx.Node or list): Its first argument there.
            **changes: Arguments to change or add; all others are as they were.

        Returns:
            fx.Node: The new call.
        """
        return rewriter.again(self.node, [tensor], {**rewriter.new(self.given), **changes})


def bind(node, known=(), passed=()):
    """Bind a call by the signature of what it calls.

    Args:
        node (fx.Node): The call in the 2D network, which has been run there.
        known (Sequence[str]): Parameters that the caller interprets.
        passed (Sequence[str]): Parameters that mean the same for a clip, so that they can be handed on.

    Returns:
        Call: The arguments by name.

    Raises:
        Refused: If no signature is known, or if there is an argument that is in neither list and not at its default.
    """
    for signature, by_schema in _signatures(node):
        call = _bound(node, signature, by_schema)
        if call is not None:
            break
    else:
        raise Refused('is called in a way that no signature of it describes')
    for name, value in call.given.items():
        if name not in known and name not in passed and not call.is_default(name):
            shown = 'a computed value' if isinstance(value, fx.Node) else repr(value)
            raise Refused(f'is called with {name}={shown}, which is not known for clips; leave {name} out')
    return call


def example(value):
    """Return an argument as it was when the 2D network ran; tensors without their values."""
    return fx.map_arg(value, lambda node: node.meta['frame_value'])


def integers(value):
    """Return one or several integers as a tuple; None if there are others, such as what is computed."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values if all(isinstance(item, int) and not isinstance(item, bool) for item in values) else None


def _signatures(node):
    """Return the signatures of what a node calls, and of each whether it is a schema of an operator of PyTorch's."""
    target = getattr(torch.Tensor, node.target, None) if node.op == 'call_method' else node.target
    # those with return_indices are dispatched by a function whose own signature is (*args, **kwargs)
    target = getattr(F, f'{getattr(target, "__name__", "")}_with_indices', target)
    if isinstance(target, types.FunctionType):
        return [(inspect.signature(target), False)]
    if node.op == 'call_method':
        target = getattr(torch.ops.aten, node.target, None)
    return [(signature, True) for signature in get_signature_for_torch_op(target) or ()]


def _bound(node, signature, by_schema):
    """Return the call bound by a signature, None if its arguments do not fit."""
    args, kwargs = node.args, dict(node.kwargs)
    if by_schema:
        names = signature.parameters
        kwargs = {name if name in names else ALIASES.get(name, name): value for name, value in kwargs.items()}
        if node.op == 'call_method' and len(args) > 2 and _takes_single_integers(signature):
            args = (args[0], args[1:])
    try:
        arguments = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return None
    parameters = dict(signature.parameters)
    if by_schema and not all(_fits(example(value), parameters[name]) for name, value in arguments.items()):
        return None
    first = next(iter(parameters))
    del parameters[first]
    return Call(node, arguments.pop(first), arguments, parameters)


def _takes_single_integers(signature):
    """Say whether integers may be given one by one: x.permute(0, 2, 1) for x.permute((0, 2, 1))."""
    positional = [p for p in signature.parameters.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return len(positional) == 2 and positional[1].annotation == typing.List[int]  # noqa: UP006


def _fits(value, parameter):
    kind = TYPES.get(parameter.name)
    if kind is not None:
        return value is None or isinstance(value, kind)
    return _is_of(value, parameter.annotation)


def _is_of(value, annotation):
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Union:
        return any(_is_of(value, kind) for kind in inner)
    if origin is list:
        many = isinstance(value, (tuple, list)) and all(_is_of(item, inner[0]) for item in value)
        return many or (inner[0] in (int, float) and _is_of(value, inner[0]))
    if annotation in (float, numbers.Number):
        return isinstance(value, numbers.Number)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is torch.device:
        return isinstance(value, (torch.device, str, int))
    return not inspect.isclass(annotation) or isinstance(value, annotation)
