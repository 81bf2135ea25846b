"""Activation checkpointing that leaves the running statistics of norms alone."""

import contextlib

from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

__all__ = ['recompute']


def recompute(function, x, modules):
    """Run a part of a network and forget its activations, which the backward pass computes again.

    ``torch.utils.checkpoint`` runs the part twice, and each run in training mode moves the running statistics of its
    batch normalisations. Here only the first one does, so that a network trains the same with and without it.

    Args:
        function (Callable[[Tensor], Tensor]): The part.
        x (Tensor): Its input, which is kept.
        modules (Iterable[nn.Module]): What runs in it.

    Returns:
        Tensor: ``function(x)``.
    """
    norms = [norm for module in modules for norm in module.modules() if isinstance(norm, _BatchNorm)]
    return checkpoint(function, x, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _kept(norms)))


@contextlib.contextmanager
def _kept(norms):
    # with momentum 0 the statistics stay as they are, and the same tensors are saved as in the first run
    moving = [norm for norm in norms if norm.training and norm.track_running_stats]
    state = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in moving]
    for norm in moving:
        norm.momentum = 0.0
    try:
        yield
    finally:  # also where the second run stops early, as it does once it has what the backward pass needs
        for norm, (momentum, count) in zip(moving, state):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
