"""Settings shared by all tests."""

import os
import sys
from pathlib import Path

WORKERS = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1))
if WORKERS > 1:  # before torch is imported; scripts that tests start inherit it
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // WORKERS)))

import pytest  # noqa: E402
import torch  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))  # tests import golden.py and running.py by name


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
