import itertools
import json
import os
import urllib.error

import pytest
import torch

from mmext.patterns import PUBLISHED, Pattern, PatternError, load_pattern, save_pattern
from mmext.patterns.files import describe, download_path

PATTERN = Pattern([[(1, 1, 40), (1, 2, 24)], [(2, 1, 64), (1, 1, 64)]])
PUBLISHED_FORM = [{'(0, 0)': 40, '(0, 1)': 24, '(3, 3)': 0}, {'(1,0)': 64, ' (0, 0) ': 64}]
URL = 'https://example.org/pattern_zoo/detection/ic_r50_k9.json'


def write(tmp_path, content, name='pattern.json'):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    'content',
    [
        PUBLISHED_FORM,
        dict(zip(('layer1.0.conv2', 'layer2.0.conv2'), PUBLISHED_FORM)),
        dict(about='mine', layers=[list(map(list, layer)) for layer in PATTERN]),
        [list(map(list, layer)) for layer in PATTERN],
    ],
    ids=['published list', 'published object', 'ours', 'bare lists'],
)
def test_formats(content, tmp_path):
    path = write(tmp_path, content)
    assert load_pattern(path) == load_pattern(str(path)) == load_pattern(content) == PATTERN
    assert describe(path) == ('mine' if 'about' in content else '')


def test_a_pattern_is_its_own_source():
    assert load_pattern(PATTERN) is PATTERN


def test_round_trip(tmp_path):
    path = tmp_path / 'pattern.json'
    assert save_pattern(PATTERN, path, 'two layers') == path
    assert load_pattern(path) == PATTERN
    assert describe(path) == 'two layers'
    save_pattern(load_pattern('pose_r101_k13'), path)
    assert load_pattern(path) == load_pattern('pose_r101_k13')
    assert os.listdir(tmp_path) == ['pattern.json']


def test_shipped_files_are_as_we_save_them(tmp_path):
    for name in PUBLISHED:
        saved = save_pattern(load_pattern(name), tmp_path / name, describe(name)).read_text()
        assert saved.endswith('\n')
        assert json.loads(saved)['layers'] == [list(map(list, layer)) for layer in load_pattern(name)]


def test_nothing_is_left_of_a_save_that_fails(tmp_path, monkeypatch):
    path = write(tmp_path, 'kept')
    with pytest.raises(PatternError, match=r'layer 0 has the run \(1, 1, -1\)'):
        save_pattern([[[1, 1, -1]]], path)
    monkeypatch.setattr('os.replace', lambda *args: (_ for _ in ()).throw(OSError('full')))
    with pytest.raises(OSError, match='full'):
        save_pattern(PATTERN, path)
    assert os.listdir(tmp_path) == ['pattern.json']
    assert path.read_text() == 'kept'
    with pytest.raises(FileNotFoundError, match='does not exist; make it first'):
        save_pattern(PATTERN, tmp_path / 'new' / 'pattern.json')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[{"(0, 0)": 4}', r'pattern.json is not JSON \(Expecting'),
        ('<html>', 'is not JSON'),
        ('7', 'is a int; a list of layers is needed'),
        ('[]', 'pattern.json: the pattern has no layer'),
        ('{}', 'pattern.json has no layer'),
        ('{"(0, 0)": 4}', r'is one layer; give a list of layers, \[\{"\(0, 0\)": n'),
        ('[{"(0, 0)": 4}, {"(0, 0)": 4, "(1)": 2}]', r'layer 1 has the unknown key .\(1\).; "\(i, j\)" is needed'),
        ('[{"(0, 0)": 4}, {"dilation": 4}]', "layer 1 has the unknown key 'dilation'"),
        ('[{"(0, 0)": 4, "(0, -1)": 2}]', 'layer 0 has the unknown key'),
        ('[{"(0, 0)": 4, "(0, 1)": -2}]', r'layer 0 has the run \(1, 2, -2\): -2 channels'),
        ('[{"(0, 0)": 4, "(0, 1)": "2"}]', r"layer 0 has the run \(1, 2, '2'\); three integers"),
        ('[{"(0, 0)": 4, "(0, 0)": 2}]', r"has the key '\(0, 0\)' twice in one object"),
        ('[{"(0, 0)": 4}, {"(0, 0)": 0}]', 'layer 1 has no channels'),
        ('{"layers": 3}', 'is a int; a list of layers is needed'),
        ('{"pattern": 3}', "has the unknown key 'pattern'; the published format has an object"),
        ('[[[1, 1, 4]], [[1, 1]]]', r'pattern.json: layer 1 has the run \[1, 1\]'),
        ('[[[256, 257, 4]]]', r'layer 0 has the run \(256, 257, 4\): dilations are in pixels and at most 256'),
        ('[{"(0, 256)": 4}]', r'layer 0 has the run \(1, 257, 4\): dilations are in pixels and at most 256'),
        ('[{"(0, ' + '9' * 5000 + ')": 4}]', 'layer 0 has the unknown key'),
        ('[[[1, 1, 1048576], [1, 2, 1]]]', 'layer 0 has more than 1048576 channels'),
        ('[' + ','.join(['[[1,1,1]]'] * 4097) + ']', 'the pattern has more than 4096 layers'),
        ('[' * 100_000 + ']' * 100_000, 'has lists within lists hundreds deep'),
        ('[[[1, 1, ' + '9' * 5000 + ']]]', 'has a number of 5000 digits; 18 are accepted'),
        ('[[[1, 1, NaN]]]', r'layer 0 has the run \[1, 1, nan\]; three integers'),
        ('[[[1, 1, 1e400]]]', r'layer 0 has the run \[1, 1, inf\]; three integers'),
        ('[[[1, 1, 4.0]]]', r'layer 0 has the run \[1, 1, 4.0\]; three integers'),
        ('', 'is not JSON'),
        (' ' * 2**20 + '[]', 'has more than 1048576 bytes'),
    ],
)
def test_illegal_files(content, message, tmp_path):
    with pytest.raises(PatternError, match=message):
        load_pattern(write(tmp_path, content))


def test_the_bounds_themselves_are_legal(tmp_path):
    layers = [[[256, 1, 2**20]]] * 4096
    path = write(tmp_path, json.dumps(layers, separators=(',', ':')))
    assert load_pattern(path) == Pattern(layers)


def test_many_different_keys_are_read_in_time(tmp_path):
    keys = ','.join(f'"k{index}":0' for index in range(90_000))  # quadratic work would take minutes
    with pytest.raises(PatternError, match="layer 0 has the unknown key 'k0'"):
        load_pattern(write(tmp_path, f'[{{{keys}}}]'))


def test_endless_python_data():
    with pytest.raises(PatternError, match='more than 4096 layers'):
        load_pattern(itertools.repeat([(1, 1, 4)]))


@pytest.mark.parametrize('content', [b'\xff\xfe[', b'\xef\xbb\xbf[[[1, 1, 4]]]'])
def test_text_of_another_encoding(content, tmp_path):
    path = tmp_path / 'pattern.json'
    path.write_bytes(content)
    with pytest.raises(PatternError, match=r'pattern\.json is not JSON'):
        load_pattern(path)


def test_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError, match='is a folder; give a JSON file in it'):
        load_pattern(tmp_path)


def test_unknown_names():
    with pytest.raises(
        PatternError, match="there is no published pattern 'detection_r50': did you mean 'detection_r50_k9'"
    ):
        load_pattern('detection_r50')
    with pytest.raises(FileNotFoundError, match=r'there is no file patterns/mine.json; .* one of detection_r50_k9'):
        load_pattern('patterns/mine.json')


def test_urls_are_downloaded_once(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    asked = []

    def fetch(url, most_bytes):
        asked.append(url)
        return json.dumps(PUBLISHED_FORM).encode()

    monkeypatch.setattr('mmext.patterns.files.fetch', fetch)
    assert load_pattern(URL) == load_pattern(URL) == PATTERN
    assert asked == [URL]
    assert download_path(URL).parent == tmp_path / 'hub' / 'checkpoints'
    # the original project has files of one name for each task
    assert load_pattern(URL.replace('detection', 'segmentation')) == PATTERN
    assert len(asked) == 2


def test_what_is_no_pattern_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr('mmext.patterns.files.fetch', lambda url, most_bytes: b'<html>')
    with pytest.raises(PatternError, match=r'ic_r50_k9\.json is not JSON'):
        load_pattern(URL)
    assert not download_path(URL).exists()


def test_a_long_url_has_a_file_name(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr('mmext.patterns.files.fetch', lambda url, most_bytes: json.dumps(PUBLISHED_FORM).encode())
    assert load_pattern(f'HTTPS://example.org/{"a" * 3000}.{"b" * 3000}') == PATTERN


@pytest.mark.parametrize('error', [urllib.error.URLError('no route'), TimeoutError('no route')])
def test_a_url_that_cannot_be_reached(error, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr('mmext.patterns.files.fetch', lambda *a, **k: (_ for _ in ()).throw(error))
    with pytest.raises(OSError, match=r'cannot be downloaded .*no route') as caught:
        load_pattern(URL)
    path = download_path(URL)
    assert f'get the file in another way and put it at {path}' in str(caught.value)
    save_pattern(PATTERN, path)
    assert load_pattern(URL) == PATTERN
