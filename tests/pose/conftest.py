"""Settings shared by the tests of associative embedding."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _mmpose_scope():
    """mmpose finds its own classes by bare names (CombinedLoss, for one) only while its scope is the current one."""
    with DefaultScope.overwrite_default_scope('mmpose'):
        yield
