import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from mmext.convert import ConversionError, read_checkpoint

STATE = {'a.weight': torch.arange(2000.0), 'b': torch.tensor(3)}


class Hostile:
    """Asks for a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture(params=[True, False], ids=['zip', 'legacy'])
def save(request, tmp_path):
    def save(content):
        path = tmp_path / 'checkpoint.pth'
        torch.save(content, path, _use_new_zipfile_serialization=request.param)
        return path

    return save


def check(found):
    assert list(found) == list(STATE)
    for key, value in STATE.items():
        assert torch.equal(found[key], value)


def test_layouts(save):
    mmcv1 = dict(meta=dict(mmcls_version='0.11.0', epoch=130), state_dict=OrderedDict(STATE), optimizer=dict(lr=0.1))
    for content in (STATE, mmcv1, {f'module.{key}': value for key, value in STATE.items()}):
        check(read_checkpoint(save(content)))
        check(read_checkpoint(content))


def test_a_module_before_some_keys_only_stays():
    assert list(read_checkpoint({'module.a': torch.ones(1), 'b': torch.ones(1)})) == ['module.a', 'b']


def test_a_state_dict_straight_from_a_module(save):
    model = nn.BatchNorm2d(3)
    assert list(read_checkpoint(save(model.state_dict()))) == list(model.state_dict())


def test_code_is_named_and_not_run(save, tmp_path):
    trace = tmp_path / 'trace'
    path = save(dict(state_dict=STATE, meta=Hostile(f'touch {trace}')))
    with pytest.raises(ConversionError, match=r'checkpoint\.pth asks for \w+\.system, .* no fall-back .* If you trust'):
        read_checkpoint(path)
    assert not trace.exists()


def test_code_through_getattr_is_named(tmp_path):
    path = tmp_path / 'getattr.pth'
    attack = pickle.PROTO + b'\x02cbuiltins\ngetattr\n(ctorch._utils\n_rebuild_tensor_v2\nX\x08\x00\x00\x00__code__tR.'
    path.write_bytes(attack)
    with pytest.raises(ConversionError, match=r'asks for \S*getattr.*, which is code'):
        read_checkpoint(path)


@pytest.mark.parametrize('kept', [0.9, 0.5, 0.02])
def test_truncated_file(save, kept):
    path = save(STATE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ConversionError, match=r'checkpoint\.pth \(\d+ bytes\) cannot be read .* download it again'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [b'<html>404</html>', b'\0' * 100, b'PK\x03\x04'])
def test_file_that_is_no_checkpoint(tmp_path, content):
    path = tmp_path / 'file.pth'
    path.write_bytes(content)
    with pytest.raises(ConversionError, match='cannot be read as a checkpoint'):
        read_checkpoint(path)


def test_paths_that_are_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no file .*absent\.pth'):
        read_checkpoint(tmp_path / 'absent.pth')
    with pytest.raises(IsADirectoryError, match='is a folder'):
        read_checkpoint(tmp_path)
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(ConversionError, match='is empty'):
        read_checkpoint(tmp_path / 'empty.pth')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1, 2], 'holds a list where a mapping'),
        ({'state_dict': torch.ones(1)}, 'holds a Tensor where a mapping'),
        ({'state_dict': {}}, 'holds no tensors; give'),
        ({'epoch': 3, 'model': STATE}, r"holds no tensors under 2 keys: 'epoch' \(int\), 'model' \(dict\)"),
        ({**STATE, 'step': 3}, r"holds other things than tensors under 1 key: 'step' \(int\)"),
        ({1: torch.ones(1)}, r'holds no tensors under 1 key: 1 \(Tensor\)'),
    ],
)
def test_content_that_is_no_state_dict(save, content, message):
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(save(content))


def test_arrays_are_no_tensors():
    with pytest.raises(ConversionError, match=r"'a' \(ndarray\)"):
        read_checkpoint({'a': np.ones(3)})
