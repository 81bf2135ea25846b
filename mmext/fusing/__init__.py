"""Folding of batch normalisation into convolutions, for inference: :func:`mmext.fuse`."""

from .network import fuse

__all__ = ['fuse']
