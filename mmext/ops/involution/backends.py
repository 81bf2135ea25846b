"""The table of involution backends and the choice between them.

To add one: write a module with the two functions of ``reference.py``, and a row here whose ``reason_not`` says in a few
words why the backend cannot run on a tensor, or returns None where it can.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from . import reference

__all__ = ['BACKENDS', 'ENV_VARIABLE', 'Backend', 'pick_backend']

ENV_VARIABLE = 'MMEXT_INVOLUTION_BACKEND'
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """One implementation of the operator.

    Attributes:
        name: What users write.
        forward: ``(x, weight, stride, padding, dilation) -> out``, its input already checked.
        backward: ``(grad_out, x, weight, stride, padding, dilation, needs_x, needs_weight) -> (grad_x, grad_weight)``.
        reason_not: Tensor x -> why it cannot run on it, or None.
    """

    name: str
    forward: Callable
    backward: Callable
    reason_not: Callable


# in the order in which the automatic choice tries them
BACKENDS = {
    backend.name: backend
    for backend in (Backend('reference', reference.involution_forward, reference.involution_backward, lambda x: None),)
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
