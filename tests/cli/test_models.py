import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmext import zoo
from mmext.cli import main

ROW = 'rednet26_64xb32-130e_in1k'
DETECTOR = 'mask-rcnn_red50_fpn-inv-neck_inv-head_1x_coco'


def test_list(capsys):
    assert main(['models']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ['name', *zoo.list_models()]
    (line,) = [line for line in lines if line.startswith(DETECTOR)]
    assert re.split(' {2,}', line)[1:] == [
        'mmdet',
        'Instance Segmentation',
        '29.5',
        '104.6',
        '39.6 box AP, 35.1 mask AP',
    ]
    assert main(['models', '*cityscapes*']) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3 + 3  # involution, Wider-ResNet


def test_nothing_matches(capsys):
    assert main(['models', 'rednt50']) == 1
    assert "no row matches 'rednt50': did you mean 'rednet50_64xb32-130e_in1k'?" in capsys.readouterr().err


def test_path(capsys):
    assert main(['models', '--path', ROW]) == 0
    assert capsys.readouterr().out.strip() == str(zoo.config_path(ROW))
    assert main(['models', '--path', 'rednet26_in1k']) == 1
    assert f'did you mean {ROW!r}?' in capsys.readouterr().err


@pytest.mark.parametrize('row', [ROW, DETECTOR])
def test_a_copy_needs_nothing_beside_it(row, tmp_path, capsys):
    assert main(['models', '--copy', row, str(tmp_path)]) == 0
    target = tmp_path / f'{row}.py'
    assert capsys.readouterr().out.strip() == str(target)
    assert list(tmp_path.iterdir()) == [target]
    assert '_base_' not in target.read_text()
    cfg = Config.fromfile(target)
    assert cfg.to_dict() == zoo.get_config(row).to_dict()
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        MODELS.build(cfg.model)


def test_copy_does_not_overwrite(tmp_path, capsys):
    target = tmp_path / 'mine.py'
    target.write_text('kept')
    assert main(['models', '--copy', ROW, str(target)]) == 1
    assert f'{target} exists and is left as it is' in capsys.readouterr().err
    assert target.read_text() == 'kept'


@pytest.mark.parametrize(
    ('destination', 'message'),
    [('new/mine.py', 'the folder .*new does not exist'), ('mine.txt', 'is no folder that exists and no .py file')],
)
def test_bad_destination(destination, message, tmp_path, capsys):
    assert main(['models', '--copy', ROW, str(tmp_path / destination)]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
