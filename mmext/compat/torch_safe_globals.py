"""Checkpoints saved by mmengine do not load under torch 2.6 and newer, whose ``torch.load`` refuses unknown classes.

Upstream: https://github.com/open-mmlab/mmengine/issues/1655. Such a checkpoint holds, besides tensors, the message hub:
``HistoryBuffer`` objects made of numpy arrays, which carry references to their own statistics methods. Those few names
are declared safe. Pickle writes a method as ``getattr(HistoryBuffer, 'mean')``; the real ``getattr`` would let a
hostile file walk from any object to any other, so the name is bound to a function that gives out these methods and
nothing else.
"""

import pickle

import numpy as np
import torch

STATISTICS = ('min', 'max', 'current', 'mean')


def _history_buffer_getattr(owner, name):
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in STATISTICS:
        raise pickle.UnpicklingError(
            f'the checkpoint asks for getattr({owner!r}, {name!r}); only the statistics {", ".join(STATISTICS)} of '
            "mmengine's HistoryBuffer are allowed. Load it only if you trust its origin, with torch.load(..., "
            'weights_only=False), and save what you need of it.'
        )
    return getattr(owner, name)


def apply():
    """Declare what mmengine's checkpoints hold besides tensors as safe for ``torch.load``."""
    if tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 6):
        return  # torch.load accepts everything by default there, and its list takes no names for functions
    from mmengine.logging import HistoryBuffer

    multiarray = np.core.multiarray if np.__version__ < '2' else np._core.multiarray
    names = [HistoryBuffer, np.ndarray, np.dtype, (_history_buffer_getattr, 'builtins.getattr')]
    # numpy 1 and 2 write different module names for the same functions, and either may read the other's file
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        names += [(getattr(multiarray, name), f'{module}.{name}') for name in ('_reconstruct', 'scalar')]
    names += [type(np.dtype(code)) for code in '?bBhHiIlLqQefd']
    torch.serialization.add_safe_globals(names)
