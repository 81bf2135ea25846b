import re

import pytest
from PIL import Image

from mmext.cli import main
from mmext.patterns import PUBLISHED, load_pattern, make_pattern
from mmext.patterns.files import describe


def test_list(capsys):
    assert main(['pattern', 'list']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ['name', *PUBLISHED]
    assert re.split(' {2,}', lines[1]) == [
        'detection_r50_k9',
        '16',
        '238',
        '4',
        '44%',
        'IC-ResNet-50 for object detection, searched within 9x9 pixels',
    ]


def test_show(capsys):
    assert main(['pattern', 'show', 'detection_r50_k9']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 16
    assert lines[1].split() == [
        '0',
        '64',
        '66%',
        *['1x1:42', '1x2:5', '1x3:1', '1x4:4', '2x1:4', '3x1:3', '3x3:1', '3x4:1', '4x1:2', '4x4:1'],
    ]


@pytest.mark.parametrize('name', ['detection_r50_k9', 'pose_r101_k13'])
def test_picture(name, tmp_path, capsys):
    path = tmp_path / 'pattern.png'
    assert main(['pattern', 'show', name, '--out', str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    with Image.open(path) as picture:
        assert min(picture.size) > 500
        assert len(picture.getcolors(2**20)) > 50


def test_picture_of_one_narrow_layer(tmp_path):
    pattern, path = tmp_path / 'one.json', tmp_path / 'one.png'
    pattern.write_text('[{"(0, 0)": 3}]')
    assert main(['pattern', 'show', str(pattern), '--out', str(path)]) == 0
    assert path.stat().st_size > 1000


def test_picture_of_a_format_that_does_not_exist(tmp_path, capsys):
    assert main(['pattern', 'show', 'detection_r50_k9', '--out', str(tmp_path / 'pattern.xyz')]) == 1
    assert "Format 'xyz' is not supported" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_make(tmp_path, capsys):
    path = tmp_path / 'resnet18.json'
    widths = ['64x4', '128x4', '256x4', '512', '512', '512x2']
    assert main(['pattern', 'make', 'proportional', *widths, '--max-dilation', '3', '--out', str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    expected = make_pattern('proportional', [width for width in (64, 128, 256, 512) for _ in range(4)], max_dilation=3)
    assert load_pattern(path) == expected
    assert describe(path) == 'proportional, 50% undilated, dilations up to 3'


def test_make_does_not_overwrite(tmp_path, capsys):
    path = tmp_path / 'mine.json'
    path.write_text('kept')
    assert main(['pattern', 'make', 'uniform', '64', '--out', str(path)]) == 1
    assert f'{path} exists and is left as it is' in capsys.readouterr().err
    assert path.read_text() == 'kept'


@pytest.mark.parametrize(
    ('args', 'status', 'message'),
    [
        (['show', 'detection_r50'], 1, "did you mean 'detection_r50_k9'?"),
        (['show', 'nowhere/mine.json'], 1, 'there is no file nowhere/mine.json'),
        (['make', 'uniform', '0', '--out', 'x.json'], 1, 'channels=0'),
        (['make', 'uniform', '64', '--undilated', '3', '--out', 'x.json'], 1, 'undilated=3.0: a share from 0 to 1'),
        (['make', 'uniform', '64*4', '--out', 'x.json'], 2, "'64*4' is no width; give channels, such as 64, or 64x4"),
        (['make', 'random', '64', '--out', 'x.json'], 2, "invalid choice: 'random'"),
    ],
)
def test_mistakes(args, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        found = main(['pattern', *args])
    except SystemExit as caught:
        found = caught.code
    assert found == status
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
