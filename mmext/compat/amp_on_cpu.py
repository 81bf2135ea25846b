"""``--amp`` stops on a machine without an accelerator, although everything it needs runs on the CPU.

mmengine's ``AmpOptimWrapper`` refuses to be built without a GPU (no upstream issue is known to us). Its parts do work:
mmengine's ``autocast`` picks bfloat16 on the CPU, and torch's loss scaler, which bfloat16 does not need, turns itself
off there. Only the check is in the way, so it is answered with yes, which is its answer anyway where an accelerator is.
"""

import importlib.util
import sys

MODULE = 'mmengine.optim.optimizer.amp_optimizer_wrapper'


def _cure(module):
    module.is_cuda_available = lambda: True  # the module asks it in this check alone


class _AfterImport:
    """Finder that cures the module when it is imported, so that ``import mmext`` need not import it."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _cure(module)

        spec.loader.exec_module = exec_module
        return spec


def apply():
    """Let mmengine's ``AmpOptimWrapper`` be built without an accelerator."""
    if MODULE in sys.modules:
        _cure(sys.modules[MODULE])
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())
