"""The table of involution backends and the choice between them.

To add one: write a module with a function ``(x, weight, stride, padding, dilation) -> out``, and a row here whose
``reason_not`` says in a few words why the backend cannot run on a tensor, or returns None where it can.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from .reference import involution_reference

__all__ = ['BACKENDS', 'ENV_VARIABLE', 'Backend', 'pick_backend']

ENV_VARIABLE = 'MMEXT_INVOLUTION_BACKEND'
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """One implementation of the operator.

    Attributes:
        name: What users write.
        run: ``(x, weight, stride, padding, dilation) -> out``, its input already checked.
        reason_not: Tensor x -> why it cannot run on it, or None.
    """

    name: str
    run: Callable
    reason_not: Callable


# in the order in which the automatic choice tries them
BACKENDS = (Backend('reference', involution_reference, lambda x: None),)


def pick_backend(name, x):
    """Return the function to run on ``x``.

    Args:
        name (str, optional): Name of a backend; None for the environment variable, else the automatic choice.
        x (Tensor): The operator's input.

    Returns:
        Callable: ``(x, weight, stride, padding, dilation) -> out``.

    Raises:
        ValueError: If there is no backend of that name.
        RuntimeError: If the named backend cannot run on ``x``.
    """
    source = f'backend={name!r}'
    if name is None and os.environ.get(ENV_VARIABLE):
        name = os.environ[ENV_VARIABLE]
        source = f'{ENV_VARIABLE}={name}'
    if name is None:
        for backend in BACKENDS:
            reason = backend.reason_not(x)
            if reason is None:
                return backend.run
            logger.debug('involution backend %s not used: %s', backend.name, reason)
    for backend in BACKENDS:
        if backend.name == name:
            reason = backend.reason_not(x)
            if reason is not None:
                raise RuntimeError(f'{source} cannot run here: {reason}; leave it out for the automatic choice')
            return backend.run
    raise ValueError(f'{source} is unknown; choose one of {", ".join(b.name for b in BACKENDS)}, or leave it out')
