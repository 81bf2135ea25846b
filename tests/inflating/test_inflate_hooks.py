"""Hooks of the 2D network: mmext.inflate names those that are lost, and refuses those that change what it computes."""

import warnings

import pytest
import torch
from network_helpers import assert_equal
from torch import nn
from torch.nn.modules import module as registry

import mmext

SIZE = 3, 6, 5
CHANGES = 'a hook changes what it gives, and is lost'


def network(training=False):
    """Layers '0.0' to '0.2' in a container, and '1' that hides a factor while it trains."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 1, bias=False), nn.ReLU())
    return nn.Sequential(block, nn.BatchNorm2d(4, eps=1e-12), nn.Dropout(0.5)).train(training)


def inflated(net, rules=None):
    """Inflate without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return mmext.inflate(net, rules, image_size=SIZE)


@pytest.mark.parametrize(
    ('name', 'shown'), [('0', r"'0' \(Sequential\)"), ('', 'Sequential'), ('0.0', r"'0\.0' \(Con")]
)
def test_backward_hooks_of_the_old_kind(name, shown):
    net = network()
    net.get_submodule(name).register_backward_hook(lambda *args: None)
    with pytest.raises(ValueError, match=f'{shown}.*register_backward_hook, which .* use register_full_backward_hook'):
        mmext.inflate(net, image_size=SIZE)


def test_backward_hooks_of_all_modules():
    handle = registry.register_module_backward_hook(lambda *args: None)
    try:
        with pytest.raises(ValueError, match=r'all modules .* remove the hook'):
            mmext.inflate(network(), image_size=SIZE)
    finally:
        handle.remove()
        registry._global_is_full_backward_hook = None  # as in a new process


@pytest.mark.parametrize('name', ['', '0', '0.0', '1'])
@pytest.mark.parametrize(
    'register',
    ['register_forward_hook', 'register_forward_pre_hook', 'register_full_backward_hook'],
)
def test_hooks_that_look_only(name, register):
    clip = torch.rand(1, 3, 2, 6, 5)
    expected = inflated(network())(clip)
    net = network()
    getattr(net.get_submodule(name), register)(lambda *args: None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        found = mmext.inflate(net, image_size=SIZE)(clip)
    assert [str(warning.message).partition(' are lost')[0] for warning in caught] == [
        f'the hooks of {name!r}' if name else 'the hooks of Sequential itself'
    ]
    assert caught[0].filename == __file__
    assert_equal(found, expected)


def test_hooks_that_are_kept():
    net, seen = network(), []
    net[0][2].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    three_d = inflated(net)
    seen.clear()
    three_d(torch.rand(1, 3, 2, 6, 5))
    assert seen == [(1, 4, 2, 4, 3)]
    net[0][0].register_forward_hook(lambda module, args, output: 2 * output)
    clip = torch.rand(2, 3, 2, 6, 5)
    expected = torch.stack([net(frame) for frame in clip.unbind(2)], 2)
    assert_equal(inflated(net, {'0': 'frames'})(clip), expected)


def doubled(module, args, output):
    return 2 * output


def doubled_in_place(module, args, output):
    output.mul_(2)


def doubled_input(module, args):
    return (2 * args[0],)


def doubled_tensors(module, args, output):
    """What tracing does not see: nothing is a tensor there."""
    return 2 * output if isinstance(output, torch.Tensor) else None


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(
    ('name', 'register', 'hook'),
    [
        ('0.0', 'register_forward_hook', doubled),
        ('0.1', 'register_forward_hook', doubled_in_place),
        ('0.0', 'register_forward_pre_hook', doubled_input),
        ('0', 'register_forward_hook', doubled_tensors),
        ('', 'register_forward_pre_hook', doubled_input),
        ('', 'register_forward_hook', doubled),
    ],
)
def test_hooks_that_change_what_is_computed(training, name, register, hook):
    """In training the normalisation after them hides a factor."""
    net = network(training)
    getattr(net.get_submodule(name), register)(hook)
    with pytest.raises(ValueError, match=f'{repr(name) if name else "Sequential itself"}: {CHANGES}'):
        mmext.inflate(net, image_size=SIZE)


def test_hooks_of_containers_that_are_traced():
    net = network()
    net[0].register_forward_hook(doubled)
    clip = torch.rand(2, 3, 2, 6, 5)
    expected = torch.stack([net(frame) for frame in clip.unbind(2)], 2)
    with pytest.warns(UserWarning, match=r"the hooks of '0' are lost.*\(what their hooks did to tensors is traced\)"):
        assert_equal(mmext.inflate(net, image_size=SIZE)(clip), expected)


def test_loops_that_look_for_a_tensor():
    def first(module, args, output):
        while not isinstance(output, torch.Tensor):
            output = output[0]

    net = network()
    net[0].register_forward_hook(first)
    with pytest.raises(ValueError, match=r"'0' \(Sequential\) cannot be traced .*indexes a result 50 times over"):
        mmext.inflate(net, image_size=SIZE)
