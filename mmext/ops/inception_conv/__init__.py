"""The inception convolution: one file per backend, one public function that checks its input and picks a backend."""

from .functional import inception_conv2d

__all__ = ['inception_conv2d']
