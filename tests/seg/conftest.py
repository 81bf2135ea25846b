"""Settings shared by the tests of segmentation."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _mmseg_scope():
    """mmengine's base model finds mmseg's data preprocessor by its bare name only while mmseg's scope is current."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield
