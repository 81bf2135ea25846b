"""What stands in the place of a norm that is folded, and of mmcv's ``ConvModule`` around it."""

import torch
from mmcv.cnn import ConvModule
from torch import nn

__all__ = ['BatchedFoldedNorm', 'FoldedNorm', 'FusedConvModule']


class FoldedNorm(nn.Identity):
    """What is left of a norm that a convolution does the work of."""

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # without strict=True, as in mmengine, the weights of the convolution would be those without the norm
        found = next((key for key in state_dict if key.startswith(prefix)), None)
        if found is not None:
            raise RuntimeError(
                f'the state dict has {found}, it is that of a model whose norms are not folded, and part of it is '
                'loaded by now; load it into the model itself and call mmext.fuse again'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


class BatchedFoldedNorm(FoldedNorm):
    """What is left of a norm that takes other inputs than [N, C, ...] too, which a convolution does not norm so.

    ``nn.Conv1d`` takes a signal [C, L] without a batch, whose output ``nn.BatchNorm1d`` takes for [N, C].

    Attributes:
        dims (int): The dimensions that the output of the convolution has with a batch.
    """

    def forward(self, x):
        """Return what the convolution returns; without a batch dimension, it is an AssertionError."""
        # an operation of the graph in torch.fx, where an if would not be traced
        torch._assert(
            x.dim() == self.dims,
            'a norm folded into a convolution takes input with a batch dimension only: [N, C, ...]; call the model '
            'from before mmext.fuse',
        )
        return x


class FusedConvModule(ConvModule):
    """A ``ConvModule`` with its norm folded into its convolution, which can no longer run without the norm."""

    def forward(self, x, activate=True, norm=True):
        """Run the layers in their order, as ``ConvModule`` does; ``norm=False`` is a ValueError."""
        if not norm:
            raise ValueError(
                'norm=False: the norm is folded into the convolution; call the model from before mmext.fuse, or fuse '
                'the network around this module, with an example that shows this call'
            )
        return super().forward(x, activate)
