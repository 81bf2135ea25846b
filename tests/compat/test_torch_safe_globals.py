import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

import mmext  # noqa: F401  declares the safe globals

needs_weights_only = pytest.mark.skipif(
    tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 6),
    reason='torch.load accepts everything by default before torch 2.6',
)


class Runs:
    """An object whose unpickling calls a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_message_hub_of_mmengine_loads(tmp_path):
    buffer = HistoryBuffer([0.5, 0.25], [1, 1])
    buffer.update(0.125)
    path = tmp_path / 'epoch_1.pth'
    hub = {'log_scalars': {'train/loss': buffer}, 'runtime_info': {'loss': np.float64(0.5), 'iter': np.int64(3)}}
    torch.save({'state_dict': {'weight': torch.ones(2)}, 'message_hub': hub}, path)
    loaded = torch.load(path)['message_hub']
    assert loaded['log_scalars']['train/loss'].mean() == pytest.approx((0.5 + 0.25 + 0.125) / 3)
    assert loaded['log_scalars']['train/loss'].statistics('min') == 0.125
    assert loaded['runtime_info'] == {'loss': 0.5, 'iter': 3}


@needs_weights_only
@pytest.mark.parametrize(
    'attack',
    [
        Runs(os.system, 'exit 3'),
        Runs(eval, '__import__("os")'),
        Runs(getattr, str, 'format'),
        Runs(getattr, HistoryBuffer, '__init__'),
        Runs(getattr, HistoryBuffer, '__init_subclass__'),
        Runs(getattr, HistoryBuffer([1], [1]), 'mean'),
    ],
)
def test_hostile_pickles_stay_refused(tmp_path, attack):
    path = tmp_path / 'hostile.pth'
    torch.save({'state_dict': {}, 'meta': attack}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)
