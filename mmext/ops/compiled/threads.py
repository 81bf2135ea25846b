"""Runs compiled kernels on PyTorch's own threads.

numba would start an OpenMP library of its own, whose threads, waiting busily for work, take the processors from
PyTorch's in turn. So a kernel here is a C function, and the OpenMP library that PyTorch runs on calls it. Where that is
not found (on macOS and Windows it has other entry points), Python threads do, which need not hold the interpreter.

A kernel is a plain function ``kernel(data)`` that calls what :func:`make_worker` made. The threads that run it take
tasks from a common counter, so that a thread that is held up delays nothing else.
"""

import ctypes
import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .cache import compile_kernel

__all__ = ['compiled_as', 'make_worker', 'run_kernel']

THREAD_PRODUCTS = 200_000  # about 20 microseconds of one thread; less is not worth waking another
CHUNKS = 8  # that a thread takes, one after the other
HEAD = 3  # the counter, the number of tasks, the tasks of a chunk
MOST = 24  # numbers that a kernel gets, those three included

_functions = {}  # kernel -> what it was compiled to
_compiling = threading.Lock()


@intrinsic
def _take(typing, data, count):
    """Add to the counter at an address, as one step, and return what it was."""

    def codegen(context, builder, signature, args):
        counter = builder.bitcast(args[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw('add', counter, args[1], 'monotonic')

    return types.int64(types.voidptr, types.int64), codegen


def compiled_as(name):
    """Compile a function that is made several times, under a name that no other has.

    Compiled code is kept on disk by kernel, with all that the kernel calls inside. Code of two processes meets when
    one kernel comes from the disk and another is compiled, and functions of one name are then taken for the same.

    Args:
        name (str): The name; functions that differ need names that differ.

    Returns:
        Callable: A decorator.
    """

    def decorate(function):
        function.__name__ = function.__qualname__ = name
        return numba.njit(function)

    return decorate


def make_worker(task):
    """Make the body of a kernel.

    Args:
        task (Callable): Compiled function ``task(n, numbers)`` that does the n-th task, with what
            :func:`run_kernel` gives the kernel.

    Returns:
        Callable: Compiled function ``worker(data)`` that does tasks while there are any left.
    """

    @compiled_as(f'{task.__name__}_worker')
    def worker(data):
        numbers = numba.carray(data, MOST, numba.int64)
        tasks, chunk = numbers[1], numbers[2]
        while True:
            first = _take(data, chunk)
            if first >= tasks:
                break
            for n in range(first, min(first + chunk, tasks)):
                task(n, numbers[HEAD:])

    return worker


def run_kernel(kernel, tasks, products, arrays, integers):
    """Run a kernel on as many threads as PyTorch has and the work is worth.

    Args:
        kernel (Callable): A function as the module describes; compiled when it first runs, then kept on disk.
        tasks (int): Number of tasks.
        products (int): Multiplications that they take together.
        arrays (Sequence[Tensor]): Contiguous tensors on the CPU; the kernel gets their addresses.
        integers (Sequence[int]): What it gets after them.
    """
    if tasks == 0:
        return
    threads = min(torch.get_num_threads(), tasks, 1 + products // THREAD_PRODUCTS)
    chunk = max(1, tasks // (threads * CHUNKS))
    numbers = 0, tasks, chunk, *(array.data_ptr() for array in arrays), *integers
    memory = (ctypes.c_int64 * MOST)(*numbers)
    data = ctypes.addressof(memory)
    function = _compiled(kernel)
    parallel = _openmp() if threads > 1 else None
    if parallel is not None:
        parallel(function.address, data, threads, 0)
    elif threads > 1:
        helpers = [_pool(os.getpid()).submit(function.ctypes, data) for _ in range(threads - 1)]
        function.ctypes(data)
        for helper in helpers:
            helper.result()
    else:
        function.ctypes(data)


def _compiled(kernel):
    function = _functions.get(kernel)
    if function is None:
        with _compiling:  # another thread may want the same kernel
            function = _functions.get(kernel)
            if function is None:
                function = _functions[kernel] = compile_kernel(kernel)
    return function


@functools.cache
def _openmp():
    """Find ``GOMP_parallel(function, data, threads, flags)`` of the library that PyTorch uses; None if there is none.

    GNU's library has it, and Intel's and LLVM's for Linux have it too.
    """
    try:
        function = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    function.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
    function.restype = None
    return function


@functools.cache
def _pool(process):
    """The threads of a process; a forked one has none of its parent's."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix='mmext')
