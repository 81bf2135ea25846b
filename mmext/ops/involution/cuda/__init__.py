"""Involution on NVIDIA GPUs: CUDA kernels that CuPy compiles when they are first used."""

from .launch import involution_backward, involution_forward

__all__ = ['involution_backward', 'involution_forward']
