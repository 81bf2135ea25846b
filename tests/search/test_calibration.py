"""Criteria that run on images: what is seen of a layer, and what is chosen by it."""

import itertools

import numpy as np
import pytest
import running
import torch
from torch import nn

from mmext.cli import main
from mmext.layers import SupernetConv2d
from mmext.search import choose, dilations
from mmext.search.calibration import ChannelMeans, OutputErrors, run_on_images
from mmext.search.solving import solve
from mmext.utils.configs import build_model, load_config

CONFIG = """
_base_ = [{base!r}]
model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=50, base_channels=8, stem_channels=8, norm_eval=False),
    neck=dict(in_channels=[32, 64, 128, 256]))
val_dataloader = dict(dataset=dict(data_root={root!r}))
train_dataloader = dict(dataset=dict(data_root={root!r}))
"""


@pytest.mark.parametrize(
    'options',
    [dict(padding=1), dict(padding=1, stride=2, groups=2), dict(padding=2, dilation=2), dict(kernel_size=5, padding=2)],
)
def test_output_errors_are_those_of_masked_kernels(options):
    torch.manual_seed(0)
    layer = SupernetConv2d(4, 6, **{'kernel_size': 3, **options}, max_dilation=3).double()
    seen = OutputErrors(layer)
    batches = [torch.randn(2, 4, 15, 12, dtype=torch.double), torch.randn(1, 4, 9, 20, dtype=torch.double)]
    with torch.no_grad():
        for x in batches:
            seen(x)
        expected = []
        kernel, size = layer.plain_kernel_size, layer.weight.shape[-1]
        for height, width in dilations(3):
            mask = torch.zeros(size, size, dtype=torch.double)
            for row, column in itertools.product(range(kernel), repeat=2):
                half = kernel // 2
                mask[size // 2 + (row - half) * height, size // 2 + (column - half) * width] = 1
            masked = nn.Conv2d(4, 6, size, layer.stride, layer.padding, layer.dilation, layer.groups).double()
            masked.weight.copy_(layer.weight * mask)
            masked.bias.copy_(layer.bias)
            errors = [(masked(x) - layer(x)).abs().movedim(1, 0).flatten(1) for x in batches]
            expected.append(torch.cat(errors, 1).mean(1))
    np.testing.assert_allclose(seen.result(), torch.stack(expected, 1).numpy())


def test_channel_means_are_over_all_pixels_of_all_inputs():
    layer = SupernetConv2d(4, 6, 3, padding=1, groups=2, max_dilation=2)
    seen = ChannelMeans(layer)
    batches = [torch.rand(2, 4, 5, 6), torch.rand(1, 4, 3, 3)]
    for x in batches:
        seen(x)
    means = torch.cat([x.movedim(1, 0).flatten(1) for x in batches], 1).mean(1).double()
    expected = torch.stack([means[:2]] * 3 + [means[2:]] * 3)
    torch.testing.assert_close(seen.result(), expected)


@pytest.fixture(scope='module')
def supernet(tmp_path_factory):
    """A config of a supernet over images made here, and weights of it."""
    folder = tmp_path_factory.mktemp('search')
    running.run('tools/make_mini_datasets.py', 'coco', '--out', folder, '--train', '4', '--val', '3')
    base = str(running.ROOT / 'configs/mini/faster-rcnn_ic-r18_fpn_mini-coco.py')
    (folder / 'plain.py').write_text(CONFIG.format(base=base, root=f'{folder}/coco/'))
    config = folder / 'supernet.py'
    assert main(['search', 'supernet', str(folder / 'plain.py'), '--max-dilation', '2', '--out', str(config)]) == 0
    torch.manual_seed(0)
    torch.save(build_model(load_config(config)).state_dict(), folder / 'supernet.pth')
    return config, folder / 'supernet.pth'


@pytest.mark.parametrize('split', ['val', 'train'])
def test_response_is_never_worse_in_output_error_than_l1(supernet, split):
    by_weights, by_response = (solve(*supernet, criterion, 2, split) for criterion in ('l1', 'response'))
    assert by_response.search['images'] == 2
    assert by_response.search['split'] == split
    cfg = load_config(supernet[0])
    model = build_model(cfg)
    model.load_state_dict(torch.load(supernet[1], weights_only=True))
    layers = {name: model.get_submodule(name) for name in by_weights.choices}
    watches = {name: OutputErrors(layer) for name, layer in layers.items()}
    run_on_images(model, cfg, split, 2, {layers[name]: seen for name, seen in watches.items()})
    pairs, better = dilations(2), 0
    for name, seen in watches.items():
        error = seen.result()
        one, other = (
            np.array([error[i, pairs.index(pair)] for i, pair in enumerate(found.choices[name].dilations)])
            for found in (by_response, by_weights)
        )
        assert (one <= other).all()
        better += (one < other).sum()
    assert better > 0


def test_calibrated_expectation_is_weighted_with_the_means(supernet):
    found = solve(*supernet, 'expectation-calibrated', 99)
    assert found.search['images'] == 3  # all that there are
    name = 'backbone.layer2.1.conv2'
    cfg = load_config(supernet[0])
    model = build_model(cfg)
    model.load_state_dict(torch.load(supernet[1], weights_only=True))
    layer = model.get_submodule(name)
    seen = ChannelMeans(layer)
    run_on_images(model, cfg, 'val', 3, {layer: seen})
    expected = choose(layer.weight, 2, 'expectation', channel_means=seen.result())
    assert found.choices[name] == expected
    assert expected != choose(layer.weight, 2, 'expectation')


def test_by_the_command(supernet, tmp_path, capsys):
    out = tmp_path / 'found.json'
    arguments = ['search', 'pattern', *map(str, supernet), '--criterion', 'response', '--images', '1']
    assert main([*arguments, '--out', str(out)]) == 0
    assert 'backbone.layer1.0.conv2' in capsys.readouterr().out
    assert '"criterion": "response", "images": 1, "split": "val"' in out.read_text()


def test_what_is_wrong_is_said(supernet, tmp_path, capsys):
    out = tmp_path / 'found.json'
    config, checkpoint = map(str, supernet)
    missing = tmp_path / 'missing.py'
    missing.write_text(f'_base_ = [{config!r}]\nval_dataloader = dict(dataset=dict(data_root="nowhere/"))\n')
    none = tmp_path / 'none.py'
    none.write_text(f'_base_ = [{config!r}]\nval_dataloader = None\n')
    weights = torch.load(checkpoint, weights_only=True)
    torch.save({key: value for key, value in weights.items() if 'neck' not in key}, tmp_path / 'part.pth')
    for path, weights, images, reason in (
        (config, checkpoint, 0, 'at least 1'),
        (missing, checkpoint, 1, 'cannot be built (FileNotFoundError'),
        (none, checkpoint, 1, 'has no `val_dataloader`'),
        (config, tmp_path / 'part.pth', 1, 'neck.lateral_convs.0.conv.weight'),
    ):
        arguments = ['search', 'pattern', path, weights, '--criterion', 'response', '--images', images, '--out', out]
        assert main(list(map(str, arguments))) == 1
        assert reason in capsys.readouterr().err
        assert not out.exists()
