"""Every public way to name a checkpoint, given files that ask for code: nothing runs, and the error is one line."""

import ast
import pickle
from pathlib import Path

import pytest
import torch
from pickling import build, call, name, put, raw, write, write_legacy
from serving import serve
from torch import nn

import mmext
from mmext.cli import main
from mmext.convert import SOURCES, convert, read_checkpoint
from mmext.convert.mxnet_params import read_params
from mmext.convert.published_checkpoint import PublishedCheckpoint
from mmext.models import InflatedDenseNet, InflatedResNet, InflatedResNeXt
from mmext.patterns import load_pattern

MARKER = 'marker'
GETATTR, BUFFER = name('__builtin__', 'getattr'), name('mmengine.logging.history_buffer', 'HistoryBuffer')
TORCH = tuple(int(part) for part in torch.__version__.split('.')[:2])


def hostile_dtype():
    """Return an array whose dtype has a field of objects, which numpy would look for at an address of the file's."""
    state = (3, '<', None, ('a',), {'a': (call(name('numpy', 'dtype'), 'O'), 0)}, 8, 1, 0)
    dtype = build(call(name('numpy', 'dtype'), 'f8', False, True), state)
    core = name('numpy.core.multiarray', '_reconstruct')
    return build(
        call(core, name('numpy', 'ndarray'), (0,), raw(b'b')), (1, (1,), dtype, False, raw(b'\x41\x41\x41\x41' * 2))
    )


def attacks(folder):
    touch = f'touch {folder / MARKER}'
    code = f'open({str(folder / MARKER)!r}, "w")'
    globals_of = call(GETATTR, call(GETATTR, BUFFER, '__init__'), '__globals__')
    walk = call(call(GETATTR, globals_of, 'get'), '__builtins__')
    return {
        'os.system': call(name('os', 'system'), touch),
        'posix.system': call(name('posix', 'system'), touch),
        'eval': call(name('__builtin__', 'eval'), code),
        'exec': call(name('builtins', 'exec'), code),
        'subprocess': call(name('subprocess', 'check_output'), ['touch', str(folder / MARKER)]),
        'getattr walk': call(call(GETATTR, walk, 'get'), 'eval') + put((code,)) + b'R',
        'hostile dtype': hostile_dtype(),
    }


def files(folder):
    """Write every attack in both formats, beside the weights and in their place."""
    for index, value in enumerate(attacks(folder).values()):
        yield write(folder / f'beside{index}.pth', {'state_dict': {}, 'meta': value})
        yield write(folder / f'within{index}.pth', {'state_dict': {'conv1.weight': value}})
        yield write_legacy(folder / f'legacy{index}.pth', {'state_dict': {}, 'meta': value}, keys=(), storages=())
    for index, value in enumerate(attacks(folder).values()):
        (folder / f'bare{index}.pth').write_bytes(b'\x80\x02' + value + b'.')
        yield folder / f'bare{index}.pth'


def initialised(model):
    model.init_weights()


ENTRIES = {
    'read_checkpoint': read_checkpoint,
    **{f'convert from {source}': lambda path, source=source: convert(path, source) for source in SOURCES},
    'convert, parts missing': lambda path: convert(path, 'involution', allow_missing=True),
    **{
        f'PublishedCheckpoint of {source}': lambda path, source=source: PublishedCheckpoint(source, path)(
            nn.Linear(1, 1)
        )
        for source in SOURCES
    },
    'init_cfg': lambda path: initialised(
        mmext.registry.MODELS.build(
            dict(
                type='mmext.RedNet',
                depth=26,
                init_cfg=dict(type='mmext.PublishedCheckpoint', source='involution', checkpoint=path),
            )
        )
    ),
    'read_params': read_params,
    'load_pattern': load_pattern,
}
BACKBONES = {
    'InflatedResNet': lambda path: initialised(InflatedResNet(18, base_channels=8, pretrained=path)),
    'InflatedResNet of 3D weights': lambda path: initialised(
        InflatedResNet(18, base_channels=8, pretrained=path, pretrained2d=False)
    ),
    'InflatedResNeXt': lambda path: initialised(InflatedResNeXt(50, pretrained=path)),
    'InflatedDenseNet': lambda path: initialised(InflatedDenseNet(121, pretrained=path)),
}


def check(folder, entry, path):
    with pytest.raises((ValueError, OSError)) as info:
        entry(path)
    assert not (folder / MARKER).exists(), path
    assert '\n' not in str(info.value), path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path / 'torch' / 'hub' / 'checkpoints'


@pytest.mark.parametrize('entry', ENTRIES)
def test_files(tmp_path, entry):
    for path in files(tmp_path):
        check(tmp_path, ENTRIES[entry], str(path))


@pytest.mark.parametrize('entry', [*ENTRIES, *BACKBONES])
def test_addresses(tmp_path, cache, entry):
    names = [path.name for path in files(tmp_path) if path.name.startswith(('beside', 'legacy'))]
    chosen = names if entry in ENTRIES and entry != 'init_cfg' else names[::3]
    with serve(tmp_path) as (address, asked):
        for each in chosen:
            check(tmp_path, {**ENTRIES, **BACKBONES}[entry], f'{address}/{each}')
    if entry != 'load_pattern':  # it keeps files under other names
        assert asked == [f'/{each}' for each in chosen]
        assert sorted(path.name for path in cache.iterdir()) == sorted(chosen)


@pytest.mark.parametrize('entry', BACKBONES)
def test_files_as_pretrained_backbones(tmp_path, entry):
    for path in list(files(tmp_path))[::2]:
        check(tmp_path, BACKBONES[entry], str(path))


def test_files_as_pretrained_heads(tmp_path, cache):
    pytest.importorskip('mmaction')
    from mmext.video import InflatedConvHead, InflatedLinearHead

    heads = (
        lambda path: initialised(InflatedConvHead(2, 4, pretrained=path)),
        lambda path: initialised(InflatedLinearHead(2, 4, 1, pretrained=path)),
    )
    with serve(tmp_path) as (address, _):
        for path in files(tmp_path):
            for head in heads:
                # a file without weights is no error of the reader, as the head says what it looks for
                check(tmp_path, head, str(path))
                check(tmp_path, head, f'{address}/{path.name}')


def test_files_as_checkpoints_of_models(tmp_path, monkeypatch):
    pytest.importorskip('mmpretrain')
    from mmext import zoo

    model = mmext.get_model('rednet26_64xb32-130e_in1k')
    monkeypatch.setattr(zoo.MODELS, 'build', lambda cfg: model)  # it takes seconds
    for index, path in enumerate([*files(tmp_path)][::5]):  # building a config takes most of the time
        for source in (None, [*SOURCES][index % len(SOURCES)])[: 1 + index % 2]:
            check(
                tmp_path, lambda path, source=source: mmext.get_model('rednet26_64xb32-130e_in1k', path, source), path
            )


def test_files_given_to_commands(tmp_path, capsys):
    pytest.importorskip('torchvision')
    (tmp_path / 'out').mkdir()
    for index, path in enumerate(files(tmp_path)):
        source = [*SOURCES][index % len(SOURCES)]
        commands = [
            ['convert', str(path), str(tmp_path / 'out'), '--source', source],
            ['convert', str(path), str(tmp_path / 'out' / 'a.pth'), '--source', source, '--allow-missing'],
            ['pattern', 'show', str(path)],
        ]
        if index % 4 == 0:
            commands.append(['inflate-check', 'resnet18', '--checkpoint', str(path), '--frames', '1', '--size', '32'])
        for command in commands:
            assert main(command) == 1, command
            printed = capsys.readouterr()
            assert len(printed.err.strip().splitlines()) == 1, (command, printed.err)
            assert printed.out == ''
            assert not (tmp_path / MARKER).exists()
    assert not any((tmp_path / 'out').iterdir())


@pytest.mark.skipif(TORCH < (2, 6), reason='torch.load accepts everything by default before torch 2.6')
def test_torch_load_itself(tmp_path):
    """Importing mmext makes none of these loadable."""
    for path in files(tmp_path):
        for options in (dict(weights_only=True), {}):
            with pytest.raises((pickle.UnpicklingError, RuntimeError)):
                torch.load(path, **options)
            assert not (tmp_path / MARKER).exists()


def test_the_attacks_are_real(tmp_path):
    """Unpickled without any care, the code runs: the marker shows what the tests above look for."""
    for attack in ('os.system', 'eval', 'exec', 'subprocess'):
        pickle.loads(b'\x80\x02' + attacks(tmp_path)[attack] + b'.')
        assert (tmp_path / MARKER).exists(), attack
        (tmp_path / MARKER).unlink()


def test_no_other_reader_of_pickles():
    """A path that reads a pickle by itself would not go through the one reader."""
    package = Path(mmext.__file__).parent
    modules = {
        'torch',
        'np',
        'numpy',
        'pickle',
        'dill',
        'joblib',
        'marshal',
        'shelve',
        'yaml',
        'CheckpointLoader',
        'runner',
    }
    names = {'load', 'loads', 'load_url', 'load_checkpoint', 'load_state_dict_from_url', 'Unpickler', 'open'}
    found = set()
    for path in package.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ''
            if called.partition('.')[0] in modules and called.rpartition('.')[2] in names:
                found.add(f'{path.relative_to(package).as_posix()}: {called}')
    # the operators' compiled code, which is the user's own and whose digest is checked before
    assert found == {'convert/reading.py: torch.load', 'ops/compiled/cache.py: pickle.loads'}
