"""The involution operator: one file per backend, one public function that checks its input and picks a backend."""

from . import flops  # noqa: F401  counters of multiply-adds know the operator
from .functional import involution

__all__ = ['involution']
