import hashlib
import os
from pathlib import Path

import pytest
import torch

from mmext.cli import main
from mmext.models import RedNet

CONFIG = 'configs/mini/rednet26_mini-in1k.py'


def state_dict(stem_kernel=7):
    """A state dict that fits the model of the mini config."""
    backbone = RedNet(26, stem_kernel=stem_kernel, stem_channels=32, base_channels=32)
    state = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    return {**state, 'head.fc.weight': torch.rand(10, 1024), 'head.fc.bias': torch.rand(10)}


@pytest.fixture
def src(tmp_path):
    path = tmp_path / 'published.pth'
    torch.save(dict(meta=dict(epoch=130), state_dict=state_dict()), path)
    return path


@pytest.fixture
def dst(tmp_path):
    folder = tmp_path / 'checkpoints'
    folder.mkdir()
    return folder


def convert(*args, source='involution'):
    return main(['convert', *map(str, args), '--source', source])


def test_report_and_file(src, dst, capsys):
    assert convert(src, dst / 'red.pth', '--config', CONFIG) == 0
    (name,) = os.listdir(dst)
    assert name == f'red-{hashlib.sha256((dst / name).read_bytes()).hexdigest()[:8]}.pth'
    printed = capsys.readouterr().out
    for line in ('source   involution', 'depth=26, stem_kernel=7', 'mapped   251 of 251 keys', 'missing  none'):
        assert line in printed
    assert printed.rstrip().endswith(f'written  {dst / name}')
    assert convert(src, dst / 'red.pth') == 0
    assert os.listdir(dst) == [name]


def test_into_a_folder(src, dst):
    assert convert(src, dst) == 0
    assert [name.partition('-')[0] for name in os.listdir(dst)] == ['published']


def test_allow_missing(src, dst, capsys):
    state = state_dict()
    del state['head.fc.bias']
    torch.save(state, src)
    assert convert(src, dst) == 1
    assert 'lacks 1 key: head.fc.bias' in capsys.readouterr().err
    assert convert(src, dst, '--allow-missing', '--config', CONFIG) == 0
    assert 'missing  1 key: head.fc.bias' in capsys.readouterr().out


def test_the_config_decides_before_anything_is_written(src, dst, capsys):
    torch.save(state_dict(stem_kernel=3), src)
    assert convert(src, dst, '--config', CONFIG) == 1
    assert '--cfg-options model.backbone.stem_kernel=3' in capsys.readouterr().err
    assert os.listdir(dst) == []
    assert convert(src, dst, '--config', CONFIG, '--cfg-options', 'model.backbone.stem_kernel=3') == 0


def truncated(src):
    src.write_bytes(src.read_bytes()[:5000])


def with_code(src):
    torch.save(dict(state_dict=state_dict(), hook=os.getcwd), src)


def of_a_resnet(src):
    torch.save({'conv1.weight': torch.ones(1), 'layer1.0.conv2.weight': torch.ones(1)}, src)


def with_unknown_keys(src):
    torch.save({**state_dict(), 'head.layers.0.weight': torch.ones(1)}, src)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (truncated, 'it is cut short or no PyTorch file, so download it again'),
        (with_code, 'asks for posix.getcwd, which is code and not data'),
        (of_a_resnet, 'it looks like a ResNet with ordinary convolutions'),
        (with_unknown_keys, 'no place for 1 key: head.layers.0.weight'),
        (os.remove, 'published.pth; download the checkpoint first, or correct the path'),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(src, dst, capsys, spoil, message):
    spoil(src)
    assert convert(src, dst / 'red.pth') == 1
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.startswith('mmext convert: error: ')
    assert message in captured.err
    assert captured.err.count('\n') == 1
    assert os.listdir(dst) == []


@pytest.mark.parametrize(
    ('args', 'source', 'message'),
    [
        (('{dst}',), 'involutoin', "did you mean 'involution'?"),
        (('{dst}/red.onnx',), 'involution', "ends in '.onnx'"),
        (('{src}',), 'involution', 'is the checkpoint to convert itself'),
        (('{dst}/absent/red.pth',), 'involution', 'does not exist; make it first'),
        (('{dst}', '--cfg-options', 'model.backbone.stem_kernel=3'), 'involution', 'add --config CONFIG'),
    ],
)
def test_bad_arguments(src, dst, capsys, args, source, message):
    assert convert(src, *(arg.format(src=src, dst=dst) for arg in args), source=source) == 1
    assert message in capsys.readouterr().err
    assert os.listdir(dst) == []
    assert torch.load(src, weights_only=True)['meta'] == dict(epoch=130)


@pytest.fixture
def params(tmp_path, monkeypatch):
    """An MXNet file of a narrow Wider-ResNet that counts as published."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / 'convert')
    import mxnet_writer
    import wider

    from mmext.convert import ademxapp

    path = mxnet_writer.write(tmp_path / 'ilsvrc-cls_rna-a1_cls1000_ep-0001.params', wider.classifier(), 0)
    monkeypatch.setitem(ademxapp.PUBLISHED_MD5, path.name, hashlib.md5(path.read_bytes()).hexdigest())
    return path


def test_mxnet_file(params, dst, capsys):
    assert convert(params, dst, '--verify', source='ademxapp') == 0
    (name,) = os.listdir(dst)
    assert name.startswith('ilsvrc-cls_rna-a1_cls1000_ep-0001-')
    assert name.endswith('.pth')
    printed = capsys.readouterr().out
    for line in (
        'source   ademxapp',
        'mapped   193 of 193 keys',
        'filled   37 keys: backbone.level2.0.bn1.num_batches',
    ):
        assert line in printed
    assert f'verified {params.name}, by its MD5 sum\nwritten' in printed
    assert len(torch.load(dst / name, weights_only=True)['state_dict']) == 193 + 37


@pytest.mark.parametrize(
    ('kept', 'options', 'source', 'message'),
    [
        (5000, ['--verify'], 'ademxapp', 'is none of the published files: its MD5 sum is'),
        (5000, [], 'ademxapp', 'the file ends too early'),
        (7, [], 'ademxapp', 'the magic number of the list takes 8 bytes and 7 are left'),
        (None, [], 'psa', "is an MXNet .params file, no PyTorch checkpoint; choose the source 'ademxapp'"),
        (None, ['--verify'], 'psa', "source 'psa' has no published MD5 sums to verify a file with; leave --verify out"),
        (None, ['--config', CONFIG], 'ademxapp', 'choose the config of this very network'),
    ],
)
def test_bad_mxnet_files(params, dst, capsys, kept, options, source, message):
    params.write_bytes(params.read_bytes()[:kept])
    assert convert(params, dst, *options, source=source) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count('\n') == 1
    assert os.listdir(dst) == []
