"""``--amp`` stops on a machine without an accelerator, although everything it needs runs on the CPU.

mmengine's ``AmpOptimWrapper`` refuses to be built without a GPU (no upstream issue is known to us). Its parts do work:
mmengine's ``autocast`` picks bfloat16 on the CPU, and torch's loss scaler, which bfloat16 does not need, turns itself
off there. Only the check is in the way, so it is answered with yes, which is its answer anyway where an accelerator is.
"""

from .after_import import after_import

__all__ = ['apply']


def _cure(module):
    module.is_cuda_available = lambda: True  # the module asks it in this check alone


def apply():
    """Let mmengine's ``AmpOptimWrapper`` be built without an accelerator."""
    after_import('mmengine.optim.optimizer.amp_optimizer_wrapper', _cure)
