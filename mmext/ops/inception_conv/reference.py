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


def inception_conv_backward(grad_out, x, weight, pattern, strides, groups=1, needs_x=True, needs_weight=True):
    """Compute the gradients of ``x`` and ``weight``, differentiable in all three tensors.

    Args:
        grad_out (Tensor): Gradient of the output.
        x (Tensor): [N, C, H, W].
        weight (Tensor): [O, C / groups, k, k].
        pattern (tuple): (dilation_h, dilation_w, channels) of each run.
        strides (tuple[int, int]): In pixels.
        groups (int): Groups of each run. Default: 1.
        needs_x (bool): Whether the gradient of ``x`` is wanted. Default: True.
        needs_weight (bool): Whether the gradient of ``weight`` is wanted. Default: True.

    Returns:
        tuple[Tensor or None, Tensor or None]: Gradients of the shapes of ``x`` and ``weight``; None where not wanted.
    """
    reach = weight.shape[2] // 2
    grads_x, grads_weight = [], []
    first = 0
    for dilation_h, dilation_w, channels in pattern:
        last = first + channels
        settings = strides, (reach * dilation_h, reach * dilation_w), (dilation_h, dilation_w), groups
        grad, filters = grad_out[:, first:last], weight[first:last]
        if needs_x:
            grads_x.append(torch.nn.grad.conv2d_input(x.shape, filters, grad, *settings))
        if needs_weight:
            grads_weight.append(torch.nn.grad.conv2d_weight(x, filters.shape, grad, *settings))
        first = last
    return sum(grads_x) if needs_x else None, torch.cat(grads_weight) if needs_weight else None
