"""Questions in the code of a ``forward`` that a symbolic trace answers in another way than a run."""

import contextlib
import dis
import functools
import itertools
import random
import sys

import numpy
import torch

__all__ = ['Asked', 'question', 'same_random_numbers', 'uses_keywords']

# What they return depends on how the network is run, not on its input alone.
MODES = {
    *('are_deterministic_algorithms_enabled', 'get_autocast_cpu_dtype', 'get_autocast_dtype'),
    *('get_autocast_gpu_dtype', 'get_default_dtype', 'get_deterministic_debug_mode', 'has_torch_function'),
    *('has_torch_function_unary', 'has_torch_function_variadic', 'is_anomaly_enabled', 'is_autocast_cpu_enabled'),
    *('is_autocast_enabled', 'is_compiling', 'is_deterministic_algorithms_warn_only_enabled'),
    *('is_dynamo_compiling', 'is_fx_symbolic_tracing', 'is_fx_tracing', 'is_in_onnx_export'),
    *('is_inference_mode_enabled', 'is_tracing'),
}
SKIPPED = {'torch', 'numpy'} | sys.stdlib_module_names


@functools.lru_cache(maxsize=10000)
def question(code):
    """Say what a function asks that has no true answer in a trace; None if there is nothing.

    No method of a value is called for ``type(x)`` and for ``x.dtype is torch.float32``, so that the value itself cannot
    end the trace. Not found are the same questions under other names (``kind = type``).

    Args:
        code (types.CodeType): The function's code.

    Returns:
        str or None: The question.
    """
    steps = [step for step in dis.get_instructions(code) if step.opname not in ('CACHE', 'PRECALL', 'PUSH_NULL')]
    for number, step in enumerate(steps):
        name = step.argval if isinstance(step.argval, str) and step.opname.startswith('LOAD_') else None
        if name is not None and step.opname != 'LOAD_CONST':
            if name in MODES:
                return f'what {name} returns may decide what runs'
            if (
                step.opname == 'LOAD_GLOBAL'
                and name in ('callable', 'id', 'type')
                and not _harmless(steps[number + 1 :])
            ):
                return f'{name}(...) of a value may decide what runs'
            if name in ('is_', 'is_not') and step.opname != 'LOAD_FAST':
                return 'the identity of a value may decide what runs'
        if step.opname == 'IS_OP':
            other = steps[number - 1]
            if not (other.opname == 'LOAD_CONST' and other.argval is None):
                return 'the identity of a value (x is y) may decide what runs'
    return None


def _harmless(steps):
    """Say whether the type that is asked for is that of the module itself, or is only written into a message."""
    if steps[0].opname.startswith('LOAD_FAST') and steps[0].argval in ('self', 'cls'):
        return True
    rest = list(itertools.dropwhile(lambda step: not step.opname.startswith('CALL'), steps))[1:]
    if rest and rest[0].opname == 'LOAD_ATTR' and rest[0].argval in ('__name__', '__qualname__'):
        rest = rest[1:]
    return bool(rest) and rest[0].opname.startswith(('FORMAT_', 'CONVERT_'))


class Asked(contextlib.AbstractContextManager):
    """Looks at the code of each function that is called, outside of PyTorch and of Python's own library.

    Args:
        tell (Callable[[str], None]): Gets each question that is found.
    """

    def __init__(self, tell):
        self.tell = tell

    def __enter__(self):
        self.before = sys.getprofile()
        sys.setprofile(self.look)
        return self

    def __exit__(self, *error):
        sys.setprofile(self.before)

    def look(self, frame, event, arg):
        """After a call, as of :func:`sys.setprofile`."""
        if event != 'call':
            return
        package = frame.f_globals.get('__name__') or ''
        if package.partition('.')[0] not in SKIPPED and not package.startswith('mmext.fusing.'):
            found = question(frame.f_code)
            if found is not None:
                self.tell(found)


@contextlib.contextmanager
def same_random_numbers(tell):
    """Keep the random numbers of Python, NumPy and PyTorch as they are; tell if the body used any."""
    before = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        now = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
        arrays = (before[1][1] == now[1][1]).all() and before[1][2:] == now[1][2:]
        if before[0] != now[0] or not arrays or not torch.equal(before[2], now[2]):
            random.setstate(before[0])
            numpy.random.set_state(before[1])
            torch.set_rng_state(before[2])
            tell('random numbers may decide what runs')


def uses_keywords(function, name):
    """Say whether a function uses the keyword arguments that it takes any number of."""
    code = getattr(function, '__code__', None)
    code = code or getattr(getattr(function, '__func__', None), '__code__', None)
    if code is None:
        return True
    used = {step.argval for step in dis.get_instructions(code) if step.opname.startswith('LOAD_')}
    return name in used or name in code.co_cellvars
