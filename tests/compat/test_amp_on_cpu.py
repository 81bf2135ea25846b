import subprocess
import sys

import pytest

TRAIN_A_STEP = """
import warnings
warnings.simplefilter('ignore')
{first}
import torch
from mmengine.optim import AmpOptimWrapper

layer = torch.nn.Linear(2, 2)
wrapper = AmpOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), lr=0.1), clip_grad=dict(max_norm=1))
before = layer.weight.clone()
with wrapper.optim_context(layer):
    out = layer(torch.ones(1, 2))
wrapper.update_params(out.sum())
print(out.dtype, bool((layer.weight != before).all()))
"""


@pytest.mark.parametrize('first', ['import mmext', 'import mmengine.runner, mmext'], ids=['before', 'after'])
def test_a_step_in_bfloat16(first):
    result = subprocess.run([sys.executable, '-c', TRAIN_A_STEP.format(first=first)], capture_output=True, text=True)
    assert result.stdout.split() == ['torch.bfloat16', 'True'], result.stderr[-2000:]


def test_mmengine_alone_refuses():
    # once it does not, this cure can go
    code = TRAIN_A_STEP.format(first='')
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'AssertionError' in result.stderr
