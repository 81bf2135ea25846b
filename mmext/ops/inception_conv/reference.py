"""Inception convolution in PyTorch: an ordinary convolution for each run of channels, then a concatenation."""

import torch
import torch.nn.functional as F

__all__ = ['inception_conv_backward', 'inception_conv_forward']


def inception_conv_forward(x, weight, bias, pattern, strides, groups=1):
    """Compute the output.

    Args:
        x (Tensor): [N, C, H, W].
        weight (Tensor): [O, C / groups, k, k].
        bias (Tensor, optional): [O].
        pattern (tuple): (dilation_h, dilation_w, channels) of each run.
        strides (tuple[int, int]): In pixels.
        groups (int): Groups of each run. Default: 1.

    Returns:
        Tensor: [N, O, ceil(H / stride), ceil(W / stride)].
    """
    reach = weight.shape[2] // 2
    outs = []
    first = 0
    for dilation_h, dilation_w, channels in pattern:
        last = first + channels
        its_bias = None if bias is None else bias[first:last]
        dilation = dilation_h, dilation_w
        padding = reach * dilation_h, reach * dilation_w
        outs.append(F.conv2d(x, weight[first:last], its_bias, strides, padding, dilation, groups))
        first = last
    return outs[0] if len(outs) == 1 else torch.cat(outs, 1)


def inception_conv_backward(grad_out, x, weight, pattern, strides, needs_x=True, needs_weight=True):
    """Compute the gradients of ``x`` and ``weight``, differentiable in all three tensors.

    Args:
        grad_out (Tensor): Gradient of the output.
        x (Tensor): [N, C, H, W].
        weight (Tensor): [O, C, k, k].
        pattern (tuple): (dilation_h, dilation_w, channels) of each run.
        strides (tuple[int, int]): In pixels.
        needs_x (bool): Whether the gradient of ``x`` is wanted. Default: True.
        needs_weight (bool): Whether the gradient of ``weight`` is wanted. Default: True.

    Returns:
        tuple[Tensor or None, Tensor or None]: Gradients of the shapes of ``x`` and ``weight``; None where not wanted.
    """
    with torch.enable_grad():
        sources = [tensor if tensor.requires_grad else tensor.detach().requires_grad_() for tensor in (x, weight)]
        out = inception_conv_forward(*sources, None, pattern, strides)
        wanted = [source for source, needed in zip(sources, (needs_x, needs_weight)) if needed]
        grads = iter(torch.autograd.grad(out, wanted, grad_out, create_graph=True) if wanted else ())
    return tuple(next(grads) if needed else None for needed in (needs_x, needs_weight))
