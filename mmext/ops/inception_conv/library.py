"""The operator as PyTorch sees it: ``mmext::inception_conv2d``, with shapes for the meta device and a derivative.

It stands for the compiled kernels where these run. Elsewhere the public function calls ordinary convolutions, which is
also what this operator does where the kernels cannot run.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch._decomp import register_decomposition
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

from mmext.ops.guard import why_not_compiled

from . import reference
from .backends import compiled_kernels
from .checks import check_pattern, check_tensors

__all__ = ['inception_conv2d_op']


@torch.library.custom_op('mmext::inception_conv2d', mutates_args=())
def inception_conv2d_op(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Sequence[int], stride: Sequence[int], groups: int
) -> Tensor:
    """Run the compiled kernels; see :func:`mmext.ops.inception_conv2d`. The runs of ``pattern`` are put end to end."""
    # a graph comes here without the public function; a kernel must not read where there is no memory
    runs = check_pattern(_runs(pattern), groups)
    check_tensors(x, weight, bias, runs, groups)
    if any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in (x, weight, bias)):
        raise NotImplementedError(
            'torch.ops.mmext.inception_conv2d has no forward-mode derivative; call mmext.ops.inception_conv2d, '
            'which has'
        )
    kernels = compiled_kernels(x, weight, groups)
    if kernels is None:
        out = reference.inception_conv_forward(x, weight, bias, runs, tuple(stride), groups)
    else:
        out = kernels.inception_conv_forward(x, weight, bias, runs, tuple(stride))
    return out.contiguous(memory_format=_format(x))


@torch.library.custom_op('mmext::inception_conv2d_backward', mutates_args=())
def inception_conv2d_backward_op(
    grad_out: Tensor,
    x: Tensor,
    weight: Tensor,
    pattern: Sequence[int],
    stride: Sequence[int],
    groups: int,
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``x`` and ``weight``, an empty tensor in place of one that is not needed."""
    kernels = compiled_kernels(x, weight, groups)
    settings = _runs(pattern), tuple(stride)
    if kernels is None:
        grads = reference.inception_conv_backward(grad_out, x, weight, *settings, groups, needs_x, needs_weight)
    else:
        grads = kernels.inception_conv_backward(grad_out, x, weight, *settings, needs_x, needs_weight)
    grad_x, grad_weight = grads
    grad_x = x.new_empty(0) if grad_x is None else grad_x.contiguous(memory_format=_format(x))
    return grad_x, weight.new_empty(0) if grad_weight is None else grad_weight.contiguous()


def _runs(pattern):
    return tuple(tuple(pattern[first : first + 3]) for first in range(0, len(pattern), 3))


def _format(x):
    """The memory format that results take from x, so that the layers of a channels_last network stay in it."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


@inception_conv2d_op.register_fake
def _(x, weight, bias, pattern, stride, groups):
    rows, columns = (-(-size // step) for size, step in zip(x.shape[2:], stride))
    shape = x.shape[0], weight.shape[0], rows, columns
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_format(x))


@inception_conv2d_backward_op.register_fake
def _(grad_out, x, weight, pattern, stride, groups, needs_x, needs_weight):
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=_format(x))
    return grad_x if needs_x else x.new_empty(0), weight.new_empty(weight.shape if needs_weight else 0)


def _save(ctx, inputs, output):
    x, weight, _, *ctx.settings = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx, grad_out):
    x, weight = ctx.saved_tensors
    pattern, stride, groups = ctx.settings
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    if torch.is_grad_enabled() or why_not_compiled(grad_out, x, weight, one_operator=True):
        # a second derivative, or one of many at a time, which convolutions alone have
        settings = _runs(pattern), tuple(stride), groups
        grads = reference.inception_conv_backward(grad_out, x, weight, *settings, needs_x, needs_weight)
    else:
        both = inception_conv2d_backward_op(grad_out, x, weight, pattern, stride, groups, needs_x, needs_weight)
        grads = (grad if needed else None for grad, needed in zip(both, (needs_x, needs_weight)))
    return *grads, grad_out.sum((0, 2, 3)) if needs_bias else None, None, None, None


torch.library.register_autograd('mmext::inception_conv2d', _backward, setup_context=_save)


@register_decomposition(torch.ops.mmext.inception_conv2d.default)
def _(x, weight, bias, pattern, stride, groups):
    """What exporters use that know standard operators only, such as ONNX's; compilers keep the operator."""
    return reference.inception_conv_forward(x, weight, bias, _runs(pattern), tuple(stride), groups)


@register_flop_formula(torch.ops.mmext.inception_conv2d)
def _forward_flops(x_shape, weight_shape, *settings, out_shape=None):
    return 2 * prod(weight_shape) * out_shape[0] * prod(out_shape[2:])


@register_flop_formula(torch.ops.mmext.inception_conv2d_backward)
def _backward_flops(grad_shape, x_shape, weight_shape, pattern, stride, groups, *needs, out_shape=None):
    return 2 * prod(weight_shape) * grad_shape[0] * prod(grad_shape[2:]) * sum(needs)
