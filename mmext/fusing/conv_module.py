"""The ``ConvModule`` of mmcv with its norm folded."""

from mmcv.cnn import ConvModule

__all__ = ['FusedConvModule']


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
