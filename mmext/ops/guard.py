"""When compiled kernels may run, for every operator of this package, and the one switch that turns them off.

A compiled kernel reads memory by its address. It is the operator only where nothing else than autograd's backward pass
looks at the call: a functional transform, a forward-mode derivative or a subclass of ``Tensor`` gives a tensor whose
memory is not its value. There, operators run in plain PyTorch, which all of these understand.
"""

import os

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode

__all__ = ['SWITCH', 'asked_for', 'describe_switch', 'why_not_compiled']

SWITCH = 'MMEXT_BACKEND'
PLAIN = 'reference'


def why_not_compiled(*tensors, one_operator=False):
    """Say why compiled kernels must not run in this call.

    Deterministic algorithms are no reason: every kernel here sums in a fixed order. Neither are inference mode, hooks
    and memory formats.

    Args:
        *tensors (Tensor or None): What the operator is given.
        one_operator (bool): Whether the call is that of an operator registered with ``torch.library``, which dispatch
            modes and compilers take as a whole, with its shapes, derivative and count of operations. Default: False.

    Returns:
        str or None: The reason, None if compiled kernels may run.
    """
    if _transformed():
        return 'a transform of torch.func, or forward-mode differentiation, is active'
    for tensor in tensors:
        kind = type(tensor)
        if tensor is None or kind is torch.Tensor or kind is torch.nn.Parameter:
            if tensor is not None and tensor.layout is not torch.strided:
                return f'a tensor has the layout {tensor.layout}, not torch.strided'
        elif not (one_operator and kind in (FakeTensor, FunctionalTensor)):
            return f'a tensor is a {kind.__name__}, a subclass of Tensor'
    if torch.jit.is_tracing():
        return 'the call is traced by TorchScript'
    if one_operator:
        return None
    if torch.compiler.is_compiling():
        return 'the call is compiled or exported'
    if _get_current_dispatch_mode() is not None:
        return 'a TorchDispatchMode is active'
    return None


@torch.compiler.assume_constant_result  # Dynamo itself guards on the transforms that it traces
def _transformed():
    # neither has a public form that tells of the calling context; autograd.Function asks the same
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def asked_for(backend, variable):
    """Return the backend that a call or the environment asks for.

    The argument comes first, then the operator's own variable, then ``MMEXT_BACKEND=reference``, the switch for all
    operators.

    Args:
        backend (str, optional): The argument of the call.
        variable (str): The operator's own environment variable.

    Returns:
        tuple[str or None, str]: The name, None for the automatic choice, and where it is from, as messages say it.

    Raises:
        ValueError: If the switch is set to anything but 'reference'.
    """
    if backend is not None:
        return backend, f'backend={backend!r}'
    if os.environ.get(variable):
        return os.environ[variable], f'{variable}={os.environ[variable]}'
    value = os.environ.get(SWITCH)
    if not value:
        return None, f'automatic choice ({variable} is not set)'
    if value != PLAIN:
        raise ValueError(
            f"{SWITCH}={value} is unknown; '{PLAIN}' turns the compiled kernels of every operator off, unset, it "
            f'leaves the choice to each. The variable of this operator is {variable}'
        )
    return PLAIN, f'{SWITCH}={value}'


def describe_switch():
    """Return the state of the switch in a line, for ``mmext env``."""
    value = os.environ.get(SWITCH)
    if not value:
        return f'{SWITCH} is not set: compiled kernels run where they can ({SWITCH}={PLAIN} turns them off)'
    if value == PLAIN:
        return f'{SWITCH}={PLAIN}: operators run in plain PyTorch, unless the variable of one of them says otherwise'
    return f"{SWITCH}={value} is unknown; set it to '{PLAIN}', or unset it"
