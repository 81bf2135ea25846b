"""Published model families for the OpenMMLab toolboxes, as one plugin.

Importing this package is light: it registers the names (``type='mmext.RedNet'`` in any toolbox's config) and cures
known breaks of the tested stack. Networks are imported when a config or a caller asks for one; toolboxes are never
imported from here.
"""

from . import compat, registry
from .version import __version__

compat.apply()

__all__ = ['__version__', 'compat', 'registry']
