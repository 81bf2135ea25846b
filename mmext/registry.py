"""mmext's registries: children of mmengine's root ones, in scope ``mmext``.

A config of any toolbox reaches a class of this package as ``type='mmext.NAME'``: on the first such look-up mmengine
imports this module, finds the child registry and asks it. With the ``custom_imports`` line that the shipped configs
carry the import happens earlier, which changes one thing only: a missing installation fails with an ImportError.
"""

import difflib
import sys
from importlib import import_module

from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import TASK_UTILS as ROOT_TASK_UTILS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import WEIGHT_INITIALIZERS as ROOT_WEIGHT_INITIALIZERS
from mmengine.registry import Registry

__all__ = [
    'DATASETS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'TASK_UTILS',
    'TRANSFORMS',
    'WEIGHT_INITIALIZERS',
    'PluginRegistry',
]

# Toolbox -> the part of mmext that needs it and registers more names. A part is imported only where its toolbox
# already is, so that mmext alone never imports a toolbox and a look-up from one never imports another.
TOOLBOX_PARTS = {
    'mmaction': 'mmext.video',
    'mmdet': 'mmext.det',
    'mmpose': 'mmext.pose',
    'mmpretrain': 'mmext.cls',
    'mmseg': 'mmext.seg',
}


class PluginRegistry(Registry):
    """A registry in scope ``mmext`` whose look-ups also import the parts that belong to the running toolbox.

    Args:
        parent (Registry): mmengine's root registry of the same kind, from which the name is taken.
        locations (list[str]): Modules imported at the first look-up. They must not need a toolbox.
    """

    def __init__(self, parent, locations=('mmext.models',)):
        parent.children.pop('mmext', None)  # of a module whose import failed after it had made this
        super().__init__(parent.name, parent=parent, scope='mmext', locations=list(locations))
        self._unavailable = {}

    def import_from_location(self):
        """Import what registers names here: the locations once, each toolbox's part when that toolbox is there."""
        super().import_from_location()
        for toolbox, part in TOOLBOX_PARTS.items():
            if toolbox in sys.modules and part not in sys.modules and part not in self._unavailable:
                try:
                    import_module(part)
                except Exception as error:  # such as a toolbox over mmcv-lite; the rest of mmext does not need it
                    self._unavailable[part] = f'cannot be imported ({type(error).__name__}: {error})'
        for name, module in list(self.module_dict.items()):
            origin = getattr(module, '__module__', None) or ''
            if origin.startswith(('mmext.', *TOOLBOX_PARTS.values())) and origin not in sys.modules:
                del self.module_dict[name]  # its module failed after it had registered this

    def register_module(self, name=None, force=False, module=None):
        """Register a class or function, directly or as a decorator.

        As mmengine's, but a module that is executed again, because its import failed after it had registered some of
        its classes, registers them again.

        Args:
            name (str or list[str], optional): Default: None, its own name.
            force (bool): Whether it may take the name of another. Default: False.
            module (type or Callable, optional): What to register. Default: None, what is decorated.

        Returns:
            type or Callable: What was registered, or the decorator.

        Raises:
            TypeError: If ``force`` is no bool, or ``name`` or ``module`` is of another type than said.
            KeyError: If the name is taken by something else and ``force`` is False.
        """
        if module is None:
            decorate = super().register_module(name, force)  # which checks the arguments
            return lambda decorated: (self._forget(name, decorated), decorate(decorated))[1]
        self._forget(name, module)
        return super().register_module(name, force, module)

    def _forget(self, name, module):
        """Remove what an earlier execution of the code of a class registered."""
        names = [name] if isinstance(name, str) else name or [getattr(module, '__name__', None)]
        for known in names:
            if _origin(self.module_dict.get(known)) == _origin(module) is not None:
                del self.module_dict[known]

    def get(self, key):
        """Return the class registered under a name.

        Args:
            key (str): Name with or without the scope, for example ``'RedNet'`` or ``'mmext.RedNet'``.

        Returns:
            type: The registered class; for a name without scope possibly that of the root registry.

        Raises:
            KeyError: If there is no such name. The message says which ones are close.
        """
        found = super().get(key)
        if found is None and self._unavailable:  # by now what was missing may be there
            self._unavailable.clear()
            found = super().get(key)
        if found is None and self.split_scope_key(key)[0] in (None, self.scope):
            name = self.split_scope_key(key)[1]
            known = sorted(self.module_dict)
            close = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean {close[0]!r}? ' if close else ''
            absent = {
                part: 'would add more when imported' for part in TOOLBOX_PARTS.values() if part not in sys.modules
            }
            more = ''.join(f'; {part} {why}' for part, why in {**absent, **self._unavailable}.items())
            raise KeyError(f'mmext has no {self.name} {name!r}: {hint}it has {", ".join(known) or "none"}{more}')
        return found

    def __contains__(self, key):
        try:
            return self.get(key) is not None
        except KeyError:
            return False


def _origin(module):
    """Where the code of a class or function is; None if that is not at the top of a module."""
    name = getattr(module, '__qualname__', '')
    return (module.__module__, name) if name and '<locals>' not in name else None


MODELS = PluginRegistry(ROOT_MODELS)
DATASETS = PluginRegistry(ROOT_DATASETS, locations=())
TRANSFORMS = PluginRegistry(ROOT_TRANSFORMS, locations=())
METRICS = PluginRegistry(ROOT_METRICS, locations=())
HOOKS = PluginRegistry(ROOT_HOOKS, locations=())
TASK_UTILS = PluginRegistry(ROOT_TASK_UTILS, locations=())
WEIGHT_INITIALIZERS = PluginRegistry(ROOT_WEIGHT_INITIALIZERS, locations=('mmext.convert.published_checkpoint',))
