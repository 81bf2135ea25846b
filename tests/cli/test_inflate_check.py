"""What ``mmext inflate-check`` prints and returns."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmext.cli import inflate_check, main


def run(*args):
    return main(['inflate-check', *map(str, args)])


def test_published_inflation(capsys):
    assert run('resnet18', '--size', 64, '--frames', 5) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[:5] == [
        'model    resnet18',
        'weights  random, seed 0, as there is no --checkpoint: the classes mean nothing',
        "image    scikit-learn's photograph china.jpg, 64 x 64 pixels",
        'clip     5 times this image',
        'rules    those of the published inflated network',
    ]
    assert lines[6].endswith('of the largest score: equal (up to 1e-05)')
    assert lines[8].split() == ['2D', 'score', '3D', 'score']
    rows = lines[9:]
    assert [row.split()[0] for row in rows] == ['1', '2', '3', '4', '5']
    scores = [[cell for cell in row.split() if cell.replace('.', '').replace('-', '').isdigit()][1:] for row in rows]
    assert all(len(found) == 2 and found[0] == found[1] for found in scores)
    assert run('resnet18', '--size', 64, '--frames', 5) == 0
    assert capsys.readouterr().out == out


def test_checkpoint_and_image(tmp_path, capsys):
    from torchvision.models import squeezenet1_1

    torch.manual_seed(3)
    model = squeezenet1_1().eval()
    torch.save(model.state_dict(), tmp_path / 'squeeze.pth')
    pixels = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'noise.png')
    paths = ['--checkpoint', tmp_path / 'squeeze.pth', '--image', tmp_path / 'noise.png']
    assert run('squeezenet1_1', *paths, '--size', 64, '--frames', 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f'weights  {tmp_path}/squeeze.pth'
    assert lines[2] == f'image    {tmp_path}/noise.png, 64 x 64 pixels'
    assert lines[4] == 'rules    one tap along time'
    image, _ = inflate_check._image(str(tmp_path / 'noise.png'), 64)
    assert image.shape == (1, 3, 64, 64)
    with torch.inference_mode():
        best = model(image)[0].max()
    assert f'{best:.4f}' in lines[9]


@pytest.mark.parametrize('name', ['rednet26_64xb32-130e_in1k', 'configs/mini/rednet26_mini-in1k.py'])
def test_rows_and_configs(name, capsys):
    assert run(name, '--size', 64, '--frames', 2) == 0
    assert 'equal (up to 1e-05)' in capsys.readouterr().out


def test_difference_is_status_1(capsys, monkeypatch):
    from mmext.inflating import published

    rules = {'conv1': dict(temporal_kernel=3, mode='average')}
    monkeypatch.setattr(published, 'published_rules', lambda model, frames: rules)
    assert run('resnet18', '--size', 64, '--frames', 3) == 1
    assert 'NOT equal' in capsys.readouterr().out


def test_noise_without_scikit_learn(monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith('sklearn'):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    image, origin = inflate_check._image(None, 32)
    assert image.shape == (1, 3, 32, 32)
    assert origin == 'noise, seed 0, as scikit-learn is not installed'


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('resnet81',), "no network 'resnet81': did you mean 'resnet18' or"),
        (('qqqqqqqq',), "no network 'qqqqqqqq': known are "),
        (('none.py',), 'there is no config none.py'),
        (('resnet18', '--frames', '0'), '--frames 0 must be at least 1'),
        (('resnet18', '--size', '-3'), '--size -3 must be at least 1'),
        (('resnet18', '--image', 'absent.jpg'), 'there is no image absent.jpg; give the path of a picture'),
        (('resnet18', '--image', 'README.md'), 'README.md cannot be read as a picture'),
        (('resnet18', '--checkpoint', 'absent.pth'), 'absent.pth'),
        (('densenet121', '--frames', '7'), 'frames=7: the transitions of an inflated DenseNet take 8 or more'),
    ],
)
def test_mistakes(args, message, capsys):
    assert run(*args) == 1
    err = capsys.readouterr().err
    assert err.startswith('mmext inflate-check: error: ')
    assert message in err
    assert err.count('\n') == 1


def test_checkpoint_of_another_network(tmp_path, capsys):
    torch.save({'conv1.weight': torch.ones(1)}, tmp_path / 'other.pth')
    assert run('resnet18', '--checkpoint', tmp_path / 'other.pth') == 1
    assert 'does not fit resnet18' in capsys.readouterr().err


def test_networks_that_need_rules(capsys):
    assert run('vit_b_32', '--frames', 2) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith('parts of VisionTransformer cannot be inflated:')
    assert lines[1].startswith("  'encoder.layers.encoder_layer_0.self_attention'") or lines[1].startswith('  torch')
    assert lines[-2].startswith('  by patterns, several at once: rules={')
    assert lines[-1] == (
        'mmext inflate-check: error: vit_b_32 cannot be inflated without rules of its own, which this command does not '
        'take; in Python, mmext.inflate(model, rules) does'
    )
    assert max(map(len, lines)) < 250
