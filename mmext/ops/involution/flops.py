"""Counters of multiply-adds know the operator: PyTorch's, and mmengine's, which the toolboxes' get_flops scripts use.

One output element takes one multiply-add per tap of the window. Making the kernels is not part of the operator.
"""

import functools
from math import prod

import torch
from mmengine.analysis import complexity_analysis, jit_analysis
from torch.utils.flop_counter import register_flop_formula

from . import library  # defines the operator

__all__ = ['involution_multiply_adds']


def involution_multiply_adds(x_shape, weight_shape):
    """Return the multiply-adds of one call: K * K * C * Ho * Wo per image.

    Args:
        x_shape (Sequence[int]): [N, C, H, W].
        weight_shape (Sequence[int]): [N, G, K, K, Ho, Wo].

    Returns:
        int: Multiply-adds of all N images.
    """
    return x_shape[0] * x_shape[1] * prod(weight_shape[2:])


@register_flop_formula(torch.ops.mmext.involution)
def _forward_flops(x_shape, weight_shape, *settings, out_shape=None):
    return 2 * involution_multiply_adds(x_shape, weight_shape)


@register_flop_formula(torch.ops.mmext.involution_backward)
def _backward_flops(grad_shape, x_shape, weight_shape, stride, padding, dilation, backend, *needs, out_shape=None):
    return 2 * involution_multiply_adds(x_shape, weight_shape) * sum(needs)


def _count_traced(inputs, outputs):
    return involution_multiply_adds(*(value.type().sizes() for value in inputs[:2]))


def _count_traced_activations(inputs, outputs):
    return prod(outputs[0].type().sizes())


# mmengine has no public way to add to the tables its analyzers start from; a version without them only counts less
for table, handle in (
    ('_DEFAULT_SUPPORTED_FLOP_OPS', _count_traced),
    ('_DEFAULT_SUPPORTED_ACT_OPS', _count_traced_activations),
):
    getattr(complexity_analysis, table, {})['mmext::involution'] = handle


def _with_operator(trace):
    """Let the analyzer's tracing keep the operator, where TorchScript gets standard ones that it would count wrong."""

    @functools.wraps(trace)
    def traced(*args, **kwargs):
        token = library.counting.set(True)
        try:
            return trace(*args, **kwargs)
        finally:
            library.counting.reset(token)

    return traced


if hasattr(jit_analysis, '_get_scoped_trace_graph'):
    jit_analysis._get_scoped_trace_graph = _with_operator(jit_analysis._get_scoped_trace_graph)
