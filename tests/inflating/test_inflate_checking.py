"""The last step of mmext.inflate: what is rewritten wrongly, or traced wrongly, is refused."""

import pytest
import torch
import torch.nn.functional as F
from network_helpers import assert_equal, assert_still_clips
from torch import nn
from torch.nn.utils import prune

import mmext
from mmext.inflating import functions
from mmext.inflating.layouts import IMAGE
from mmext.inflating.probing import shapes

SIZE = 4, 6, 5
WRONG = 'does not do on clips what it does on pictures'


class Net(nn.Module):
    def __init__(self, function, *layers):
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x * 1, *self.layers)


def inflated(function, *layers, rules=None):
    return mmext.inflate(Net(function, *layers), rules, image_size=SIZE)


def other_function(rewriter, node):
    rewriter.put(node, rewriter.call(torch.sigmoid, rewriter.new(node.args[0])), IMAGE)


def over_time(rewriter, node):  # the same for static clips only
    x = rewriter.call('mean', rewriter.new(node.args[0]), 2, True)
    rewriter.put(node, rewriter.call('expand_as', rewriter.call(torch.tanh, x), rewriter.new(node.args[0])), IMAGE)


def other_type(rewriter, node):
    rewriter.put(node, rewriter.call('double', rewriter.again(node, [rewriter.new(node.args[0])])), IMAGE)


def other_shape(rewriter, node):
    rewriter.put(node, rewriter.call('unsqueeze', rewriter.again(node, [rewriter.new(node.args[0])]), 0), IMAGE)


def nothing(rewriter, node):
    rewriter.put(node, rewriter.call(torch.zeros_like, rewriter.new(node.args[0])), IMAGE)


def failing(rewriter, node):
    rewriter.put(node, rewriter.call('unflatten', rewriter.new(node.args[0]), 1, (5, 5)), IMAGE)


@pytest.mark.parametrize(
    ('handler', 'message'),
    [
        (other_function, WRONG),
        (over_time, WRONG),
        (other_type, WRONG),
        (other_shape, WRONG),
        (nothing, WRONG),
        (failing, r'does not run on clips \(unflatten: Provided sizes'),
    ],
)
def test_wrong_handlers(monkeypatch, handler, message):
    monkeypatch.setitem(functions.HANDLERS, 'tanh', handler)
    with pytest.raises(
        ValueError, match=rf"torch\.Tensor\.tanh .* {message}.* add rules={{torch\.Tensor\.tanh: 'frames'"
    ):
        inflated(lambda x: x.tanh())
    inflated(lambda x: x.tanh(), rules={torch.Tensor.tanh: 'frames'})


def test_wrong_handlers_of_several_results(monkeypatch):
    def exchanged(rewriter, node):
        new = rewriter.call(torch.chunk, rewriter.new(node.args[0]), 2, 1)
        rewriter.put(node, rewriter.call(reversed_pair, new), (IMAGE, IMAGE))

    monkeypatch.setitem(functions.HANDLERS, 'chunk', exchanged)
    with pytest.raises(ValueError, match=WRONG):
        inflated(lambda x: x.chunk(2, 1)[0])


def reversed_pair(pair):
    return pair[1], pair[0]


def test_wrong_handlers_of_random_functions(monkeypatch):
    monkeypatch.setitem(functions.HANDLERS, 'bernoulli', other_shape)
    with pytest.raises(ValueError, match=WRONG):
        inflated(lambda x: x.bernoulli(0.5))


def test_what_is_not_written_in_place(monkeypatch):
    def copying(rewriter, node):
        rewriter.put(node, rewriter.call(torch.relu, rewriter.new(node.args[0])), IMAGE)

    monkeypatch.setitem(functions.HANDLERS, 'relu', copying)
    inflated(lambda x: x.relu_())
    with pytest.raises(ValueError, match='writes in place into a tensor that is used afterwards'):
        inflated(lambda x: x.relu_() + x)


def test_what_is_written_in_place_in_clips_alone(monkeypatch):
    def writing(rewriter, node):
        rewriter.put(node, rewriter.call('relu_', rewriter.new(node.args[0])), IMAGE)

    monkeypatch.setitem(functions.HANDLERS, 'tanh', writing)
    with pytest.raises(ValueError, match=WRONG):
        inflated(lambda x: x.tanh() + x)


class Writing(nn.Module):
    """A block that changes its input, as a pre-activation block with an in-place ReLU does."""

    def forward(self, x):
        return x.relu_() * 2


def test_a_block_on_frames_that_writes_into_its_input():
    clip = torch.randn(1, 4, 3, 6, 5)
    network = inflated(lambda x, block: block(x), Writing(), rules={'layers.0': 'frames'})
    assert_equal(network(clip), 2 * clip.relu())
    with pytest.raises(
        ValueError, match=r"'layers\.0' \(Writing\) writes in place into a tensor that is used afterwards"
    ):
        inflated(lambda x, block: block(x) + x, Writing(), rules={'layers.0': 'frames'})


def test_layers_that_write_in_place():
    clip = torch.randn(1, 4, 3, 6, 5)
    network = inflated(lambda x, relu: relu(x) + x, nn.ReLU(inplace=True))
    assert_equal(network(clip), 2 * clip.relu())
    network = inflated(lambda x, relu: relu(x[:, :2]).sum(1) + x.sum(1), nn.ReLU(inplace=True))
    assert_equal(network(clip), clip[:, :2].relu().sum(1) * 2 + clip[:, 2:].sum(1))
    with pytest.raises(ValueError, match=r"'layers\.0' \(ReLU\) writes in place into a tensor that is used afterwards"):
        inflated(lambda x, relu: relu(x.flatten(1))[:, 0] + x[:, 0, 0, 0], nn.ReLU(inplace=True))


class Viewing(nn.Module):
    """A block whose own code needs contiguous frames."""

    def forward(self, x):
        return x.view(x.size(0), 2, -1).sum(1)


@pytest.mark.parametrize('clips', [1, 2])
def test_a_block_on_frames_gets_contiguous_ones(clips):
    network = inflated(lambda x, block: block(x), Viewing(), rules={'layers.0': 'frames'})
    clip = torch.randn(clips, 4, 3, 6, 5)
    assert_equal(network(clip), torch.stack([Viewing()(frame.contiguous()) for frame in clip.unbind(2)], 1))


def renamed(x):
    y = x
    y += 1
    return x


def test_what_tracing_changes():
    with pytest.raises(ValueError, match=r'Net gives something else when it is traced by torch\.fx'):
        inflated(renamed)
    network = inflated(lambda x: F.dropout(x, 0.5) + x)  # random, but not changed
    assert network(torch.ones(1, 4, 2, 6, 5)).unique().tolist() == [1, 3]


@pytest.mark.parametrize('number', [0, 1, 2])
def test_hooks(number):
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).eval()
    net[number].register_forward_hook(lambda module, args, output: None)  # one that looks only
    image = torch.rand(2, 4, 6, 5)
    if number == 2:
        network = mmext.inflate(net, image_size=SIZE)
    else:
        with pytest.warns(UserWarning, match=rf"the hooks of '{number}' are lost"):
            network = mmext.inflate(net, image_size=SIZE)
    assert_still_clips(net, network, image)
    handle = net[number].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    if number == 2:  # the same layer in 2D and 3D
        assert_still_clips(net, mmext.inflate(net, image_size=SIZE), image)
    else:
        with pytest.raises(ValueError, match=rf"'{number}': a hook changes what it gives.* remove the hook"):
            mmext.inflate(net, image_size=SIZE)
    handle.remove()
    net[number].register_forward_hook(lambda module, args, output: output + 1)
    if number != 2:
        with pytest.raises(ValueError, match='a hook changes what it gives'):
            mmext.inflate(net, image_size=SIZE)


def test_weights_that_are_computed():
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
    prune.l1_unstructured(net[0], 'weight', 3)
    with pytest.raises(ValueError, match=r'Sequential cannot be copied .*torch\.nn\.utils\.prune\.remove'):
        mmext.inflate(net, image_size=SIZE)


def test_the_mode_is_traced_as_it_is():
    def by_mode(x, layer):
        return layer(x) if layer.training else -x

    for training, expected in ((True, 1), (False, -1)):
        net = Net(by_mode, nn.Identity()).train(training)
        network = mmext.inflate(net, image_size=SIZE)
        assert network(torch.ones(1, 4, 2, 6, 5)).unique().tolist() == [expected]


def test_nothing_is_computed_on_the_meta_device():
    net = nn.Sequential(nn.Conv2d(4, 8, 3, device='meta'), nn.ReLU())
    network = mmext.inflate(net, image_size=SIZE)
    assert network(torch.empty(1, 4, 2, 6, 5, device='meta')).shape == (1, 8, 2, 4, 3)


def test_rounding_is_no_difference():
    network = inflated(lambda x: F.layer_norm(x, (5,)).mean(-1))  # nothing but rounding
    assert network(torch.rand(1, 4, 2, 6, 5)).abs().max() < 1e-6
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()).to(torch.bfloat16)
    clip = torch.rand(1, 4, 2, 6, 5, dtype=torch.bfloat16)
    assert mmext.inflate(net, image_size=SIZE)(clip).dtype == torch.bfloat16


def test_the_random_state_is_kept():
    before = torch.random.get_rng_state()
    inflated(lambda x: F.dropout(x).bernoulli(0.5))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_shapes_of_nested_results():
    x = torch.zeros(2, 3)
    assert shapes((x, [x, 1], x.shape)) == [(2, 3), [(2, 3), None], None]
