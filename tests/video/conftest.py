"""Settings shared by the tests of the parts for mmaction2."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _mmaction_scope():
    """mmaction2 finds its own losses by bare names only while its scope is the current one."""
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield
