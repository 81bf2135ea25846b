"""Settings shared by the tests of classification."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _mmpretrain_scope():
    """mmcv's TestTimeAug finds mmpretrain's transforms by bare names only while its scope is the current one."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield
