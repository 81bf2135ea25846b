"""Files and networks of the published size: golden scores, and the memory that a conversion takes."""

import subprocess
import sys
import time
from pathlib import Path

import mxnet_writer
import pytest
import torch
import wider
import wider_golden

from mmext.convert import convert

PUBLISHED_BYTES = 436873620
LARGEST_TENSOR_BYTES = 1024 * 2048 * 9 * 4


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """A file of the published classifiers' size and layout, with golden weights."""
    case = wider_golden.Case('a1_cls1000_s32_odd')
    arrays = case.checkpoint()
    state = {key: arrays[key.partition(':')[2]] for key in wider.listed('a1_cls1000_s32_odd')}
    path = mxnet_writer.write(
        tmp_path_factory.mktemp('published') / 'ilsvrc-cls_rna-a1_cls1000_ep-0001.params', state, version=0
    )
    yield path
    path.unlink()


def test_golden_scores_of_a_file_of_the_published_size(published):
    assert published.stat().st_size == PUBLISHED_BYTES
    case = wider_golden.Case('a1_cls1000_s32_odd')
    converted, _ = convert(published, 'ademxapp')
    with torch.device('meta'):
        network = wider_golden.Network(fcn=False, **case['options'])
    state = {key.replace('head.fc.', 'classifier.'): value for key, value in converted.items()}
    network.load_state_dict(state, strict=True, assign=True)
    with torch.no_grad():
        errors = case.errors(network.eval()(case.image()))
    assert errors['scores'] < 1e-5


CHILD = """
import sys
from pathlib import Path
import mmext.models.wider_resnet
from mmext.convert import convert
from mmext.convert.writing import write_checkpoint
print('ready', flush=True)
sys.stdin.readline()
print(write_checkpoint(*convert(sys.argv[1], 'ademxapp'), Path(sys.argv[2])))
"""


def anonymous_bytes(pid):
    """Memory of a process that is not pages of files, which the system can drop and read again."""
    try:
        lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    except ProcessLookupError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith('RssAnon:'))


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs the memory figures of Linux')
def test_converting_a_file_of_the_published_size_takes_no_memory_for_it(published, tmp_path):
    command = [sys.executable, '-W', 'ignore', '-c', CHILD, published, tmp_path / 'converted.pth']
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    before = peak = anonymous_bytes(process.pid)
    process.stdin.write('\n')
    process.stdin.flush()
    while process.poll() is None:
        peak = max(peak, anonymous_bytes(process.pid))
        time.sleep(0.001)
    written = Path(process.communicate()[0].strip())
    assert process.returncode == 0
    # what it had before the first sample is part of the figure; any copy of the largest tensor would show
    assert 0 < peak - before < LARGEST_TENSOR_BYTES / 2
    found = torch.load(written, weights_only=True, mmap=True)['state_dict']
    source = convert(published, 'ademxapp')[0]
    assert list(found) == list(source)
    for key in ('backbone.conv1.weight', 'backbone.level7.0.conv2.weight', 'backbone.bn7.running_var', 'head.fc.bias'):
        assert torch.equal(found[key], source[key])
    written.unlink()


def test_golden_segmentation_scores():
    case = wider_golden.Case('fcn_a1_cls21_s8')
    arrays = case.checkpoint()
    state = {key: arrays[key.partition(':')[2]] for key in wider.listed('fcn_a1_cls21_s8')}
    converted, _ = convert(state, 'ademxapp')
    with torch.device('meta'):
        network = wider_golden.Network(fcn=True, **case['options'])
    names = {'decode_head.convs.0.conv.': 'conv6a.', 'decode_head.conv_seg.': 'classifier.'}
    for ours, theirs in names.items():
        converted = {key.replace(ours, theirs): value for key, value in converted.items()}
    network.load_state_dict(converted, strict=True, assign=True)
    with torch.no_grad():
        errors = case.errors(network.eval()(case.image()))
    assert errors['scores'] < 1e-5
