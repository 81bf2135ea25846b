"""``python -m mmext``: the same as the ``mmext`` command."""

import sys

from mmext.cli import main

sys.exit(main())
