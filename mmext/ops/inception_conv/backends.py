"""Where the compiled kernels of the inception convolution run, and the choice between them and convolutions."""

import functools
import logging
from importlib import import_module

import torch

from mmext.ops.compiled import why_not_numba
from mmext.ops.guard import asked_for

from .checks import autocast_is_on

__all__ = ['BACKENDS', 'ENV_VARIABLE', 'compiled_kernels', 'pick_backend', 'why_not_cpu']

ENV_VARIABLE = 'MMEXT_INCEPTION_CONV_BACKEND'
BACKENDS = 'cpu', 'reference'

logger = logging.getLogger(__name__)


@functools.cache
def _compiler_problem():
    return why_not_numba()


def why_not_cpu(x, weight, groups=1):
    """Say why the compiled kernels are not made for some tensors.

    Args:
        x (Tensor): The input.
        weight (Tensor): The filters.
        groups (int): Groups of each run. Default: 1.

    Returns:
        str or None: The reason; None where they are.
    """
    if x.device.type != 'cpu':
        return f'x is on {x.device}, not on the CPU'
    if groups > 1:
        return f'groups={groups}, not 1'
    if autocast_is_on(x):
        return 'autocast is on, and what it casts to is not float32'
    if x.dtype != torch.float32:
        return f'x is {x.dtype}, not float32'
    return _compiler_problem()


def pick_backend(backend, x, weight, pattern, groups, reason=None):
    """Return the backend to run.

    Args:
        backend (str, optional): Name of a backend; None for the environment variables, else the automatic choice.
        x (Tensor): The input.
        weight (Tensor): The filters.
        pattern (tuple): (dilation_h, dilation_w, channels) of each run.
        groups (int): Groups of each run.
        reason (str, optional): Why compiled kernels must not run in this call. Default: None, they may.

    Returns:
        str: One of :data:`BACKENDS`.

    Raises:
        ValueError: If there is no backend of that name, or ``MMEXT_BACKEND`` is not 'reference'.
        RuntimeError: If the named backend cannot run here.
    """
    backend, source = asked_for(backend, ENV_VARIABLE)
    if backend not in (None, *BACKENDS):
        raise ValueError(f'{source} is unknown; choose one of {", ".join(BACKENDS)}, or leave it out')
    if backend == 'reference' or x.numel() == 0 or (backend is None and len(pattern) == 1):
        return 'reference'
    reason = why_not_cpu(x, weight, groups) or reason
    if reason is None:
        return 'cpu'
    if backend is not None:
        raise RuntimeError(f'{source} cannot run here: {reason}; leave it out for the automatic choice')
    if not torch.compiler.is_compiling():  # Dynamo cannot trace a logger
        logger.debug('inception convolution backend cpu not used: %s', reason)
    return 'reference'


def compiled_kernels(x, weight, groups):
    """Return the module of the compiled kernels.

    Args:
        x (Tensor): The input.
        weight (Tensor): The filters.
        groups (int): Groups of each run.

    Returns:
        module or None: The module, None where they cannot run.
    """
    return None if x.numel() == 0 or why_not_cpu(x, weight, groups) else _cpu()


def _cpu():
    return import_module('.cpu', __package__)
