"""What ``mmext complexity`` prints and returns; the counts themselves are tested with mmext.complexity."""

import json

import pytest

from mmext.cli import main

REDNET26 = 'rednet26_64xb32-130e_in1k'


def run(*args):
    return main(['complexity', *args])


def test_all_published_rows_side_by_side(capsys):
    assert run('--all') == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == '16 of 16 published rows reproduced'
    header, *rows = lines[: lines.index('')]
    assert header.split('  ')[0] == 'row'
    assert len(rows) == 16
    assert all(row.endswith(' yes') for row in rows)
    (row,) = [row.split() for row in rows if row.startswith('mask-rcnn_red50_fpn-conv-neck_conv-head_1x_coco')]
    assert row[1:] == ['34.2', '34.2', '34,241,744', '224.2', '224.2', '224,147,550,900', 'yes']


def test_all_fails_where_a_figure_is_missed(capsys, monkeypatch):
    from mmext import zoo

    entry = zoo.get_entry(REDNET26)
    entry['Metadata']['Published']['flops_g'] = 1.74
    monkeypatch.setattr(zoo, 'list_models', lambda: [REDNET26])
    monkeypatch.setattr(zoo, 'get_entry', lambda name: entry)
    assert run('--all') == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1].split()[1:] == ['9.23', '9.23', '9,233,886', '1.74', '1.73', '1,733,438,112', 'no']
    assert out[-1] == '0 of 1 published rows reproduced'
    assert run('--all', '--json') == 1
    found = json.loads(capsys.readouterr().out)
    assert found[REDNET26]['multiply_adds'] == dict(published=1.74, exact=1733438112, reproduced=1.73)


def test_one_config(capsys):
    assert run('configs/involution/fpn_red50_inv-neck_4xb2-80k_cityscapes-512x1024.py', '--shape', '64', '128') == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == 'EncoderDecoder, one picture of 64 x 128 pixels, own convention'
    table = {line.split()[0]: [int(cell.replace(',', '')) for cell in line.split()[1:]] for line in out[3:-2]}
    assert list(table) == ['backbone', 'neck', 'decode_head', 'total']
    assert table['total'][:2] == [16372737, 16372737]
    # the reference's convolutions and aggregations, on a 256th of the pixels
    assert table['total'][2:] == [198191349760 // 256, 5831655424 // 256, 0, (198191349760 + 5831655424) // 256]
    assert out[-1] == '16.373 M parameters (all), 0.797 G multiply-adds'


def test_clip(capsys):
    name = 'inflated-resnet50_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb'
    assert run(name, '--shape', '56', '56', '--frames', '16') == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == 'Recognizer3D, one clip of 16 frames of 56 x 56 pixels, own convention'
    assert [line.split()[0] for line in out[3:-2]] == ['backbone', 'cls_head', 'total']
    assert run(name, '--json') == 0
    assert json.loads(capsys.readouterr().out)['frames'] == 32


def test_published_convention_says_which_row(capsys, tmp_path):
    name = 'mask-rcnn_red50_fpn-conv-neck_conv-head_1x_coco'
    assert run(name, '--convention', 'published', '--shape', '64', '64') == 0
    out = capsys.readouterr().out
    assert f'published convention of row {name} (stem_kernel=3, leave_out=' in out
    assert '34.242 M parameters (trainable)' in out

    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = ['{zoo_path(REDNET26)}']\n")
    assert run(str(path), '--convention', 'published') == 0
    assert 'published convention (no published row: the plain convention' in capsys.readouterr().out


def zoo_path(name):
    from mmext import zoo

    return zoo.config_path(name)


def test_json(capsys):
    assert run(REDNET26, '--json', '--convention', 'published') == 0
    found = json.loads(capsys.readouterr().out)
    assert (found['parameters'], found['trainable'], found['counted_parameters']) == (9233886, 9233886, 9233886)
    assert (found['multiply_adds'], found['shape'], found['row']) == (1733438112, [224, 224], REDNET26)
    assert sum(sum(part['multiply_adds'].values()) for part in found['parts'].values()) == 1733438112


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ((REDNET26, '--shape', '0', '5'), 'shape=(0, 5) must be a height and a width in pixels'),
        (('rednet26',), f"no model 'rednet26': did you mean {REDNET26!r}"),
        (('none.py',), 'there is no config none.py; give the path of one'),
        ((REDNET26, '--frames', '8'), 'frames=8 is for models that take clips'),
        (('--all', '--frames', '8'), '--all counts by the published convention'),
        (('--all', '--shape', '5', '5'), '--all counts by the published convention at the published shapes'),
    ],
)
def test_mistakes(args, message, capsys):
    assert run(*args) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count('\n') == 1


@pytest.mark.parametrize('args', [(), ('--all', REDNET26), (REDNET26, '--shape', '5'), (REDNET26, '--convention', 'x')])
def test_usage(args):
    with pytest.raises(SystemExit) as exit_info:
        run(*args)
    assert exit_info.value.code == 2
