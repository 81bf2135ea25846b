"""The operator as PyTorch sees it: ``mmext::involution``, with shapes for the meta device and a derivative.

Compilers, exporters, profilers and counters of multiply-adds see one operator, whichever backend runs it. The backend
is a part of the call only by name, '' for the automatic choice, and looked up when the operator runs: an exported
program is not tied to the machine it was made on.
"""

from contextvars import ContextVar

import torch
from torch import Tensor
from torch._decomp import register_decomposition
from torch.autograd import forward_ad

from mmext.ops.guard import why_not_compiled

from .backends import BACKENDS, pick_backend
from .checks import check_settings, check_tensors
from .decomposed import involution_decomposed
from .reference import involution_vjp

__all__ = ['counting', 'involution_op']

# whether TorchScript traces for a counter of multiply-adds, which is to see the operator, not what a file can hold
counting = ContextVar('counting', default=False)


@torch.library.custom_op('mmext::involution', mutates_args=())
def involution_op(x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, backend: str) -> Tensor:
    """Run the backend of that name; see :func:`mmext.ops.involution`."""
    # a graph comes here without the public function; a kernel must not read where there is no memory
    check_settings(stride, padding, dilation)
    check_tensors(x, weight, stride, padding, dilation)
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in (x, weight)):
        raise NotImplementedError(
            'torch.ops.mmext.involution has no forward-mode derivative; call mmext.ops.involution, which has'
        )
    out = _backend(backend, x).forward(x, weight, stride, padding, dilation)
    return out.contiguous(memory_format=_format(x))


def _format(x):
    """The memory format that results take from x, so that the layers of a channels_last network stay in it."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _backend(name, x):
    return BACKENDS[pick_backend(name or None, x.device, x.dtype)]


@torch.library.custom_op('mmext::involution_backward', mutates_args=())
def involution_backward_op(
    grad_out: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    padding: int,
    dilation: int,
    backend: str,
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of ``x`` and ``weight``, an empty tensor in place of one that is not needed."""
    settings = stride, padding, dilation
    grad_x, grad_weight = _backend(backend, x).backward(grad_out, x, weight, *settings, needs_x, needs_weight)
    grad_x = x.new_empty(0) if grad_x is None else grad_x.contiguous(memory_format=_format(x))
    return grad_x, weight.new_empty(0) if grad_weight is None else grad_weight


@involution_op.register_fake
def _(x, weight, stride, padding, dilation, backend):
    shape = *x.shape[:2], *weight.shape[4:]
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_format(x))


@involution_backward_op.register_fake
def _(grad_out, x, weight, stride, padding, dilation, backend, needs_x, needs_weight):
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=_format(x))
    return grad_x if needs_x else x.new_empty(0), weight.new_empty(weight.shape if needs_weight else 0)


def _save(ctx, inputs, output):
    x, weight, *ctx.settings = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx, grad_out):
    x, weight = ctx.saved_tensors
    *settings, backend = ctx.settings
    needs = ctx.needs_input_grad[:2]
    if torch.is_grad_enabled() or why_not_compiled(grad_out, x, weight, one_operator=True):
        # a second derivative, or one of many at a time, which the plain form alone has
        return *involution_vjp(grad_out, x, weight, *settings, *needs), None, None, None, None
    grads = involution_backward_op(grad_out, x, weight, *settings, backend, *needs)
    return *(grad if needed else None for grad, needed in zip(grads, needs)), None, None, None, None


torch.library.register_autograd('mmext::involution', _backward, setup_context=_save)


@register_decomposition(torch.ops.mmext.involution.default)
def _(x, weight, stride, padding, dilation, backend):
    """What exporters use that know standard operators only, such as ONNX's; compilers keep the operator."""
    return involution_decomposed(x, weight, stride, padding, dilation)
