import hashlib
import os
import re

import pytest
import torch
from narrow import classifier

from mmext.convert import ConversionError, convert
from mmext.convert.writing import destination, write_checkpoint


def test_name_content_and_bytes_are_those_of_the_content(tmp_path):
    state = classifier()
    first = write_checkpoint(*convert(state, 'involution'), tmp_path / 'red.pth')
    assert re.fullmatch(r'red-[0-9a-f]{8}\.pth', first.name)
    assert hashlib.sha256(first.read_bytes()).hexdigest().startswith(first.stem.rpartition('-')[2])
    assert os.listdir(tmp_path) == [first.name]

    content = torch.load(first, weights_only=True)
    assert content['meta']['source'] == 'involution'
    assert content['meta']['converted_by'].startswith('mmext ')
    assert content['meta']['architecture']['stem_kernel'] == 7
    assert list(content['state_dict']) == list(state)
    assert all(torch.equal(content['state_dict'][key], value) for key, value in state.items())

    (tmp_path / 'elsewhere').mkdir()
    torch.save(dict(meta=dict(epoch=130), state_dict=state, optimizer=state), tmp_path / 'published.pth')
    again = write_checkpoint(*convert(tmp_path / 'published.pth', 'involution'), tmp_path / 'elsewhere' / 'other.pth')
    assert again.read_bytes() == first.read_bytes()
    third = write_checkpoint(*convert(first, 'involution'), tmp_path / 'elsewhere' / 'third.pth')
    assert third.read_bytes() == first.read_bytes()


def test_classes_and_palette_are_kept(tmp_path):
    known = dict(classes=('cat', 'dog'), palette=[(1, 2, 3), (4, 5, 6)])
    old = dict(meta=dict(CLASSES=known['classes'], PALETTE=known['palette']), state_dict=classifier())
    path = write_checkpoint(*convert(old, 'involution'), tmp_path / 'old.pth')
    assert torch.load(path, weights_only=True)['meta']['dataset_meta'] == known
    assert convert(path, 'involution')[1].dataset_meta == known
    assert convert(dict(meta=dict(CLASSES=None), state_dict=classifier()), 'involution')[1].dataset_meta == {}


def test_a_view_of_a_large_storage_is_written_small(tmp_path):
    state = {**classifier(), 'head.fc.bias': torch.zeros(10**6)[:5]}
    path = write_checkpoint(*convert(state, 'involution'), tmp_path / 'red.pth')
    assert path.stat().st_size < 4 * 10**6


def test_torch_hub_accepts_the_hash(tmp_path):
    path = write_checkpoint(*convert(classifier(), 'involution'), tmp_path / 'red.pth')
    folder = tmp_path / 'cache'
    torch.hub.load_state_dict_from_url(path.as_uri(), model_dir=folder, check_hash=True, weights_only=True)
    assert os.listdir(folder) == [path.name]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError('no space left on device')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='no space left'):
        write_checkpoint(*convert(classifier(), 'involution'), tmp_path / 'red.pth')
    assert os.listdir(tmp_path) == []


def test_destination(tmp_path):
    assert destination('a/rednet50.pt', tmp_path) == tmp_path / 'rednet50.pth'
    assert destination('a/rednet50.pth', tmp_path / 'new.pth') == tmp_path / 'new.pth'
    with pytest.raises(ConversionError, match=r"new\.onnx ends in '\.onnx'; give a file name in \.pth, or a folder"):
        destination('a.pth', tmp_path / 'new.onnx')
    with pytest.raises(ConversionError, match="checkpoints ends in 'no suffix'"):
        destination('a.pth', tmp_path / 'checkpoints')
    with pytest.raises(ConversionError, match='is the checkpoint to convert itself'):
        destination(tmp_path / 'a.pth', f'{tmp_path}/../{tmp_path.name}/a.pth')
    with pytest.raises(FileNotFoundError, match=r'folder .*absent does not exist; make it first'):
        destination('a.pth', tmp_path / 'absent' / 'a.pth')
