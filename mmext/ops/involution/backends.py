"""The table of involution backends and the choice between them.

To add one: write a module with the two functions of ``reference.py``, and a row here whose ``reason_not`` says in a few
words why the backend cannot run on a tensor, or returns None where it can. The module is imported when it first runs.
"""

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

__all__ = ['BACKENDS', 'ENV_VARIABLE', 'Backend', 'pick_backend']

ENV_VARIABLE = 'MMEXT_INVOLUTION_BACKEND'
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """One implementation of the operator.

    Attributes:
        name: What users write.
        module: Name of the module, in this package, that has ``involution_forward`` and ``involution_backward``.
        reason_not: Tensor x -> why it cannot run on it, or None.
    """

    name: str
    module: str
    reason_not: Callable

    def forward(self, *args):
        """Run ``involution_forward`` of the module; the input is already checked."""
        return import_module(self.module, __package__).involution_forward(*args)

    def backward(self, *args):
        """Run ``involution_backward`` of the module."""
        return import_module(self.module, __package__).involution_backward(*args)


@functools.cache
def _numba_problem():
    try:
        import numba  # noqa: F401
    except ImportError as error:
        return f"numba cannot be imported ({error}); run: pip install 'mmext[cpu]'"
    return None


def _why_not_cpu(x):
    return _numba_problem() if x.device.type == 'cpu' else f'x is on {x.device}'


# in the order in which the automatic choice tries them
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend('cpu', '.cpu', _why_not_cpu),
        Backend('reference', '.reference', lambda x: None),
    )
}


def pick_backend(name, x):
    """Return the name of the backend to run on ``x``.

    Args:
        name (str, optional): Name of a backend; None for the environment variable, else the automatic choice.
        x (Tensor): The operator's input.

    Returns:
        str: A key of :data:`BACKENDS`.

    Raises:
        ValueError: If there is no backend of that name.
        RuntimeError: If the named backend cannot run on ``x``.
    """
    source = f'backend={name!r}'
    if name is None and os.environ.get(ENV_VARIABLE):
        name = os.environ[ENV_VARIABLE]
        source = f'{ENV_VARIABLE}={name}'
    if name is None:
        for backend in BACKENDS.values():
            reason = backend.reason_not(x)
            if reason is None:
                return backend.name
            logger.debug('involution backend %s not used: %s', backend.name, reason)
    if name not in BACKENDS:
        raise ValueError(f'{source} is unknown; choose one of {", ".join(BACKENDS)}, or leave it out')
    reason = BACKENDS[name].reason_not(x)
    if reason is not None:
        raise RuntimeError(f'{source} cannot run here: {reason}; leave it out for the automatic choice')
    return name
