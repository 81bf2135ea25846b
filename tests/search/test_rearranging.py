"""Weights of a supernet in the searched network: the outputs are those of the supernet with masked kernels."""

import json

import pytest
import torch
from mmengine.config import Config
from test_commands import BOTTLENECKS, CASES, RESNET, UNET, plain
from torch import nn

from mmext.cli import main
from mmext.layers import SupernetConv2d
from mmext.search.rearranging import consumers
from mmext.utils.configs import build_model, load_config

RESNEXT = """
_base_ = [{base!r}]
model = dict(
    backbone=dict(_delete_=True, type='ResNeXt', depth=50, groups=4, base_width=16, base_channels=64, stem_channels=8,
                  norm_eval=False),
    neck=dict(in_channels=[256, 512, 1024, 2048]))
"""
DET = CASES['detector'][2]
# config over a mini config, whether any layer stays in its order, the backbone
NETWORKS = {
    'bottlenecks': (BOTTLENECKS, DET, 'none', 'mmext.ICResNet'),
    'basic blocks': (RESNET.replace('{width}', '32'), DET, 'conv2', None),
    'groups': (RESNEXT, DET, 'none', 'mmext.ICResNeXt'),
    'unet': (UNET, CASES['unet'][2], None, 'mmext.ExchangedConvs'),
}


def searched(tmp_path, text, base):
    """Run the commands on a supernet with random weights and norms; return plain config, supernet and both files."""
    config = plain(tmp_path, text, base)
    supernet, checkpoint, pattern = (tmp_path / name for name in ('supernet.py', 'supernet.pth', 'pattern.json'))
    assert main(['search', 'supernet', str(config), '--max-dilation', '3', '--out', str(supernet)]) == 0
    torch.manual_seed(0)
    model = build_model(load_config(supernet))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    assert main(['search', 'pattern', str(supernet), str(checkpoint), '--out', str(pattern)]) == 0
    return config, model, checkpoint, pattern


def mask(model, pattern):
    """Set the weights that the search leaves out to zero, filter by filter."""
    content = json.loads(pattern.read_text())
    for name, layer, order in zip(content['names'], content['layers'], content['orders'], strict=True):
        conv = model.get_submodule(name)
        middle, reach = conv.weight.shape[-1] // 2, conv.plain_kernel_size // 2
        keep = torch.zeros_like(conv.weight)
        pairs = [(height, width) for height, width, channels in layer for _ in range(channels)]
        for filter_index, (height, width) in zip(order, pairs, strict=True):
            for row in range(-reach, reach + 1):
                for column in range(-reach, reach + 1):
                    keep[filter_index, :, middle + row * height, middle + column * width] = 1
        conv.weight.data *= keep


@pytest.mark.parametrize('network', NETWORKS)
def test_outputs_are_those_of_the_masked_supernet(network, tmp_path, capsys):
    text, base, in_order, backbone = NETWORKS[network]
    config, model, checkpoint, pattern = searched(tmp_path, text, base)
    out = tmp_path / 'searched.py'
    capsys.readouterr()
    assert (
        main(['search', 'apply', str(config), str(pattern), '--reuse-weights', str(checkpoint), '--out', str(out)]) == 0
    )
    said = capsys.readouterr().out
    if in_order == 'none':
        assert 'stay where they are' not in said
    elif in_order:
        names = said.strip().rpartition(': ')[2].split(', ')
        assert len(names) == 8
        assert all(name.endswith(in_order) for name in names)
    cfg = load_config(out)
    if backbone:
        assert cfg.model.backbone.type == backbone
    found = build_model(cfg)
    found.load_state_dict(torch.load(tmp_path / 'searched.pth', weights_only=True)['state_dict'])
    assert cfg.load_from.endswith('searched.pth')
    mask(model, pattern)
    model.eval()
    found.eval()
    x = torch.rand(2, 3, 64, 80)
    with torch.no_grad():
        pairs = list(zip(found.backbone(x), model.backbone(x), strict=True))
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


def test_supernet_of_another_search(tmp_path, capsys):
    config, model, _, pattern = searched(tmp_path, BOTTLENECKS, DET)
    torch.save(build_model(load_config(config)).state_dict(), tmp_path / 'plain.pth')
    arguments = ['search', 'apply', str(config), str(pattern), '--out', str(tmp_path / 'searched.py')]
    assert main([*arguments, '--reuse-weights', str(tmp_path / 'plain.pth')]) == 1
    assert 'give the checkpoint that was searched' in capsys.readouterr().err
    assert not (tmp_path / 'searched.py').exists()
    (tmp_path / 'searched.pth').write_text('mine')
    torch.save(model.state_dict(), tmp_path / 'supernet2.pth')
    assert main([*arguments, '--reuse-weights', str(tmp_path / 'supernet2.pth')]) == 1
    assert 'exists and is left as it is' in capsys.readouterr().err
    assert (tmp_path / 'searched.pth').read_text() == 'mine'


class Small(nn.Module):
    """Convolutions whose channels go different ways."""

    def __init__(self):
        super().__init__()
        for name in ('known', 'added', 'twice', 'grouped', 'read', 'last'):
            self.add_module(name, nn.Conv2d(8, 8, 3, padding=1))
        self.norm, self.layer_norm, self.prelu = nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.PReLU(8)
        self.one, self.two, self.three = (nn.Conv2d(8, 8, 1) for _ in range(3))
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        known = self.pool(torch.relu(self.norm(self.known(x))))
        y = self.one(known) + self.two(known)
        y = self.added(y) + y
        y = self.three(self.layer_norm(self.twice(self.twice(y))))
        y = self.depthwise(self.grouped(y)) * self.read.weight.mean()
        return self.last(self.prelu(self.read(y)))


def test_what_is_known_to_take_the_channels_of_a_convolution():
    found = consumers(Small())
    assert {name: (sorted(norms), sorted(convs)) for name, (norms, convs) in found.items()} == {
        'known': (['norm'], ['one', 'two']),
        'three': ([], ['grouped']),
    }


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


def test_what_cannot_be_traced_is_not_known():
    network = Unknown()
    assert consumers(network) == {}
    assert network.training


def test_the_model_is_left_as_it_is(tmp_path):
    config, *_ = searched(tmp_path, BOTTLENECKS, DET)
    assert not any(isinstance(module, SupernetConv2d) for module in build_model(Config.fromfile(config)).modules())
