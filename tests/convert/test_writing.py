import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from narrow import classifier

from mmext.convert import ConversionError, ConversionReport, convert, writing
from mmext.convert.writing import destination, write_checkpoint
from mmext.utils import whole_files


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


def test_tensors_that_share_memory_or_lie_otherwise_give_the_same_bytes(tmp_path):
    state = classifier()
    first, second = 'backbone.layer1.0.bn1.weight', 'backbone.layer1.0.bn1.bias'
    state[second] = state[first].clone()
    weight = 'backbone.layer1.0.conv1.weight'
    wanted = write_checkpoint(*convert(state, 'involution'), tmp_path / 'red.pth').read_bytes()
    state[second] = state[first]
    state[weight] = state[weight].to(memory_format=torch.channels_last)
    state['head.fc.weight'] = state['head.fc.weight'].t().contiguous().t()
    state['head.fc.bias'] = torch.nn.Parameter(torch.stack([state['head.fc.bias']] * 2, 1)[:, 1])
    (tmp_path / 'other').mkdir()
    found = write_checkpoint(*convert(state, 'involution'), tmp_path / 'other' / 'red.pth')
    assert found.read_bytes() == wanted


def test_whole_tensors_are_not_copied():
    state = dict(whole=torch.rand(3, 4), part=torch.rand(5)[1:], repeated=torch.zeros(()).expand(7))
    tight = writing._tight(state)
    assert tight['whole'] is state['whole']
    for key, value in tight.items():
        assert torch.equal(value, state[key])
        assert value.untyped_storage().nbytes() == value.nbytes


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs a device that is always full')
def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, mode):
        open(path, mode).close()
        return open('/dev/full', 'r+b', buffering=0)

    monkeypatch.setattr(whole_files, 'open', full, raising=False)
    with pytest.raises(OSError, match='No space left'):
        write_checkpoint(*convert(classifier(), 'involution'), tmp_path / 'red.pth')
    assert os.listdir(tmp_path) == []


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


def test_threads_that_write_one_name_make_whole_files(tmp_path):
    report = ConversionReport('involution', {})
    contents = [{'w': torch.full((200_000,), float(index))} for index in range(4)]
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda state: write_checkpoint(state, report, tmp_path / 'red.pth'), contents * 3))
    assert sorted(os.listdir(tmp_path)) == sorted({path.name for path in paths})
    for path, content in zip(paths, contents * 3):
        assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem[-8:])
        assert torch.equal(torch.load(path, weights_only=True)['state_dict']['w'], content['w'])


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path):
    wanted = write_checkpoint(*convert(classifier(), 'involution'), tmp_path / 'red.pth')
    victim = tmp_path / 'victim'
    victim.write_text('kept')
    wanted.unlink()
    wanted.symlink_to(victim)
    with pytest.raises(FileExistsError, match=rf'{wanted.name} is a symbolic link, which is not followed; delete it'):
        write_checkpoint(*convert(classifier(), 'involution'), tmp_path / 'red.pth')
    assert victim.read_text() == 'kept'
    assert sorted(os.listdir(tmp_path)) == sorted(['victim', wanted.name])


def test_a_source_that_is_a_link_can_be_converted_beside_itself(tmp_path):
    (tmp_path / 'cache').mkdir()
    torch.save(classifier(), tmp_path / 'cache' / 'blob')
    (tmp_path / 'red.pth').symlink_to(tmp_path / 'cache' / 'blob')
    path = destination(tmp_path / 'red.pth', tmp_path)
    written = write_checkpoint(*convert(tmp_path / 'red.pth', 'involution'), path)
    assert sorted(os.listdir(tmp_path)) == sorted(['cache', 'red.pth', written.name])


def test_destination(tmp_path):
    assert destination('a/rednet50.pt', tmp_path) == tmp_path / 'rednet50.pth'
    assert destination('a/rednet50.pth', tmp_path / 'new.pth') == tmp_path / 'new.pth'
    with pytest.raises(ConversionError, match=r"new\.onnx ends in '\.onnx'; give a file name in \.pth, or a folder"):
        destination('a.pth', tmp_path / 'new.onnx')
    with pytest.raises(ConversionError, match="checkpoints ends in 'no suffix'"):
        destination('a.pth', tmp_path / 'checkpoints')
    with pytest.raises(ConversionError, match='is the checkpoint to convert itself'):
        destination(tmp_path / 'a.pth', f'{tmp_path}/../{tmp_path.name}/a.pth')
    (tmp_path / 'loop.pth').symlink_to(tmp_path / 'loop.pth')
    with pytest.raises(ConversionError, match='is the checkpoint to convert itself'):
        destination(tmp_path / 'loop.pth', tmp_path / 'loop.pth')
    assert destination(tmp_path / 'loop.pth', tmp_path / 'new.pth') == tmp_path / 'new.pth'
    with pytest.raises(FileNotFoundError, match=r'folder .*absent does not exist; make it first'):
        destination('a.pth', tmp_path / 'absent' / 'a.pth')
