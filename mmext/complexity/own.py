"""Our own counting: the multiply-adds of convolutions, aggregations and matrix products, as PyTorch dispatches them."""

import torch
from torch.utils.flop_counter import FlopCounterMode

import mmext.ops.inception_conv
import mmext.ops.involution.flops  # noqa: F401  likewise

__all__ = ['count_own']

KINDS = {
    torch.ops.aten.convolution: 'convolution',
    torch.ops.aten._convolution: 'convolution',
    torch.ops.mmext.inception_conv2d: 'convolution',
    torch.ops.mmext.involution: 'aggregation',
}


def count_own(module, inputs):
    """Run a module and count what its operators multiply and add.

    Args:
        module (nn.Module): What is run.
        inputs (Sequence): Its arguments.

    Returns:
        tuple: The outputs, and {'convolution', 'aggregation', 'rest': int} in multiply-adds; the rest are the other
        operators that PyTorch's flop counter knows, which are matrix products. Biases, norms, activations, pooling,
        additions and interpolation count nothing.
    """
    with FlopCounterMode(display=False) as counter:
        outputs = module(*inputs)
    counts = dict.fromkeys(('convolution', 'aggregation', 'rest'), 0)
    for operator, flops in counter.get_flop_counts().get('Global', {}).items():
        counts[KINDS.get(operator, 'rest')] += flops // 2  # PyTorch counts a multiplication and an addition
    return outputs, counts
