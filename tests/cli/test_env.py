"""What ``mmext env`` prints."""

import threading

import pytest
import torch

from mmext.cli import env, main
from mmext.ops import compiled
from mmext.ops.inception_conv import backends as inception_conv_backends
from mmext.ops.inception_conv import functional
from mmext.ops.involution import backends


def lines(capsys):
    out, err = capsys.readouterr()
    return out.splitlines(), err.strip()


def test_backends_and_reasons(capsys, monkeypatch):
    monkeypatch.delenv(backends.ENV_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.delenv(functional.ENV_VARIABLE, raising=False)
    monkeypatch.setattr(backends, '_numba_problem', lambda: 'numba cannot be imported')
    monkeypatch.setattr(inception_conv_backends, '_compiler_problem', lambda: 'numba cannot be imported')
    assert main(['env']) == 0
    out, _ = lines(capsys)
    assert out[1].startswith(f'torch {torch.__version__}, {torch.get_num_threads()} CPU threads, no GPU')
    assert any(line.startswith('mmengine 0.10') for line in out)
    first, second = out.index(''), len(out) - 1 - out[::-1].index('')
    assert [line.split(maxsplit=2) for line in out[first + 1 : second - 1]] == [
        ['involution', 'runs', 'here'],
        ['cuda', 'no', 'PyTorch finds no GPU'],
        ['cpu', 'no', 'numba cannot be imported'],
        ['reference', 'yes'],
    ]
    chosen = 'is not set): reference for tensors on cpu'
    assert out[second - 1] == f'automatic choice (MMEXT_INVOLUTION_BACKEND {chosen}'
    assert [line.split(maxsplit=3) for line in out[second + 1 : -1]] == [
        ['inception', 'convolution', 'runs', 'here'],
        ['cpu', 'no', 'numba', 'cannot be imported'],
        ['reference', 'yes'],
    ]
    assert out[-1] == f'automatic choice (MMEXT_INCEPTION_CONV_BACKEND {chosen}'


def test_settings_are_shown(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setenv(backends.ENV_VARIABLE, 'reference')
    monkeypatch.setenv(functional.ENV_VARIABLE, 'reference')
    assert main(['env']) == 0
    out = lines(capsys)[0]
    assert 'MMEXT_INVOLUTION_BACKEND=reference: reference for tensors on cpu' in out
    assert out[-1] == 'MMEXT_INCEPTION_CONV_BACKEND=reference'


@pytest.mark.parametrize(
    ('variable', 'setting', 'message'),
    [
        (
            backends.ENV_VARIABLE,
            'gpu',
            'MMEXT_INVOLUTION_BACKEND=gpu is unknown; choose one of cuda, cpu, reference, or leave it out',
        ),
        (
            functional.ENV_VARIABLE,
            'gpu',
            'MMEXT_INCEPTION_CONV_BACKEND=gpu is unknown; choose one of cpu, reference, or leave it out',
        ),
        (
            backends.ENV_VARIABLE,
            'cuda',
            'MMEXT_INVOLUTION_BACKEND=cuda cannot run here: x is on cpu, not on a CUDA device; leave it out for the '
            'automatic choice',
        ),
    ],
)
def test_setting_that_does_not_run(variable, setting, message, capsys, monkeypatch):
    monkeypatch.setenv(variable, setting)
    assert main(['env']) == 1
    assert lines(capsys)[1] == f'mmext env: error: {message}'


def test_no_toolbox_is_imported(monkeypatch):
    monkeypatch.setattr(env.metadata, 'version', lambda name: '1.0')
    assert env._version('mmdet') == '1.0'
    monkeypatch.setattr(env.importlib.util, 'find_spec', lambda name: None)
    assert env._version('mmcv') == '1.0 (without operators)'


def test_where_compiled_code_is_kept(capsys, monkeypatch, tmp_path):
    storage = pytest.importorskip('mmext.ops.compiled.storage', exc_type=ImportError)
    monkeypatch.delenv('NUMBA_CACHE_DIR', raising=False)
    monkeypatch.setattr(storage, 'folders', lambda: ['/proc/mmext', str(tmp_path / 'kept')])
    assert main(['env']) == 0
    assert f'compiled code of the CPU operators is kept in {tmp_path / "kept"} (can be written)' in lines(capsys)[0]
    monkeypatch.setenv('NUMBA_CACHE_DIR', '/proc/mmext')
    assert main(['env']) == 0
    assert f'is kept in {tmp_path / "kept"} (NUMBA_CACHE_DIR=/proc/mmext cannot be written)' in '\n'.join(
        lines(capsys)[0]
    )
    monkeypatch.setattr(storage, 'folders', lambda: ['/proc/mmext', '/proc/other'])
    message = 'compiled code of the CPU operators is not kept: cannot write to /proc/mmext, /proc/other'
    assert main(['env']) == 0
    assert message in lines(capsys)[0]
    assert main(['env', '--compile']) == 1
    out, err = lines(capsys)
    assert message in out
    assert err.endswith('compiled code cannot be kept; set NUMBA_CACHE_DIR to a folder that can be written')


def test_every_kernel_is_compiled_ahead(capsys, monkeypatch):
    pytest.importorskip('numba')
    from mmext.ops.compiled import cache, threads
    from mmext.ops.inception_conv import filters, kernels
    from mmext.ops.involution.cpu import pixels, rows

    monkeypatch.setattr(threads, '_functions', {})
    monkeypatch.setattr(cache, '_said', threading.Event())
    assert main(['env', '--compile']) == 0
    out, err = lines(capsys)
    assert err == ''
    assert [line.split(':')[0] for line in out[-4:]] == [
        'compiling involution ...',
        'involution',
        'compiling inception convolution ...',
        'inception convolution',
    ]
    expected = {
        *(getattr(rows, f'_{name}{bits}') for name in ('forward', 'grad_x', 'grad_weight') for bits in (32, 64)),
        *(pixels._forward32, pixels._forward64),
        *(getattr(kernels, name) for name in kernels.__all__),
        *(getattr(filters, name) for name in filters.__all__),
    }
    assert set(threads._functions) == expected
    assert len(expected) == 14


def test_nothing_can_be_compiled_ahead_without_numba(capsys, monkeypatch):
    monkeypatch.setattr(compiled, 'why_not_numba', lambda: 'numba cannot be imported')
    assert main(['env']) == 0
    assert not any('compiled code' in line for line in lines(capsys)[0])
    assert main(['env', '--compile']) == 1
    assert lines(capsys)[1] == 'mmext env: error: nothing can be compiled: numba cannot be imported'
