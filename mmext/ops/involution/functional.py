"""The public involution function: checks, autocast, choice between the operator and plain PyTorch."""

import torch
from torch.overrides import handle_torch_function, has_torch_function

from mmext.ops.guard import asked_for, why_not_compiled

from . import library
from .backends import ENV_VARIABLE
from .checks import check_dimensions, check_settings, check_tensors, output_size
from .decomposed import involution_decomposed
from .reference import involution_forward

__all__ = ['involution', 'output_size']


def involution(x, weight, stride=1, padding=None, dilation=1, backend=None):
    r"""Aggregate a neighbourhood with a kernel of its own at every output position.

    .. math:: out[n, c, i, j] = \sum_{u,v} weight[n, g, u, v, i, j] \cdot x[n, c, i s - p + u d, j s - p + v d]

    with stride s, padding p, dilation d and group ``g = c // (C / G)``; pixels outside of ``x`` count as zero.
    Source: "Involution: Inverting the Inherence of Convolution for Visual Recognition" (CVPR 2021), section 3.

    Shapes: N images, C channels, G groups, K x K taps, H x W input pixels, Ho x Wo output pixels.

    Args:
        x (Tensor): Input [N, C, H, W], floating point, any device and memory format. N may be 0.
        weight (Tensor): Kernels [N, G, K, K, Ho, Wo] of the dtype and device of ``x``. K is odd and G divides C.
            Channel maps [N, G*K*K, Ho, Wo] are brought into this shape by ``maps.unflatten(1, (G, K, K))``.
        stride (int): Step of the window in pixels, at least 1. Default: 1.
        padding (int, optional): Zeros around ``x`` in pixels, at least 0. Default: None, that is
            ``dilation * (K - 1) // 2``, which gives ``Ho = ceil(H / stride)``.
        dilation (int): Distance of neighbouring taps in pixels, at least 1. Default: 1.
        backend (str, optional): Implementation to use; one that cannot run here raises. Default: None, that is
            the environment variable ``MMEXT_INVOLUTION_BACKEND``, else 'reference' under ``MMEXT_BACKEND=reference``,
            else the first that can run.

    Returns:
        Tensor: [N, C, Ho, Wo]. Half precision is accumulated in float32. Differentiable in ``x`` and ``weight``, any
        number of times, in forward mode and under every transform of ``torch.func``, for which plain PyTorch computes.
        Under autocast both inputs are first cast to the autocast dtype, unless they are float64. Compilers, exported
        programs and dispatch modes meet one operator, ``mmext::involution``, whose backend is chosen when it runs;
        TorchScript and ONNX get standard operators.

    Raises:
        ValueError: If a shape, dtype, device or setting is not as above; the message gives the value seen and the
            values allowed. Also if ``backend`` or the environment variable names no backend.
        RuntimeError: If the named backend cannot run here; the message says why.

    Examples:
        >>> x = torch.rand(2, 32, 7, 7)
        >>> weight = torch.rand(2, 4, 3, 3, 7, 7)
        >>> involution(x, weight).shape
        torch.Size([2, 32, 7, 7])
    """
    if has_torch_function((x, weight)):  # of a subclass, a mode, or a Proxy, for which this is one function
        return handle_torch_function(
            involution,
            (x, weight),
            x,
            weight,
            stride=stride,
            padding=padding,
            dilation=dilation,
            backend=backend,
        )
    check_settings(stride, padding, dilation)
    check_dimensions(x, weight)
    if padding is None:
        padding = dilation * (int(weight.shape[2]) - 1) // 2
    if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):  # meta has none
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = (t if t.dtype == torch.float64 else t.to(dtype) for t in (x, weight))  # as PyTorch's own do
    counted = torch.jit.is_tracing() and library.counting.get()
    if torch.jit.is_tracing() and not counted:
        return involution_decomposed(x, weight, stride, padding, dilation)
    if not (counted or torch.compiler.is_compiling()):  # where sizes are symbols, the operator checks when it runs
        check_tensors(x, weight, stride, padding, dilation)
    reason = None if counted else why_not_compiled(x, weight, one_operator=True)
    if reason is None:
        return library.involution_op(x, weight, stride, padding, dilation, backend or '')
    name, source = asked_for(backend, ENV_VARIABLE)
    if name not in (None, 'reference'):
        raise RuntimeError(f'{source} cannot run here: {reason}; leave it out for the automatic choice')
    return involution_forward(x, weight, stride, padding, dilation)
