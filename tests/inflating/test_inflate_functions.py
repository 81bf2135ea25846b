"""Functions and methods between the layers: each small network against what it gives for every frame."""

import pytest
import torch
import torch.nn.functional as F
from network_helpers import assert_equal, assert_still_clips, filled, outputs
from torch import nn

import mmext

SIZE = 12
FRAMES = 3


class Net(nn.Module):
    """A convolution in front of a function."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.last = nn.Parameter(torch.rand(8))
        self.weight = nn.Parameter(torch.rand(4, 8, 3, 3))
        self.register_buffer('mean', torch.rand(1, 8, 1, 1), persistent=False)
        self.function = function

    def forward(self, x):
        return self.function(self, self.conv(x))


def attention(net, x):
    pooled = torch.cat([x.mean(1, keepdim=True), x.max(dim=1, keepdim=True)[0], x.amax(1, keepdim=True)], 1)
    return x * pooled.sigmoid()[:, :1]


def shuffled(net, x):
    n, c, h, w = x.size()
    x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous()
    return net.conv.weight.sum() * x.view(n, -1, h, w)


def tokens(net, x):
    attended = x.flatten(2).transpose(1, 2)
    return F.layer_norm(attended, (8,)).softmax(-1)


def channels_last(net, x):
    x = x.permute(0, 2, 3, 1)
    return (F.layer_norm(x, x.shape[-1:]) * net.last).permute(0, 3, 1, 2)


def branch_on_rank(net, x):
    assert x.dim() == 4, f'{x.shape}'
    return x if x.shape[1] == 8 else -x


# every frame of a moving clip gives what the picture gives
PER_FRAME = {
    'attention': attention,
    'shuffled': shuffled,
    'tokens': tokens,
    'channels last': channels_last,
    'branch on rank': branch_on_rank,
    'scale': lambda net, x: (x * net.scale + net.mean).relu_(),
    'in place': lambda net, x: net.mean.clone().add(1) * x.add_(1).mul_(2),
    'pools': lambda net, x: F.max_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 3, stride=2, padding=1),
    'resizing': lambda net, x: F.interpolate(F.pad(x, (1, 1, 0, 0)), scale_factor=2, mode='nearest'),
    'functional convolution': lambda net, x: F.conv2d(x, net.weight, padding=1),
    'functional norm': lambda net, x: F.batch_norm(x, net.last, net.last, net.last, net.last),
    'chunks': lambda net, x: torch.chunk(x, 2, dim=1)[1] - x.split(4, 1)[0],
    'softmax': lambda net, x: F.normalize(x.softmax(dim=-3), dim=1),
    'index': lambda net, x: x[..., 1:, ::2] * x[:, 0:1, 1:, ::2],
    'one row': lambda net, x: x[:, :, 0].unsqueeze(2),
    'stack': lambda net, x: torch.stack([x, -x], dim=2).flatten(1, 2),
    'unflatten': lambda net, x: x.unflatten(1, (2, 4)).sum(1),
    'squeeze': lambda net, x: x[:, :1].squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2),
    'roll': lambda net, x: torch.roll(x, (1, 2), dims=(2, 3)).flip(-1),
    'vectors': lambda net, x: x.view(x.size(0), -1)[:, 5:],
    'reshape': lambda net, x: x.reshape(x.shape[0], 8, -1).mean(1),
    'rows': lambda net, x: x.mean(2),
    'several': lambda net, x: {'map': x, 'list': [x * 2, 1]}['list'][0],
}


@pytest.mark.parametrize('name', PER_FRAME)
def test_every_frame(name):
    model = filled(Net(PER_FRAME[name]))
    network = mmext.inflate(model, image_size=SIZE)
    assert set(network.state_dict()) <= set(model.state_dict())
    clip = torch.randn(2, 3, FRAMES, SIZE, SIZE)
    (found,) = outputs(network, clip)
    frames = [outputs(model, frame)[0] for frame in clip.unbind(2)]
    assert_equal(found, torch.stack(frames, 2 if frames[0].ndim == 4 else 1))


# over time as well: one result for a clip
POOLED = {
    'mean': (lambda net, x: x.mean((2, 3)), lambda x: x.mean((2, 3, 4))),
    'mean, axes kept': (
        lambda net, x: torch.mean(x, [-1, -2], keepdim=True),
        lambda x: x.mean((2, 3, 4))[..., None, None],
    ),
    'maximum': (lambda net, x: torch.amax(x, (2, 3)), lambda x: x.amax((2, 3, 4))),
    'tokens': (lambda net, x: x.flatten(2).mean(-1), lambda x: x.mean((2, 3, 4))),
    'adaptive': (lambda net, x: F.adaptive_avg_pool2d(x, 1).flatten(1), lambda x: x.mean((2, 3, 4))),
    'adaptive maximum': (lambda net, x: F.adaptive_max_pool2d(x, (1, 1))[:, :, 0, 0], lambda x: x.amax((2, 3, 4))),
    'whole map': (lambda net, x: F.avg_pool2d(x, x.size()[2:]).flatten(1), lambda x: x.mean((2, 3, 4))),
    'excitation': (
        lambda net, x: (x * F.adaptive_avg_pool2d(x, 1)).mean((2, 3)),
        lambda x: (x * x.mean((2, 3, 4), keepdim=True)).mean((2, 3, 4)),
    ),
    'joined': (
        lambda net, x: torch.cat([x, F.interpolate(F.adaptive_avg_pool2d(x, 1), x.shape[2:])], 1).mean((2, 3)),
        lambda x: torch.cat([x.mean((2, 3, 4))] * 2, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', POOLED)
def test_over_time(name):
    function, expected = POOLED[name]
    model = filled(Net(function))
    network = mmext.inflate(model, image_size=SIZE)
    clip = torch.randn(2, 3, FRAMES, SIZE, SIZE)
    with torch.inference_mode():
        maps = torch.stack([model.conv(frame) for frame in clip.unbind(2)], 2)
        assert_equal(network(clip), expected(maps))
    assert_still_clips(model, network, torch.randn(2, 3, SIZE, SIZE))


LAYERS = {
    'padding of its own': nn.Conv2d(3, 4, 3, padding=1, padding_mode='reflect'),
    'uneven': nn.Conv2d(3, 4, 2, padding='same'),
    'transposed': nn.ConvTranspose2d(3, 4, 2, 2),
    'shuffle': nn.Sequential(nn.Conv2d(3, 8, 1), nn.ChannelShuffle(2), nn.PixelShuffle(2)),
    'small map': nn.AvgPool2d(3, 1, 1),
    'norms': nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.PReLU(8), nn.LocalResponseNorm(3)),
    'resizing': nn.Sequential(nn.ReflectionPad2d(2), nn.Upsample(scale_factor=2), nn.Identity(), nn.Softmax(1)),
}


@pytest.mark.parametrize('name', LAYERS)
def test_layers_on_every_frame(name):
    model = filled(nn.Sequential(LAYERS[name]))
    network = mmext.inflate(model, image_size=SIZE)
    clip = torch.randn(1, 3, FRAMES, SIZE, SIZE)
    (found,) = outputs(network, clip)
    assert_equal(found, torch.stack([outputs(model, frame)[0] for frame in clip.unbind(2)], 2))


def test_a_whole_map_is_pooled_over_time():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(SIZE), nn.Flatten(), nn.Linear(4, 5))
    network = mmext.inflate(model, image_size=SIZE)
    clip = torch.randn(2, 3, FRAMES, SIZE, SIZE)
    frames = torch.stack([model(frame) for frame in clip.unbind(2)])
    assert_equal(network(clip), frames.mean(0))


def test_row_wise_dropping_follows_the_mode():
    from torchvision.ops import StochasticDepth

    model = nn.Sequential(nn.Conv2d(3, 8, 1), StochasticDepth(1.0, 'row'), nn.Dropout2d(0.5)).eval()
    network = mmext.inflate(model, image_size=SIZE)
    clip = torch.randn(2, 3, FRAMES, SIZE, SIZE)
    assert network(clip).all()
    assert not network.train()(clip).any()


class StandardisedConv(nn.Conv2d):
    """A convolution with a forward of its own, which is traced."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def test_channels_of_a_convolution_that_is_traced():
    model = nn.Sequential(StandardisedConv(5, 8, 3), nn.Conv2d(8, 4, 1))
    network = mmext.inflate(model, image_size=SIZE)
    clip = torch.randn(1, 5, FRAMES, SIZE, SIZE)
    (found,) = outputs(network, clip)
    assert_equal(found, torch.stack([outputs(model, frame)[0] for frame in clip.unbind(2)], 2))


class Buffers(nn.Module):
    """Buffers of a module without a type that is known, of which one is in the state dict."""

    def __init__(self):
        super().__init__()
        self.register_buffer('kept', torch.rand(3, 1, 1))
        self.register_buffer('derived', torch.rand(3, 1, 1), persistent=False)

    def forward(self, x):
        return x * self.kept + self.derived


def test_buffers_stay_in_the_state_dict_or_out_of_it():
    for model in (Buffers(), nn.Sequential(Buffers())):
        network = mmext.inflate(model, image_size=SIZE)
        assert list(network.state_dict()) == list(model.state_dict())
