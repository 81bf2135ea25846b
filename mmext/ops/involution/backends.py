"""The table of involution backends and the choice between them.

To add one: write a module with the two functions of ``reference.py``, and a row here whose ``reason_not`` says in a few
words why the backend cannot run for a device and dtype, or returns None where it can. The module is imported when it
first runs.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch

from mmext.ops.compiled import why_not_numba
from mmext.ops.guard import asked_for

__all__ = ['BACKENDS', 'ENV_VARIABLE', 'Backend', 'pick_backend']

ENV_VARIABLE = 'MMEXT_INVOLUTION_BACKEND'
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """One implementation of the operator.

    Attributes:
        name: What users write.
        module: Name of the module, in this package, that has ``involution_forward`` and ``involution_backward``.
        reason_not: (Device, dtype) of the input -> why it cannot run there, or None.
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
    return why_not_numba()


@functools.cache
def _cupy_problem():
    if torch.version.cuda is None:
        return 'PyTorch is not built for NVIDIA GPUs'
    major = torch.version.cuda.split('.')[0]
    install = f"run: pip install 'mmext[cuda{major}]'"
    if int(np.__version__.split('.')[0]) < 2:  # which CuPy 14 cannot be imported with
        install += f" 'cupy-cuda{major}x<14'"
    try:
        import cupy
    except ImportError as error:  # CuPy's own text has many lines, of which the cause is the useful one
        cause = str(error.__cause__ or error).partition(' (auto-generated')[0]
        return f'CuPy cannot be imported ({cause}); {install}'
    if int(cupy.__version__.split('.')[0]) < 12:
        return f'CuPy {cupy.__version__} is older than 12; {install}'
    try:
        cupy.cuda.runtime.getDeviceCount()
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # of several kinds: no driver, no compiler, libraries of another CUDA
        return f'CuPy {cupy.__version__} finds no GPU or no compiler ({error}); {install}'
    return None


def _why_not_cpu(device, dtype):
    return _why_not_dtype(dtype) or _numba_problem() if device.type == 'cpu' else f'x is on {device}, not on the CPU'


def _why_not_cuda(device, dtype):
    if device.type != 'cuda':
        return f'x is on {device}, not on a CUDA device'
    return _why_not_dtype(dtype) or _cupy_problem()


def _why_not_dtype(dtype):
    if dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        return None
    return f'x is {dtype}, not one of float64, float32, float16, bfloat16'


# in the order in which the automatic choice tries them
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend('cuda', '.cuda', _why_not_cuda),
        Backend('cpu', '.cpu', _why_not_cpu),
        Backend('reference', '.reference', lambda device, dtype: None),
    )
}


def pick_backend(name, device, dtype):
    """Return the name of the backend to run.

    Args:
        name (str, optional): Name of a backend; None for the environment variables, else the automatic choice.
        device (torch.device): Where the operator's input is.
        dtype (torch.dtype): Its dtype.

    Returns:
        str: A key of :data:`BACKENDS`.

    Raises:
        ValueError: If there is no backend of that name, or ``MMEXT_BACKEND`` is not 'reference'.
        RuntimeError: If the named backend cannot run there.
    """
    name, source = asked_for(name, ENV_VARIABLE)
    if name is None:
        for backend in BACKENDS.values():
            reason = backend.reason_not(device, dtype)
            if reason is None:
                return backend.name
            logger.debug('involution backend %s not used: %s', backend.name, reason)
    if name not in BACKENDS:
        raise ValueError(f'{source} is unknown; choose one of {", ".join(BACKENDS)}, or leave it out')
    reason = BACKENDS[name].reason_not(device, dtype)
    if reason is not None:
        raise RuntimeError(f'{source} cannot run here: {reason}; leave it out for the automatic choice')
    return name
