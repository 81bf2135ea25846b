"""The involution operator: one file per backend, one public function that checks its input and picks a backend."""

from .functional import involution

__all__ = ['involution']
