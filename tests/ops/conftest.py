"""Settings shared by the tests of the operators."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _two_threads():
    """Operators share their work among threads, also where the whole suite runs in several processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
