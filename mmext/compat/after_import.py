"""Cure a module when it is imported, so that ``import mmext`` need not import it."""

import importlib.util
import sys

__all__ = ['after_import']


class _Finder:
    def __init__(self, name, cure):
        self.name = name
        self.cure = cure

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.cure(module)

        spec.loader.exec_module = exec_module
        return spec


def after_import(name, cure):
    """Call ``cure(module)`` once: now if the module is imported already, else right after its import.

    Args:
        name (str): Full name of the module. It need not exist.
        cure (Callable): What changes the module.
    """
    if any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
        return
    if name in sys.modules:
        cure(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, cure))
