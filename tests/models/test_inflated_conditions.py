"""Inflated networks under all that users do with modules, against the same network of PyTorch's own modules.

The other network has an ``nn.Conv3d`` in the place of every convolution, in PyTorch's usual layout.
"""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import ResNet
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils import parametrize, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import mmext
from mmext.models import InflatedDenseNet, InflatedResNet
from mmext.models.pretrained_2d import inflate_state_dict
from mmext.ops.inflate import InflatedConv3d

NETWORKS = {
    'basic': lambda: InflatedResNet(18, stem_channels=8, base_channels=8, num_stages=2),
    'bottleneck': lambda: InflatedResNet(50, stem_channels=8, base_channels=8, num_stages=2),
    'dense': lambda: InflatedDenseNet(121, growth=4, stem_channels=8, out_indices=(1,)),
}
STATES = 'eval', 'train', 'fused'


class PlainConv3d(nn.Conv3d):
    """``nn.Conv3d``, the first and last frame repeated where the inflated one does so."""

    repeats = False

    def forward(self, x):
        if not self.repeats:
            return super().forward(x)
        frames, *padding = self.padding
        x = F.pad(x, (0, 0, 0, 0, frames, frames), mode='replicate')
        return F.conv3d(x, self.weight, self.bias, self.stride, (0, *padding), self.dilation, self.groups)


def plain_twin(model):
    """The same network of PyTorch's modules, with the same weights."""
    twin = copy.deepcopy(model)
    twin.channels_last = False
    for parent in list(twin.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, InflatedConv3d):
                sizes = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.bias is not None
                plain = PlainConv3d(conv.in_channels, conv.out_channels, *sizes)
                plain.repeats = conv.temporal_padding_mode == 'replicate'
                plain.load_state_dict(conv.state_dict())
                plain.requires_grad_(conv.weight.requires_grad)
                setattr(parent, name, plain.train(conv.training))
    return twin


def pair(name, state):
    """A network and its twin, with statistics and weights of their own in every norm."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm3d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.1)
    model.train(state == 'train')
    model = mmext.fuse(model) if state == 'fused' else model
    return model, plain_twin(model)


def clip(batch=2):
    return torch.rand(batch, 3, 8, 32, 32, generator=torch.Generator().manual_seed(1))


def tensors(value):
    return list(value) if isinstance(value, (tuple, list)) else [value]


def same(found, expected, tolerance=1e-5):
    found, expected = tensors(found), tensors(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def with_gradients(model):
    x = clip().requires_grad_()
    out = model(x)
    inputs = [x, *(p for p in model.parameters() if p.requires_grad)]
    return [out.detach(), *torch.autograd.grad(out.square().mean(), inputs)]


def under_flop_counter(model):
    with FlopCounterMode(display=False) as counter:
        out = model(clip())
    return out.detach(), torch.tensor(float(counter.get_total_flops()))


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.convolutions = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.convolutions += function is torch.ops.aten.convolution.default
        return function(*args, **(kwargs or {}))


def under_dispatch_mode(model):
    with _Recorder() as recorder:
        out = model(clip())
    assert recorder.convolutions == sum(isinstance(module, nn.Conv3d) for module in model.modules())
    return out.detach()


class _Doubled(TorchFunctionMode):
    """Doubles what every ReLU gives."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        return out * 2 if function is F.relu else out


def under_function_mode(model):
    with _Doubled():
        return model(clip()).detach()


def first_conv(model):
    return next(module for module in model.modules() if isinstance(module, nn.Conv3d) and module.kernel_size[0] == 3)


def weights_through_data(model):
    model(clip())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        model(clip())
    for parameter in model.parameters():
        parameter.data.mul_(1.1)
    with torch.no_grad():
        return model(clip())


def other_weights(model):
    state = {name: value.detach() * 1.1 for name, value in model.named_parameters()}
    model(clip())
    return functional_call(model, state, (clip(),)).detach()


def moving_average(model):
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=False)
    for _ in range(2):
        for parameter in model.parameters():
            parameter.data.mul_(1.1)
        averaged.update_parameters(model)
        out = averaged.module.train(model.training)(clip())
    return out.detach()


def replaced(activation):
    def run(model):
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.ReLU):
                    setattr(parent, name, activation())
        return with_gradients(model)

    return run


def changed_settings(model):
    model(clip())
    stem = next(module for module in model.modules() if isinstance(module, nn.Conv3d))
    stem.stride, stem.padding, stem.dilation = (2, 1, 2), (0, 1, 3), (1, 2, 1)
    return model(torch.cat([clip(), clip()], 2)).detach()


def pruned(model):
    prune.l1_unstructured(first_conv(model), 'weight', 0.5)
    return model(clip()).detach()


class _Half(nn.Module):
    def forward(self, weight):
        return weight / 2


def parametrised(model):
    parametrize.register_parametrization(first_conv(model), 'weight', _Half())
    return model(clip()).detach()


def mapped(model):
    model.eval()
    return vmap(model, randomness='error')(torch.stack([clip(), clip() + 1])).detach()


def forward_derivative(model):
    model.eval()
    return [value.detach() for value in jvp(model, (clip(),), (torch.ones_like(clip()),))]


def per_sample_gradients(model):
    model.eval()
    state = {name: value.detach() for name, value in model.named_parameters()}

    def loss(state, x):
        return functional_call(model, state, (x[None],)).square().mean()

    return list(vmap(grad(loss), (None, 0))(state, clip()).values())


def copied(model):
    return copy.deepcopy(model)(clip()).detach()


def pickled(model):
    return pickle.loads(pickle.dumps(model))(clip()).detach()


def saved(model):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    for value in model.state_dict().values():
        value.zero_()
    model.load_state_dict(torch.load(file, weights_only=True))
    return model(clip()).detach()


def in_double(model):
    return model.double()(clip().double()).detach().float()


def in_inference_mode(model):
    with torch.inference_mode():
        return model(clip()).clone()


def under_autocast(model):
    with torch.autocast('cpu', torch.bfloat16):
        return model(clip()).float().detach()


def with_deterministic(model):
    torch.use_deterministic_algorithms(True)
    try:
        return with_gradients(model)
    finally:
        torch.use_deterministic_algorithms(False)


def traced(model):
    model.eval()
    return torch.jit.trace(model, clip())(clip(3)).detach()


CONDITIONS = {
    'gradients': with_gradients,
    'flop counter': under_flop_counter,
    'function mode': under_function_mode,
    'weights written through data': weights_through_data,
    'functional call': other_weights,
    'moving average': moving_average,
    'SiLU': replaced(nn.SiLU),
    'LeakyReLU': replaced(lambda: nn.LeakyReLU(0.3, inplace=True)),
    'Identity': replaced(nn.Identity),
    'changed settings': changed_settings,
    'pruned': pruned,
    'parametrised': parametrised,
    'vmap': mapped,
    'jvp': forward_derivative,
    'gradients of each sample': per_sample_gradients,
    'deepcopy': copied,
    'pickle': pickled,
    'state dict': saved,
    'float64': in_double,
    'inference mode': in_inference_mode,
    'deterministic': with_deterministic,
    'TorchScript': traced,
}


@pytest.mark.parametrize('state', STATES)
@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('condition', CONDITIONS)
def test_condition(condition, name, state):
    model, twin = pair(name, state)
    # classes of a test cannot be found by name in every way that pytest imports
    expected = (copied if condition == 'pickle' else CONDITIONS[condition])(twin)
    same(CONDITIONS[condition](model), expected, 2e-4 if 'gradients' in condition else 2e-5)
    if state == 'train' and condition not in ('vmap', 'jvp', 'gradients of each sample', 'deepcopy', 'pickle'):
        same(list(model.buffers()), list(twin.buffers()))


@pytest.mark.parametrize('state', STATES)
@pytest.mark.parametrize('name', NETWORKS)
def test_autocast(name, state):
    model, twin = pair(name, state)
    same(under_autocast(model), under_autocast(twin), 0.05)


@pytest.mark.parametrize('state', STATES)
@pytest.mark.parametrize('name', NETWORKS)
def test_dispatch_modes_see_every_convolution(name, state):
    model, twin = pair(name, state)
    same(under_dispatch_mode(model), under_dispatch_mode(twin))


@pytest.mark.parametrize('gradients', [True, False])
@pytest.mark.parametrize('state', STATES)
@pytest.mark.parametrize('name', NETWORKS)
def test_every_module_is_called_once(name, state, gradients):
    model, _ = pair(name, state)
    seen = []
    names = {module: name for name, module in model.named_modules()}
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, out: seen.append(names[module]))
    try:
        with torch.set_grad_enabled(gradients):
            model(clip())
    finally:
        handle.remove()
    assert sorted(seen) == sorted(names.values())


@pytest.mark.parametrize('gradients', [True, False])
@pytest.mark.parametrize('state', STATES)
@pytest.mark.parametrize('name', NETWORKS)
def test_hooks_that_replace_what_goes_in_and_out(name, state, gradients):
    """Of every module, one after the other."""
    model, twin = pair(name, state)
    with torch.set_grad_enabled(gradients):
        for key, _ in model.named_modules():
            if not key or key == 'features':
                continue
            results = []
            for network in (model, twin):
                part = network.get_submodule(key)
                handles = [
                    part.register_forward_hook(lambda module, args, out: out * 0.5 + 0.1),
                    part.register_forward_pre_hook(lambda module, args: (args[0] * 0.7 - 0.1,)),
                ]
                results.append(network(clip(3)).detach())
                for handle in handles:
                    handle.remove()
            same(*results, 5e-5)


def test_statistics_of_training_are_precise():
    """Against float64: PyTorch's sums of batch normalisations in channels_last_3d are 250 times less so."""
    torch.manual_seed(0)
    model = InflatedResNet(18, stem_channels=8, base_channels=8, num_stages=1).train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm3d):
            norm.momentum = 1.0  # the statistics of one step
    twin = plain_twin(model).double()
    x = torch.rand(1, 3, 16, 224, 224)
    with torch.no_grad():
        model(x), twin(x.double())
    for (key, one), (_, other) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        if key.endswith('running_var'):
            assert (one - other).abs().max() < 2e-6 * other.abs().max()


@pytest.mark.parametrize(
    ('name', 'shape'), [('basic', (1, 3, 4, 8, 8)), ('bottleneck', (1, 3, 2, 4, 8)), ('dense', (1, 3, 2, 8, 8))]
)
def test_one_value_for_each_channel(name, shape):
    """No statistics can be taken: an error, and nothing is written."""
    model, twin = pair(name, 'train')
    for network in (model, twin):
        with pytest.raises(ValueError, match='Expected more than 1 value per channel when training'):
            network(torch.rand(shape))
        assert all(value.isfinite().all() for value in network.buffers())


@pytest.mark.parametrize('name', NETWORKS)
def test_outputs_keep_the_layout(name):
    model, _ = pair(name, 'eval')
    with torch.no_grad():
        assert model(clip()).is_contiguous(memory_format=torch.channels_last_3d)
        for key, part in model.named_modules():
            if key and key != 'features':
                part.register_forward_hook(
                    lambda module, args, out: (
                        pytest.fail(f'{module} changes the layout')
                        if not out.is_contiguous(memory_format=torch.channels_last_3d)
                        and not isinstance(module, nn.AvgPool3d)
                        else None
                    )
                )
        model(clip(1))


@pytest.mark.parametrize('dilation', [2, 3])
def test_dilated_networks(dilation):
    """A static clip gives what the dilated 2D network gives of the image."""
    torch.manual_seed(0)
    flat = ResNet(50, strides=(1, 2, 1, 1), dilations=(1, 1, dilation, 2 * dilation), out_indices=(3,))
    flat.eval()
    model = InflatedResNet(50, strides=(1, 2, 1, 1), dilations=(1, 1, dilation, 2 * dilation)).eval()
    model.load_state_dict(inflate_state_dict(flat.state_dict(), model))
    image = torch.rand(1, 3, 48, 40)
    with torch.no_grad():
        expected = flat(image)[0]
        found = model(image[:, :, None].expand(-1, -1, 3, -1, -1))
    for frame in found.unbind(2):
        same(frame, expected)


@pytest.mark.parametrize('name', NETWORKS)
def test_one_activation_in_several_places(name):
    """Modules are not left out where one object stands for several."""
    model, _ = pair(name, 'eval')
    shared, single = model, copy.deepcopy(model)
    activation = nn.SiLU()
    for network, make in ((shared, lambda: activation), (single, nn.SiLU)):
        for parent in list(network.modules()):
            for key in [key for key, child in parent._modules.items() if isinstance(child, nn.ReLU)]:
                setattr(parent, key, make())
    same(shared(clip()), single(clip()), 0)
