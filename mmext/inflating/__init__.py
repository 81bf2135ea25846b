"""Inflation of whole 2D networks to 3D: :func:`mmext.inflate`."""

from .network import inflate

__all__ = ['inflate']
