"""The benchmark of MXNet files: that its two sides read the same bytes, and that it runs; no times are asserted."""

import importlib
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmcv')

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools' / 'benchmarks')
    monkeypatch.syspath_prepend(ROOT / 'tests' / 'convert')
    return importlib.import_module('mxnet_params')


@pytest.fixture
def path(benchmark, tmp_path):
    import mxnet_writer
    import wider

    torch.manual_seed(0)
    return mxnet_writer.write(tmp_path / 'small.params', wider.classifier(), 0)


def test_a_run(benchmark, path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, 'extra_memory', lambda name, path, folder: 1500000)
    monkeypatch.setattr(
        'sys.argv', ['mxnet_params.py', '--file', str(path), '--runs', '1', '--out', f'{tmp_path}/x.json']
    )
    benchmark.main()
    found = json.loads((tmp_path / 'x.json').read_text())
    assert (found['bytes'], found['arrays'], found['made'], found['runs']) == (path.stat().st_size, 193, False, 1)
    assert found['extra_bytes']['converting'] == 1500000
    for kind, ours, theirs in (('warm', 'reading', 'plain_reading'), ('whole', 'converting', 'plain_copying')):
        sides = found[kind]
        assert sides['ratio'] == sides[ours]['median_ms'] / sides[theirs]['median_ms']
    printed = capsys.readouterr().out
    assert 'extra memory, converting' in printed
    assert sorted(file.name for file in tmp_path.iterdir()) == ['small.params', 'x.json']


def test_the_file_made_is_like_the_published_ones(benchmark, tmp_path):
    from mmext.convert import convert

    path = benchmark.make(tmp_path / 'made.params')
    assert path.stat().st_size == 436873620
    converted, report = convert(path, 'ademxapp')
    path.unlink()
    assert report.architecture['num_classes'] == 1000
    assert converted['backbone.conv1.weight'].shape == (64, 3, 3, 3)
    values = converted['head.fc.weight'].flatten()
    assert torch.equal(values[:1000], values[2**20 : 2**20 + 1000])
    assert 0 < values.std() < 1
