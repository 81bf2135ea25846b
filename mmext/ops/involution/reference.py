"""Involution in plain PyTorch: any device, any dtype, under any transform of ``torch.func``.

One pass per tap adds the shifted input times that tap's weights to the output. The peak memory beside inputs and
outputs is one padded copy of the input and one more map, where an unfolded form holds K*K copies.
"""

import torch
import torch.nn.functional as F

__all__ = ['involution_backward', 'involution_forward', 'involution_vjp']


def _accumulator_dtype(dtype):
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _pad_and_group(x, groups, padding):
    """[N, C, H, W] -> [N, G, C/G, H + 2p, W + 2p]."""
    return F.pad(x, (padding,) * 4).unflatten(1, (groups, x.shape[1] // groups))


def _taps(kernel_size, stride, dilation, height, width):
    """Yield each tap as (u, v, rows, columns): which input pixels meet that tap over all output positions."""
    for u in range(kernel_size):
        rows = slice(u * dilation, u * dilation + stride * (height - 1) + 1, stride)
        for v in range(kernel_size):
            yield u, v, rows, slice(v * dilation, v * dilation + stride * (width - 1) + 1, stride)


def involution_forward(x, weight, stride, padding, dilation):
    """Compute the output; shapes and meaning as in :func:`mmext.ops.involution`. Nothing is done in place.

    Args:
        x (Tensor): [N, C, H, W].
        weight (Tensor): [N, G, K, K, Ho, Wo].
        stride (int): Step in pixels.
        padding (int): Zeros around ``x`` in pixels.
        dilation (int): Distance of taps in pixels.

    Returns:
        Tensor: [N, C, Ho, Wo].
    """
    groups, kernel_size, _, height, width = weight.shape[1:]
    padded = _pad_and_group(x, groups, padding)
    dtype = _accumulator_dtype(x.dtype)
    out = None
    for u, v, rows, columns in _taps(kernel_size, stride, dilation, height, width):
        pixels, weights = padded[..., rows, columns], weight[:, :, u, v].unsqueeze(2)
        # not in place: vmap refuses to change what it has not batched
        out = pixels.to(dtype) * weights.to(dtype) if out is None else torch.addcmul(out, pixels, weights)
    return out.flatten(1, 2).to(x.dtype, copy=True)  # a view would forbid in-place layers, such as ReLU, after it


def involution_vjp(grad_out, x, weight, stride, padding, dilation, needs_x=True, needs_weight=True):
    """Compute the gradients by autograd of the forward pass, so that they can be differentiated and transformed.

    Args:
        grad_out (Tensor): [N, C, Ho, Wo], the gradient of the output.
        x (Tensor): As in :func:`involution_forward`; so are the settings after it.
        weight (Tensor): [N, G, K, K, Ho, Wo].
        stride (int): Step in pixels.
        padding (int): Zeros around ``x`` in pixels.
        dilation (int): Distance of taps in pixels.
        needs_x (bool): Whether the gradient of ``x`` is wanted. Default: True.
        needs_weight (bool): Whether the gradient of ``weight`` is wanted. Default: True.

    Returns:
        tuple[Tensor or None, Tensor or None]: Gradients of the shapes of ``x`` and ``weight``; None where not wanted.
    """
    second_wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        # views, as weight may depend on x, and as detach() would drop forward-mode tangents
        x, weight = (tensor.view_as(tensor) for tensor in (x, weight))
        wanted = [tensor for tensor, needed in ((x, needs_x), (weight, needs_weight)) if needed]
        for tensor in wanted:
            tensor.requires_grad_()
        out = involution_forward(x, weight, stride, padding, dilation)
        grads = iter(torch.autograd.grad(out, wanted, grad_out, create_graph=second_wanted))
    return tuple(next(grads) if needed else None for needed in (needs_x, needs_weight))


def involution_backward(grad_out, x, weight, stride, padding, dilation, needs_x=True, needs_weight=True):
    """Compute the gradients of ``x`` and ``weight`` in little memory, as the operator's own backward pass.

    Args:
        grad_out (Tensor): [N, C, Ho, Wo], the gradient of the output.
        x (Tensor): As in :func:`involution_forward`; so are the settings after it.
        weight (Tensor): [N, G, K, K, Ho, Wo].
        stride (int): Step in pixels.
        padding (int): Zeros around ``x`` in pixels.
        dilation (int): Distance of taps in pixels.
        needs_x (bool): Whether the gradient of ``x`` is wanted. Default: True.
        needs_weight (bool): Whether the gradient of ``weight`` is wanted. Default: True.

    Returns:
        tuple[Tensor or None, Tensor or None]: Gradients of the shapes of ``x`` and ``weight``; None where not wanted.
    """
    _, groups, kernel_size, _, height, width = weight.shape
    dtype = _accumulator_dtype(x.dtype)
    grad = grad_out.to(dtype).unflatten(1, (groups, x.shape[1] // groups))
    padded = _pad_and_group(x, groups, padding)
    grad_x = grad_weight = None
    if needs_x:
        grad_padded = torch.zeros_like(padded, dtype=dtype)
        for u, v, rows, columns in _taps(kernel_size, stride, dilation, height, width):
            grad_padded[..., rows, columns].addcmul_(grad, weight[:, :, u, v].unsqueeze(2))
        bottom, right = padding + x.shape[2], padding + x.shape[3]
        grad_x = grad_padded[..., padding:bottom, padding:right].flatten(1, 2).to(x.dtype).contiguous()
    if needs_weight:
        grad_weight = weight.new_empty(weight.shape)
        for u, v, rows, columns in _taps(kernel_size, stride, dilation, height, width):
            grad_weight[:, :, u, v] = (grad * padded[..., rows, columns]).sum(2)
    return grad_x, grad_weight
