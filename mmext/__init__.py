"""Published model families for the OpenMMLab toolboxes, as one plugin.

Importing this package is light: it registers the names (``type='mmext.RedNet'`` in any toolbox's config) and cures
known breaks of the tested stack. Networks are imported when a config or a caller asks for one; toolboxes are never
imported from here. The model API (:mod:`mmext.zoo`) is imported at its first use.
"""

from . import compat, registry
from .version import __version__

compat.apply()

__all__ = ['__version__', 'compat', 'fuse', 'get_config', 'get_model', 'inflate', 'list_models', 'registry']


def __getattr__(name):
    if name in ('get_config', 'get_model', 'list_models'):
        from . import zoo

        return getattr(zoo, name)
    if name == 'fuse':
        from .fusing import fuse

        return fuse
    if name == 'inflate':
        from .inflating import inflate

        return inflate
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    return sorted({*globals(), *__all__})
