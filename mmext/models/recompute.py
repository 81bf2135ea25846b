"""Activation checkpointing that leaves the running statistics of norms alone."""

import contextlib

import torch
from torch import fx
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from mmext.ops.guard import why_not_compiled

__all__ = ['recompute']


def recompute(function, x, modules):
    """Run a part of a network and forget its activations, which the backward pass computes again.

    ``torch.utils.checkpoint`` runs the part twice, and each run in training mode moves the running statistics of its
    norms. Here only the first one does, so that a network trains the same with and without it. Under ``torch.compile``
    they move once anyway, as AOTAutograd takes them out of what it repeats; the backend 'eager', which has no
    AOTAutograd, raises.

    Where nothing is kept for a backward pass, and where PyTorch cannot forget it (under transforms of ``torch.func``,
    forward-mode differentiation and symbolic tracing), the part runs as it is.

    Args:
        function (Callable[[Tensor], Tensor]): The part.
        x (Tensor): Its input, which is kept.
        modules (Iterable[nn.Module]): What runs in it.

    Returns:
        Tensor: ``function(x)``.
    """
    if isinstance(x, fx.Proxy) or not torch.is_grad_enabled():
        return function(x)
    if torch.compiler.is_compiling():
        return checkpoint(function, x, use_reentrant=False)
    if torch.jit.is_tracing() or why_not_compiled(x, one_operator=True):
        return function(x)
    norms = [norm for module in modules for norm in module.modules() if isinstance(norm, _NormBase)]
    return checkpoint(function, x, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _Kept(norms)))


class _Kept:
    """A context in which statistics stay as they are, entered once for each backward pass through the part."""

    def __init__(self, norms):
        self.norms = norms

    def __enter__(self):
        # with momentum 0 the statistics stay as they are, and the same tensors are saved as in the first run
        moving = [norm for norm in self.norms if norm.training and norm.track_running_stats]
        counts = [norm.num_batches_tracked for norm in moving]
        self.state = [(norm, norm.momentum, count, None if count is None else count.clone())
                      for norm, count in zip(moving, counts)]  # fmt: skip
        for norm in moving:
            norm.momentum = 0.0

    def __exit__(self, *error):  # also where the second run stops early, as it does once it has what it needs
        for norm, momentum, count, before in self.state:
            norm.momentum = momentum
            if count is not None:
                count.copy_(before)
