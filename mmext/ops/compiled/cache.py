"""Compiles kernels and keeps them on disk.

numba has a cache on disk of its own, which is not used: it raises where it finds no folder to write to or a full disk,
loads damaged machine code unchecked, and takes code for fresh as long as the one file that a kernel stands in is
unchanged, although the kernel contains code of others. Here the name of a file is a digest of *all* sources and of
whatever else the machine code depends on, its content has a checksum, and where nothing can be kept, kernels are
compiled in every process.
"""

import contextlib
import functools
import hashlib
import logging
import pickle
import sys
import threading
import time
from importlib import resources

import llvmlite
import numba
import numpy as np
from numba import types
from numba.core.caching import CompileResultCacheImpl
from numba.core.ccallback import CFunc
from numba.core.serialize import dumps

from . import storage

__all__ = ['COMPILED', 'compile_kernel', 'expect_compilation', 'source_digest']

SECONDS = 2  # of compilation that nobody is told of
COMPILED = []  # (name, seconds) of each kernel that this process compiled
# numba's settings that change machine code; the processor, its features and the triple come from the code generator
SETTINGS = (
    'OPT',
    'LOOP_VECTORIZE',
    'SLP_VECTORIZE',
    'BOUNDSCHECK',
    'DEBUG_NRT',
    'NRT_STATS',
    'DEBUGINFO_DEFAULT',
    'ENABLE_AVX',
    'DISABLE_INTEL_SVML',
    'ENABLE_PROFILING',
    'EXTEND_VARIABLE_LIFETIMES',
    'LLVM_REFPRUNE_PASS',
    'LLVM_REFPRUNE_FLAGS',
)

logger = logging.getLogger(__name__)
_said = threading.Event()  # what takes long, once a process


def compile_kernel(kernel):
    """Compile a kernel, or load it from disk.

    Args:
        kernel (Callable): A plain function ``kernel(data)``, as :mod:`.threads` describes.

    Returns:
        CFunc: With the C function ``void kernel(void *data)`` at its ``address``; ``cache_hits`` is 1 if it was loaded.
    """
    function = CFunc(kernel, ((types.voidptr,), types.void), locals={}, options={})
    function._cache = cache = _KernelCache(kernel)  # the one thing that numba has no public name for
    try:
        function.compile()
    finally:
        cache.end()
    return function


class _KernelCache(CompileResultCacheImpl):
    """What numba asks for a compiled function before it compiles one; the base class makes bytes of such functions."""

    def __init__(self, kernel):
        self.name = f'{kernel.__module__.rpartition(".")[2]}.{kernel.__name__.strip("_")}'
        self.kernel = f'{kernel.__module__}.{kernel.__qualname__}'
        self.key = self.notice = self.start = None

    def end(self):
        """Stop waiting for a compilation."""
        if self.notice is not None:
            self.notice.cancel()

    def load_overload(self, signature, target_context):
        """Return the function from disk, None if there is none."""
        target_context.refresh()  # so that all symbols are known
        self.key = _key(self.kernel, target_context.codegen().magic_tuple())
        content = self.key and storage.read(self.name, self.key)
        if content:
            try:
                return self.rebuild(target_context, pickle.loads(content))
            except Exception as error:  # whole, and yet this numba cannot take it
                logger.warning('%s cannot be loaded (%r) and is compiled again', self.name, error)
        self.notice = _notice()
        self.start = time.perf_counter()
        return None

    def save_overload(self, signature, result):
        """Take note of a function that was compiled, and keep it if possible."""
        COMPILED.append((self.name, time.perf_counter() - self.start))
        if self.key is None or not self.check_cachable(result):
            return
        try:
            content = dumps(self.reduce(result))
        except Exception as error:  # it runs all the same
            logger.warning('%s cannot be kept on disk: %r', self.name, error)
            return
        reasons = storage.write(self.name, self.key, content)
        if reasons:
            _warn_of_no_folder('; '.join(reasons))


def _notice():
    """Start a timer that says what takes so long."""
    seconds = SECONDS - sum(seconds for _, seconds in COMPILED)
    timer = threading.Timer(max(seconds, 0), _say_what_takes_long)
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # where there may be no more threads, nothing is said
        timer.start()
    return timer


def _say_what_takes_long():
    if not _said.is_set():
        _said.set()
        logger.warning(
            "compiling the CPU operators of mmext, which can take a minute; 'mmext env --compile' does it ahead, once "
            'for all later processes'
        )


def expect_compilation():
    """Say nothing of a compilation that takes long: whoever asked for it knows."""
    _said.set()


@functools.cache
def _warn_of_no_folder(reasons):
    logger.warning(
        'compiled code cannot be kept on disk, so that every process compiles the CPU operators again; set '
        'NUMBA_CACHE_DIR to a folder that can be written. Tried: %s',
        reasons,
    )


def _key(kernel, machine):
    """All that the machine code of a kernel depends on; None if that cannot be known."""
    sources = source_digest()
    if sources is None:
        return None
    versions = numba.__version__, llvmlite.__version__, np.__version__, sys.version, sys.implementation.cache_tag
    settings = [(name, str(getattr(numba.config, name, None))) for name in SETTINGS]
    return repr((kernel, sources, versions, machine, settings)).encode()


@functools.cache
def source_digest():
    """Digest of every source of this package's operators, which import nothing from elsewhere in mmext.

    Returns:
        str or None: None if there are no sources to be seen, as in a frozen program.
    """
    digest = hashlib.sha256()
    count = 0
    try:
        for name, content in _sources(resources.files('mmext.ops')):
            digest.update(f'{name} {len(content)}\n'.encode() + content)
            count += 1
    except (OSError, ModuleNotFoundError):
        return None
    return digest.hexdigest() if count else None


def _sources(folder, prefix=''):
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = f'{prefix}{entry.name}'
        if entry.is_dir():
            if entry.name != '__pycache__':
                yield from _sources(entry, f'{name}/')
        elif name.endswith(('.py', '.pyc')):
            yield name, entry.read_bytes()


source_digest()  # of what is imported now, not of what an update puts in its place while this process runs
