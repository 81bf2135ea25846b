"""mmaction2's wheel lacks ``mmaction.models.localizers.drn``, so that any look-up in its model registry fails.

Upstream: https://github.com/open-mmlab/mmaction2/issues/2714. The package that imports the missing one needs a single
name of it, ``DRN``. A finder at the *end* of the import path supplies that name: where the real module is installed,
the ordinary finders answer first and this one is never asked.
"""

import importlib.abc
import importlib.machinery
import sys

PACKAGE = 'mmaction.models.localizers.drn'
MODULE = f'{PACKAGE}.drn'


class _MissingDRN:
    def __init__(self, *args, **kwargs):
        raise ImportError(
            f'this installation of mmaction2 does not contain {MODULE}, which defines DRN (the wheel on PyPI leaves it '
            'out); install mmaction2 from its repository to use DRN'
        )


class _DRNFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):
        if fullname not in (PACKAGE, MODULE):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname == PACKAGE)

    def exec_module(self, module):
        if module.__name__ == MODULE:
            module.DRN = _MissingDRN


def apply():
    """Let mmaction2 be imported without its missing module."""
    if not any(isinstance(finder, _DRNFinder) for finder in sys.meta_path):
        sys.meta_path.append(_DRNFinder())
