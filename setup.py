"""Puts the configs and the model index into the wheel, as ``mmext/.mim``, where mmext and OpenMMLab's tools look.

Everything else is in pyproject.toml. An editable installation finds the checkout's own folders.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithConfigs(build_py):
    """``build_py`` that also copies what is not Python code of the package."""

    def run(self):
        """Build the package, then copy."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'mmext' / '.mim'
        shutil.rmtree(target, ignore_errors=True)  # an earlier build's folder may hold configs that are gone
        shutil.copytree(ROOT / 'configs', target / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copy(ROOT / 'model-index.yml', target)


setup(cmdclass={'build_py': BuildWithConfigs})
