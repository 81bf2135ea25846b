"""The five families under torch.compile, with recomputed activations, and under torch.fx."""

import copy

import pytest
import torch
from five_families import FAMILIES, listed, make, other_inputs
from torch import fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

from mmext.models import InvolutionFPN, WiderResNet
from mmext.models.recompute import recompute


def step(network, x):
    torch.manual_seed(1)  # dropout
    sum(out.square().mean() for out in listed(network(x))).backward()


def assert_same_training(found, expected):
    for (name, one), other in zip(found.named_parameters(), expected.parameters()):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)
    for (name, one), other in zip(found.named_buffers(), expected.buffers()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', FAMILIES)
def test_compiled_recomputation_trains_as_eager_does(name):
    torch._dynamo.reset()
    options = dict(dropout=(0.3, 0.5), out_indices=(6,)) if name == 'WiderResNet' else {}
    eager, x = make(name, **options)
    if name == 'WiderResNet':
        x = torch.rand(2, 3, 96, 96)
    recomputed, _ = make(name, with_cp=True, **options)
    compiled = copy.deepcopy(recomputed)
    step(eager.train(), x)
    step(recomputed.train(), x)
    assert_same_training(recomputed, eager)
    step(torch.compile(compiled.train(), backend='aot_eager', fullgraph=True), x)
    assert_same_training(compiled, eager)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', FAMILIES)
def test_compiled_in_one_graph_by_default(name):
    torch._dynamo.reset()
    network, x = make(name)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(network, backend='aot_eager', fullgraph=True)(x), network(x))


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('name', FAMILIES)
def test_symbolic_trace(name, with_cp):
    network, x = make(name, with_cp=with_cp)
    traced = fx.symbolic_trace(network)
    again = copy.deepcopy(traced)
    with torch.no_grad():
        for image in (x, *other_inputs(name)):
            torch.testing.assert_close(traced(image), network(image))
            torch.testing.assert_close(again(image), network(image))


@pytest.mark.parametrize('name', FAMILIES)
def test_feature_extractor_of_torchvision(name):
    network, x = make(name)
    node = {'WiderResNet': 'level2.0', 'InflatedDenseNet': 'features.denseblock1.denselayer2'}.get(
        name, 'layer1.0.conv2'
    )
    seen = []
    handle = network.get_submodule(node).register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        network(x)
        handle.remove()
        extractor = create_feature_extractor(network, return_nodes={node: 'out'}, suppress_diff_warning=True)
        torch.testing.assert_close(extractor(x)['out'], seen[0])


def test_small_images_are_an_error_in_eager_and_in_a_traced_network():
    network = WiderResNet('A', width=1 / 32).eval()
    message = "an image of 20 x 33 pixels is 2 x 4 before level 5, too small for 3x3 pooling; .*pooling='pad'"
    for run in (network, fx.symbolic_trace(network)):
        with pytest.raises(ValueError, match=message):
            run(torch.rand(1, 3, 20, 33))


def test_neck_is_traced_symbolically():
    neck = InvolutionFPN([8, 16], 16, 3, add_extra_convs='on_output').eval()
    maps = [torch.rand(1, 8, 16, 16), torch.rand(1, 16, 8, 8)]
    traced = fx.symbolic_trace(neck)
    torch.testing.assert_close(traced(maps), neck(maps))
    for run in (neck, traced):
        with pytest.raises(ValueError, match='1 feature maps came in'):
            run(maps[:1])


class Part(nn.Module):
    """Norms of several kinds, dropout and a hook, run with or without recomputation."""

    def __init__(self, norm, with_cp):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), norm, nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Conv2d(4, 2, 1)
        )
        self.with_cp = with_cp
        self.calls = []
        self.layers[0].register_forward_hook(lambda *args: self.calls.append(torch.is_autocast_enabled('cpu')))

    def forward(self, x):
        return recompute(self.layers, x, [self]) if self.with_cp else self.layers(x)


NORMS = {
    'batch norm': lambda: nn.BatchNorm2d(4),
    'cumulative average': lambda: nn.BatchNorm2d(4, momentum=None),
    'without statistics': lambda: nn.BatchNorm2d(4, track_running_stats=False),
    'frozen': lambda: nn.BatchNorm2d(4).eval(),
    'instance norm with statistics': lambda: nn.InstanceNorm2d(4, track_running_stats=True),
    'group norm': lambda: nn.GroupNorm(2, 4),
}


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('norm', NORMS)
def test_recomputation_changes_nothing(norm, autocast):
    parts = [Part(NORMS[norm](), with_cp) for with_cp in (False, True)]
    x = torch.randn(4, 3, 6, 6)
    results = []
    for part in parts:
        for number in range(2):
            image = (x + number).requires_grad_()
            torch.manual_seed(number)
            with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
                out = part(image)
            out.float().square().sum().backward()
        results.append(
            (out.detach(), image.grad, torch.rand(1), [p.grad for p in part.parameters()], list(part.buffers()))
        )
    torch.testing.assert_close(*results)
    assert len(parts[1].calls) == 2 * len(parts[0].calls)  # so it is recomputed
    assert set(parts[1].calls) == {autocast}


def test_recomputation_under_transforms():
    """PyTorch cannot forget activations there; what is computed is the same."""
    part = Part(nn.GroupNorm(2, 4), True).eval()
    x = torch.randn(2, 3, 6, 6)
    expected = torch.func.grad(lambda x: part.layers(x).sin().sum())(x)
    torch.testing.assert_close(torch.func.grad(lambda x: part(x).sin().sum())(x), expected)
    torch.testing.assert_close(torch.func.jvp(part, (x,), (x,)), torch.func.jvp(part.layers, (x,), (x,)))
