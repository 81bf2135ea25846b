"""What the compiled CPU backends of all operators share: kernels on PyTorch's threads, explicit vector code."""

__all__ = ['why_not_numba']


def why_not_numba():
    """Say why nothing can be compiled in this process.

    Returns:
        str or None: The reason with the next step; None where kernels can be compiled.
    """
    try:
        import numba
    except (ImportError, OSError) as error:  # OSError: llvmlite's shared library cannot be loaded
        return f"numba cannot be imported ({error}); run: pip install 'mmext[cpu]'"
    if numba.config.DISABLE_JIT:
        return f'numba is told not to compile (NUMBA_DISABLE_JIT={numba.config.DISABLE_JIT}); unset that variable'
    return None
