"""Convolution, batch normalisation, sum and ReLU of clips as one step, in the form that fits.

Tensors of clips are so large that the system hands out new memory for each, which takes longer than the arithmetic. In
training, a norm and the ReLU behind it get one gradient here instead of two; where a pooling follows, their result is
not kept.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.utils import _triple

from . import one_dnn
from .conv3d import InflatedConv3d
from .memory import empty_frames, parts_of, pixels_of
from .pooled_parts import pooled_in_parts

__all__ = ['activated', 'activated_and_pooled', 'has_hooks', 'normalised']

CHUNK = 2**19  # elements that are worked on at once; a few times as many stay in a core's cache


def activated(x, conv, norm, relu, other=None):
    """Convolve a clip, normalise, add another one, and cut off what is below zero.

    Args:
        x (Tensor): [N, C, T, H, W].
        conv (nn.Module): The convolution; an :class:`InflatedConv3d` where ``norm`` is folded into it.
        norm (nn.Module): The norm, ``nn.Identity`` where :func:`mmext.fuse` has folded it.
        relu (nn.ReLU): Called by itself where it has hooks.
        other (Tensor, optional): What to add, of the result's shape. Default: None.

    Returns:
        Tensor: ``relu(norm(conv(x)) + other)``, [N, C', T', H', W'].
    """
    if isinstance(norm, nn.Identity) and not torch.is_grad_enabled():
        return conv.activated(x, other)
    if _trains_here(x, norm) and not has_hooks(relu):
        return _joined(x, conv, norm, other, True)
    x = norm(conv(x))
    return relu(x if other is None else x + other)


def normalised(x, conv, norm):
    """Convolve a clip and normalise.

    Args:
        x (Tensor): [N, C, T, H, W].
        conv (nn.Module): As of :func:`activated`.
        norm (nn.Module): As of :func:`activated`.

    Returns:
        Tensor: ``norm(conv(x))``, [N, C', T', H', W'].
    """
    return _joined(x, conv, norm, None, False) if _trains_here(x, norm) else norm(conv(x))


def activated_and_pooled(x, conv, norm, relu, pool):
    """Convolve a clip, normalise, cut off what is below zero, and take the largest value of every window.

    Args:
        x (Tensor): [N, C, T, H, W].
        conv (nn.Module): As of :func:`activated`.
        norm (nn.Module): As of :func:`activated`.
        relu (nn.ReLU): As of :func:`activated`.
        pool (nn.MaxPool3d): The pooling.

    Returns:
        Tensor: ``pool(relu(norm(conv(x))))``, [N, C', T', H', W'].
    """
    if isinstance(norm, nn.Identity) and not torch.is_grad_enabled():
        out = pooled_in_parts(x, conv, pool)
        return pool(conv.activated(x)) if out is None else out
    if _trains_here(x, norm) and not (has_hooks(relu) or has_hooks(pool)):
        return _NormReLUPool.apply(conv(x), norm.weight, norm.bias, norm, pool)
    return pool(activated(x, conv, norm, relu))


def _trains_here(x, norm):
    """Say whether norm and ReLU can be one step: an ordinary norm that takes its statistics from the clip."""
    return (
        torch.is_grad_enabled()
        and type(norm) is nn.BatchNorm3d
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and not has_hooks(norm)
        and one_dnn.runs_here(x, norm.weight)
    )


def _is_pointwise(conv):
    """Say whether a convolution is a product of matrices, which can join the norm behind it."""
    return (
        type(conv) in (nn.Conv3d, InflatedConv3d)
        and conv.kernel_size == conv.stride == (1, 1, 1)
        and conv.groups == 1
        and conv.bias is None
        and not any(conv.padding)
        and not has_hooks(conv)
    )


def has_hooks(module):
    """Say whether something is to happen when a module is called or gets its gradient."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)


def _joined(x, conv, norm, other, relu):
    if _is_pointwise(conv):
        return _PointwiseNormReLU.apply(x, conv.weight, norm.weight, norm.bias, other, norm, relu)
    return _NormReLU.apply(conv(x), norm.weight, norm.bias, other, norm, relu)


def _activate(x, norm, other=None, relu=True):
    """Return norm, sum and ReLU of a clip, and the mean and inverse deviation, [C], that the norm found."""
    norm.num_batches_tracked.add_(1)
    mean, variance = torch.batch_norm_update_stats(x, norm.running_mean, norm.running_var, norm.momentum)
    scale = (variance + norm.eps).rsqrt()
    factor = scale * norm.weight
    shift = norm.bias - mean * factor
    out = _empty_like(x)
    pixels, others, outs = pixels_of(x), None if other is None else pixels_of(other), pixels_of(out)
    for part in parts_of(pixels, CHUNK):
        torch.addcmul(shift, pixels[part], factor, out=outs[part])
        if other is not None:
            outs[part].add_(others[part])
        if relu:
            outs[part].relu_()
    return out, mean, scale


class _NormReLU(torch.autograd.Function):
    """Norm, sum and ReLU, the latter two where wanted."""

    @staticmethod
    def forward(ctx, x, weight, bias, other, norm, relu):
        out, mean, scale = _activate(x, norm, other, relu)
        ctx.eps = norm.eps
        ctx.save_for_backward(x, weight, out if relu else None, mean, scale)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, weight, out, mean, scale = ctx.saved_tensors
        keep = ctx.needs_input_grad[3]
        if torch.is_grad_enabled():
            grad = _masked(grad, out)
            found = _differentiable(ctx, grad, x, weight, mean, scale, ctx.needs_input_grad[:3])
        else:
            norm = _NormGradient(grad, out, x, weight, mean, scale)
            grad = norm.grad
            new = _empty_like(x) if keep or out is None else grad
            for part, values in norm.parts():
                pixels_of(new)[part] = values
            found = new, norm.weight, norm.bias
        return *found, grad if keep else None, None, None


class _PointwiseNormReLU(torch.autograd.Function):
    """Convolution of single pixels, norm, sum and ReLU; the gradient between them is never whole."""

    @staticmethod
    def forward(ctx, x, kernel, weight, bias, other, norm, relu):
        between = one_dnn.multiply(x, kernel)
        out, mean, scale = _activate(between, norm, other, relu)
        ctx.eps = norm.eps
        ctx.save_for_backward(x, kernel, between, weight, out if relu else None, mean, scale)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, kernel, between, weight, out, mean, scale = ctx.saved_tensors
        keep = ctx.needs_input_grad[4]
        if torch.is_grad_enabled():
            # the convolution anew, so that its gradient is part of the graph
            grad, between = _masked(grad, out), F.conv3d(x, kernel)
            first, *rest = _differentiable(ctx, grad, between, weight, mean, scale, (True, True, True))
            found = *torch.autograd.grad(between, (x, kernel), first, create_graph=True), *rest
        else:
            norm = _NormGradient(grad, out, between, weight, mean, scale)
            grad, matrix = norm.grad, kernel.flatten(1)
            new, kernel_grad = _empty_like(x), torch.zeros_like(matrix)
            for part, values in norm.parts():
                torch.mm(values, matrix, out=pixels_of(new)[part])
                kernel_grad.addmm_(values.T, pixels_of(x)[part])
            found = new, kernel_grad.view_as(kernel), norm.weight, norm.bias
        return *found, grad if keep else None, None, None


class _NormReLUPool(torch.autograd.Function):
    """Norm, ReLU and largest values, whose gradient is zero where ReLU's is."""

    @staticmethod
    def forward(ctx, x, weight, bias, norm, pool):
        ctx.settings = pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode
        ctx.eps = norm.eps
        out, mean, scale = _activate(x, norm)
        out, indices = F.max_pool3d_with_indices(out, *ctx.settings)
        ctx.save_for_backward(x, weight, out, indices, mean, scale)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, weight, out, indices, mean, scale = ctx.saved_tensors
        *sizes, ceil_mode = ctx.settings
        sizes = [_triple(size) for size in sizes]
        grad = torch.ops.aten.max_pool3d_with_indices_backward(_masked(grad, out), x, *sizes, ceil_mode, indices)
        if torch.is_grad_enabled():
            return *_differentiable(ctx, grad, x, weight, mean, scale, ctx.needs_input_grad[:3]), None, None
        norm = _NormGradient(grad, None, x, weight, mean, scale)
        for part, values in norm.parts():
            pixels_of(norm.grad)[part] = values  # which belongs to no one else
        return norm.grad, norm.weight, norm.bias, None, None


def _masked(grad, out):
    """Return the gradient before a ReLU."""
    grad = grad.contiguous(memory_format=torch.channels_last_3d)
    return grad if out is None else torch.ops.aten.threshold_backward(grad, out, 0)


def _differentiable(ctx, grad, x, weight, mean, scale, wanted):
    """Return a norm's gradients of clip, weight and bias in a form that has gradients itself."""
    return torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, None, None, mean, scale, True, ctx.eps, list(wanted)
    )


class _NormGradient:
    """The gradients of a batch normalisation in training, the clip's part by part, while it is in cache.

    Args:
        grad (Tensor): Gradient of the result, [N, C, T, H, W].
        out (Tensor, optional): What a ReLU behind the norm has given.
        x (Tensor): The clip, of the same shape, in ``torch.channels_last_3d``.
        weight (Tensor): [C], of the norm.
        mean (Tensor): [C], of the clip.
        scale (Tensor): [C], inverse deviation of the clip.

    Attributes:
        grad (Tensor): Gradient of what the norm has given, in new memory where there is a ReLU.
        weight (Tensor): [C], gradient of the weight.
        bias (Tensor): [C], gradient of the bias.
    """

    def __init__(self, grad, out, x, weight, mean, scale):
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        self.grad = grad if out is None else _empty_like(grad)
        self._grad, self._x, self._mean = pixels_of(self.grad), pixels_of(x), mean
        self._space = torch.empty_like(self._x[parts_of(self._x, CHUNK)[0]])
        self.bias, self.weight = (torch.zeros_like(mean, dtype=torch.float64) for _ in range(2))
        for part in parts_of(self._x, CHUNK):
            if out is not None:
                before, after = pixels_of(grad)[part], pixels_of(out)[part]
                torch.ops.aten.threshold_backward.grad_input(before, after, 0, grad_input=self._grad[part])
            self.bias += self._grad[part].sum(0)
            self.weight += self._deviation(part).mul_(self._grad[part]).sum(0)
        factor = (scale * weight).double()
        slope = self.weight / len(self._x) * scale.double().square()
        self._factor, self._slope = factor.to(x.dtype), (-factor * slope).to(x.dtype)
        self._shift = (-factor * self.bias / len(self._x)).to(x.dtype)
        self.bias, self.weight = self.bias.to(weight.dtype), (self.weight * scale).to(weight.dtype)

    def _deviation(self, part):
        x = self._x[part]
        return torch.sub(x, self._mean, out=self._space[: len(x)])

    def parts(self):
        """Yield slices of pixels and the clip's gradient there, [pixels, C], in memory that the next one takes."""
        for part in parts_of(self._x, CHUNK):
            values = self._deviation(part)
            torch.addcmul(self._shift, values, self._slope, out=values)
            yield part, values.addcmul_(self._grad[part], self._factor)


def _empty_like(x):
    """Return an uninitialised clip of the same shape, in ``torch.channels_last_3d``."""
    return empty_frames(x, *x.movedim(1, -1).shape).movedim(-1, 1)
