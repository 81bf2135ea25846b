"""Every command with odd files and arguments: one line of error and status 1, nothing written, no traceback."""

import json
import os
import re
import struct
import zlib

import pytest
import torch
from torchvision.models import squeezenet1_1

from mmext.cli import main
from mmext.cli.table import printable
from mmext.patterns import load_pattern

ROW = 'rednet26_64xb32-130e_in1k'
CONVERT = ('convert', 'good.pth', 'out', '--source', 'involution')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with files of every kind."""
    monkeypatch.chdir(tmp_path)
    os.mkdir('out')
    os.mkdir('folder.pth')
    os.mkfifo('fifo')
    os.symlink('loop', 'loop')
    with open('victim', 'w') as file:
        file.write('kept')
    for suffix in ('pth', 'json', 'png', 'py'):
        os.symlink('victim', f'link.{suffix}')
        os.symlink('absent', f'dangling.{suffix}')
    texts = {
        'empty': '',
        'text': 'no such file',
        'deep.json': '[' * 100_000 + ']' * 100_000,
        'wide.json': '[[[100000, 1, 4]]]',
        'twice.json': '[{"(0, 0)": 1, "(0, 0)": 2}]',
        'nan.json': '[[[1, 1, NaN]]]',
        'digits.json': f'[[[1, 1, {"9" * 5000}]]]',
        'floats.json': '[[[1.0, 1, 4]]]',
        'esc.json': '{"\\u001b[31m\\n": 3}',
        'good.json': '[[[1, 1, 4]]]',
        'many.json': json.dumps([[[64, 64, 4]]] * 100),
        'syntax.py': 'model = dict(',
        'raises.py': 'model = dict(type=1 / 0)\n',
        'nomodel.py': 'lr = 1\n',
        'unbuildable.py': "default_scope = 'mmpretrain'\nmodel = dict(type='ImageClassifier', backbone=5)\n",
        'unknown.py': "default_scope = 'mmpretrain'\nmodel = dict(type='NoSuchModel')\n",
        'import.py': "custom_imports = dict(imports=['no_such_module'], allow_failed_imports=False)\nmodel = dict()\n",
        'deep.py': f'model = {"-" * 100_000}1\n',
        'base.py': "_base_ = 'base.py'\nmodel = dict()\n",
        'cfg.json': '[' * 100_000,
        'cfg.yaml': 'a: [',
    }
    for name, text in texts.items():
        with open(name, 'w') as file:
            file.write(text)
    for name, data in {'bytes': b'\xff\xfe\x00', 'bytes.py': b'model = "\xff"', 'nul.py': b'model = 1\0'}.items():
        with open(name, 'wb') as file:
            file.write(data)
    with open('bomb.png', 'wb') as file:
        file.write(bomb())
    zeros = {key: torch.zeros_like(value) for key, value in squeezenet1_1().state_dict().items()}
    torch.save(zeros, 'zero.pth')
    torch.save({**zeros, 'classifier.1.bias': torch.full((1000,), float('nan'))}, 'nan.pth')
    torch.save({**zeros, 'classifier.1.bias': torch.zeros(1000, dtype=torch.complex64)}, 'complex.pth')
    torch.save({f'{"k" * 10_000}\n\x1b[31m': torch.ones(1)}, 'keys.pth')
    return tmp_path


def bomb():
    """A PNG file that claims 400 million pixels."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', 20_000, 20_000, 8, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(bytes(9))) + chunk(b'IEND', b'')


CHECK = ('inflate-check', 'squeezenet1_1', '--frames', '2', '--size', '64')
SOURCE = ('--source', 'involution')
TABLE = [
    (('convert', 'loop', 'out', *SOURCE), 'loop'),
    (('convert', 'loop', 'loop', *SOURCE), 'loop'),
    (('convert', 'victim', 'dangling.pth/x.pth', *SOURCE), 'does not exist'),
    (('convert', 'empty', 'out', *SOURCE), 'is empty'),
    (('convert', 'empty', 'out', '--source', 'ademxapp'), 'is empty'),
    (('convert', 'text', 'out', *SOURCE), 'cannot be read as a checkpoint'),
    (('convert', 'text', 'out', '--source', 'ademxapp'), 'this is no MXNet .params file'),
    (('convert', 'bytes', 'out', '--source', 'ademxapp'), 'the file ends too early'),
    (('convert', 'folder.pth', 'out', *SOURCE), 'is a folder'),
    (('convert', 'fifo', 'out', *SOURCE), 'fifo'),
    (('convert', '/dev/zero', 'out', *SOURCE), '/dev/zero'),
    (('convert', 'n' * 300, 'out', *SOURCE), 'File name too long'),
    (('convert', 'keys.pth', 'out', *SOURCE), 'keys.pth holds no tensors under 1 key: .kkk'),
    (('convert', 'zero.pth', 'out', *SOURCE), 'no checkpoint of the involution project'),
    (('convert', 'zero.pth', 'out', '--source', 'ic-conv'), 'no checkpoint of the inception convolution project'),
    (('convert', 'zero.pth', 'out', '--source', 'psa'), 'no checkpoint of the psa project'),
    (('convert', 'zero.pth', 'out', '--source', ''), "source='' is unknown"),
    (('convert', 'zero.pth', 'absent/x.pth', *SOURCE), 'does not exist; make it first'),
    (('convert', 'zero.pth', 'zero.pth', *SOURCE), 'is the checkpoint to convert itself'),
    (('models', '--copy', ROW, 'absent/x.py'), 'does not exist; make it first'),
    (('models', '--copy', ROW, 'link.py'), 'exists and is left as it is'),
    (('models', '--copy', ROW, 'dangling.py'), 'exists and is left as it is'),
    (('models', '--copy', ROW, 'fifo'), 'no .py file'),
    (('models', '--copy', ROW, '/dev/null'), 'no .py file'),
    (('models', '--copy', '../x', 'out'), 'no model'),
    (('models', '--path', '\x1b[31m\n'), r'no model'),
    (('models', '[' * 1000), 'no row matches'),
    *(
        (('pattern', 'show', name), message)
        for name, message in {
            'deep.json': 'lists within lists',
            'wide.json': 'at most 256',
            'twice.json': 'twice in one object',
            'nan.json': 'three integers',
            'digits.json': 'a number of 5000 digits',
            'floats.json': 'three integers',
            'esc.json': 'unknown key',
            'empty': 'there is no published pattern|is not JSON',
            'bytes': 'is not JSON',
            'out': 'is a folder',
            'loop': 'there is no published pattern',
            './loop': 'there is no file|there is no published pattern',
            'fifo': 'there is no published pattern',
            'absent.json': 'there is no file',
            'n' * 300: 'File name too long',
            'http://[': 'URL',
            'http://127.0.0.1:9/p.json': 'cannot be downloaded',
        }.items()
    ),
    (('pattern', 'show', 'wide.json', '--out', 'p.png'), 'at most 256'),
    (('pattern', 'show', 'many.json', '--out', 'p.png'), '409600 squares'),
    (('pattern', 'show', 'good.json', '--out', 'absent/p.png'), 'does not exist; make it first'),
    (('pattern', 'show', 'good.json', '--out', 'link.png'), 'is a symbolic link, which is not followed'),
    (('pattern', 'show', 'good.json', '--out', 'dangling.png'), 'is a symbolic link, which is not followed'),
    (('pattern', 'show', 'good.json', '--out', 'fifo'), 'has no suffix'),
    (('pattern', 'show', 'good.json', '--out', 'p.xyz'), "Format 'xyz' is not supported"),
    (('pattern', 'make', 'uniform', '64', '--out', 'link.json'), 'exists and is left as it is'),
    (('pattern', 'make', 'uniform', '64', '--out', 'dangling.json'), 'exists and is left as it is'),
    (('pattern', 'make', 'uniform', '64', '--out', 'absent/x.json'), 'does not exist; make it first'),
    (('pattern', 'make', 'uniform', '64', '--out', 'fifo'), 'exists and is left as it is'),
    (('pattern', 'make', 'uniform', '64', '--max-dilation', '100000', '--out', 'x.json'), 'at most 256'),
    (('pattern', 'make', 'uniform', '999999999', '--out', 'x.json'), 'at most 1048576'),
    (('pattern', 'make', 'uniform', '64', '--undilated', 'nan', '--out', 'x.json'), 'a share from 0 to 1'),
    (('pattern', 'make', 'uniform', '64x4096', '64', '--out', 'x.json'), 'more than 4096 layers'),
    *(
        (('complexity', name), message)
        for name, message in {
            'syntax.py': 'cannot be loaded as a config',
            'raises.py': r'cannot be loaded as a config \(ZeroDivisionError: division by zero\)',
            'bytes.py': 'cannot be loaded as a config',
            'nul.py': 'cannot be loaded as a config',
            'deep.py': 'cannot be loaded as a config',
            'base.py': 'cannot be loaded as a config',
            'cfg.json': 'cannot be loaded as a config',
            'cfg.yaml': 'cannot be loaded as a config',
            'text': r'Only py/yml/yaml/json type are supported',
            'nomodel.py': 'has no `model`',
            'unbuildable.py': 'the model of .*unbuildable.py cannot be built',
            'unknown.py': 'the model of .*unknown.py cannot be built',
            'import.py': 'no_such_module',
            'folder.pth': 'there is no config',
            'fifo': 'no model',
            'loop': 'no model',
        }.items()
    ),
    (('complexity', ROW, '--shape', '1000000000', '1000000000'), 'up to 65536 pixels'),
    (('complexity', ROW, '--shape', '-1', '5'), 'integers of at least 1'),
    ((*CHECK, '--image', 'bomb.png'), 'more than 89,478,485 pixels'),
    ((*CHECK, '--image', 'text'), 'cannot be read as a picture'),
    ((*CHECK, '--image', 'empty'), 'cannot be read as a picture'),
    ((*CHECK, '--image', 'loop'), 'there is no image'),
    ((*CHECK, '--image', 'fifo'), 'there is no image'),
    ((*CHECK, '--image', 'out'), 'there is no image'),
    ((*CHECK, '--checkpoint', 'zero.pth'), 'the largest score of the 2D network is 0'),
    ((*CHECK, '--checkpoint', 'nan.pth'), 'NaN or infinite values under 1 key: classifier.1.bias'),
    ((*CHECK, '--checkpoint', 'complex.pth'), 'complex64'),
    ((*CHECK, '--checkpoint', 'keys.pth'), 'keys.pth holds no tensors under 1 key: .kkk'),
    ((*CHECK, '--checkpoint', 'loop'), 'loop'),
    ((*CHECK[:2], '--size', '1000000'), 'more than the 67,108,864 that a clip may have'),
    ((*CHECK[:2], '--frames', '1000000000'), 'more than the 67,108,864 that a clip may have'),
    ((*CHECK[:2], '--size', '2'), r'does not run on an image of 2 x 2 pixels: .*; try a larger --size'),
    (('inflate-check', 'syntax.py'), 'cannot be loaded as a config'),
    (('inflate-check', 'nomodel.py'), 'has no `model`'),
    (('inflate-check', 'unbuildable.py'), 'cannot be built'),
    (('inflate-check', 'n' * 300 + '.py'), 'File name too long'),
]


def names_in(folder):
    return sorted(os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)


@pytest.mark.parametrize(('args', 'message'), TABLE, ids=[' '.join(args)[:60] for args, _ in TABLE])
def test_one_line_of_error(args, message, folder, capsys, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(folder / 'hub'))
    before = names_in(folder)
    assert main(list(args)) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not re.match(r'[\d/]+ [\d:]+ - mmengine', line)]
    assert len(lines) == 1
    assert lines[0].startswith(f'mmext {args[0]}: error: ')
    assert re.search(message, lines[0])
    assert len(lines[0]) < 3000
    assert lines[0].isprintable()
    assert captured.out == ''
    assert [name for name in names_in(folder) if '__pycache__' not in name] == before
    assert (folder / 'victim').read_text() == 'kept'


@pytest.mark.parametrize(
    'args',
    [
        (*CONVERT, '--cfg-options', 'foo', '--config', 'nomodel.py'),
        ('pattern', 'make', 'uniform', '64x99999999', '--out', 'x.json'),
        ('pattern', 'make', 'uniform', '9' * 5000, '--out', 'x.json'),
        ('inflate-check', 'resnet18', '--size', '9' * 5000),
        ('complexity', ROW, '--shape', '1e3', '5'),
    ],
)
def test_mistakes_in_the_arguments(args, folder, capsys):
    with pytest.raises(SystemExit) as caught:
        main(list(args))
    assert caught.value.code == 2
    assert 'error: ' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--config', 'syntax.py'), 'cannot be loaded as a config'),
        (('--config', 'nomodel.py'), 'has no model'),
        (('--config', 'unbuildable.py'), 'the model of .*unbuildable.py cannot be built'),
        (('--config', 'nomodel.py', '--cfg-options', 'lr.x.y=3'), 'do not fit the config'),
        (('--config', 'absent.py'), 'absent.py'),
    ],
)
def test_configs_to_compare_with(options, message, folder, capsys, monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), os.pardir, 'convert'))
    from narrow import classifier

    torch.save(classifier(), 'good.pth')
    assert main([*CONVERT, *options]) == 1
    err = capsys.readouterr().err
    assert re.search(message, err.splitlines()[-1])
    assert 'Traceback' not in err
    assert os.listdir('out') == []


def test_a_pattern_whose_name_is_mathematics_to_matplotlib(folder):
    os.rename('good.json', '$x_$y^.json')
    assert main(['pattern', 'show', '$x_$y^.json', '--out', 'p.png']) == 0
    assert os.path.getsize('p.png') > 1000


def test_a_large_dilation_can_be_drawn(folder):
    with open('large.json', 'w') as file:
        file.write('[[[90, 1, 4], [1, 80, 3]], [[1, 1, 3]]]')
    assert load_pattern('large.json').max_dilation == 90
    assert main(['pattern', 'show', 'large.json', '--out', 'p.png']) == 0
    from PIL import Image

    with Image.open('p.png') as picture:
        assert max(picture.size) <= 8000


def test_printable():
    assert printable('a\n  b\n\nc') == 'a b c'
    assert printable('\x1b[31m\udcff\u202eé') == '\\x1b[31m\\udcff\\u202eé'
