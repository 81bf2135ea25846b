"""The memory of tensors alive at once, counted operator by operator, on any device, the weightless meta included."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ['LiveMemory']


class LiveMemory(TorchDispatchMode):
    """Count the bytes of all tensors that are made within the ``with`` block, backward passes included.

    What an operator needs inside while it runs is not seen.

    Args:
        apart (Iterable[Tensor]): Tensors that are not counted, such as parameters and their gradients.

    Attributes:
        now (int): Bytes alive.
        peak (int): Most bytes alive at once so far.
    """

    def __init__(self, apart=()):
        super().__init__()
        self.now = self.peak = 0
        self._apart = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in apart)}
        self._alive = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run an operator and count the storages that it makes."""
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def _count(self, storage):
        key = id(storage)
        if key not in self._alive and key not in self._apart:
            self._alive[key] = storage.nbytes()
            self.now += storage.nbytes()
            weakref.finalize(storage, self._free, key)

    def _free(self, key):
        self.now -= self._alive.pop(key)
