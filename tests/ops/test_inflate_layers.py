import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmext.ops import inflate as ops


def still(image, frames=5):
    return image[:, :, None].expand(-1, -1, frames, -1, -1)


def frames_of(layer, clip):
    """What a 2D layer gives for every frame: [N, C, T, H, W]."""
    return torch.stack([layer(frame) for frame in clip.unbind(2)], 2)


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


CONVS = {
    'plain': nn.Conv2d(4, 8, 3, padding=1),
    'strided, no bias': nn.Conv2d(4, 8, (7, 5), stride=2, padding=(3, 2), bias=False),
    'groups': nn.Conv2d(4, 8, 3, groups=4, dilation=2),
    'same': nn.Conv2d(4, 8, 3, padding='same', dilation=2),
    'valid': nn.Conv2d(4, 8, 2, padding='valid'),
}


@pytest.mark.parametrize('name', CONVS)
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(temporal_kernel=1),
        dict(temporal_kernel=5, temporal_padding=1),
        dict(temporal_stride=2, temporal_dilation=2),
        dict(mode='average', temporal_padding_mode='replicate'),
        dict(mode='average', temporal_kernel=2, temporal_padding=0),
    ],
)
def test_convolution_of_still_clips(name, options):
    conv = CONVS[name]
    image = torch.randn(2, 4, 9, 11)
    out = ops.inflate_conv(conv, **options)(still(image))
    close(out, conv(image)[:, :, None].expand_as(out))


def test_convolution_of_moving_clips():
    conv, clip = CONVS['plain'], torch.randn(1, 4, 5, 6, 6)
    close(ops.inflate_conv(conv, 3)(clip), frames_of(conv, clip))
    # averaged taps, worked out on the frames: the mean of the neighbours' results
    frames = frames_of(conv, torch.cat([clip[:, :, :1], clip, clip[:, :, -1:]], 2))
    mean = (frames[:, :, :-2] + frames[:, :, 1:-1] + frames[:, :, 2:]) / 3
    close(ops.inflate_conv(conv, 3, mode='average', temporal_padding_mode='replicate')(clip), mean)
    # with zeros beside the clip, the first frame lacks a third
    zeros = ops.inflate_conv(conv, 3, mode='average')(clip) - conv.bias[:, None, None, None]
    expected = (frames[:, :, 1:2] + frames[:, :, 2:3] - 2 * conv.bias[:, None, None, None]) / 3
    close(zeros[:, :, :1], expected)


def test_state_goes_over_and_is_not_shared():
    conv = nn.Conv2d(4, 8, 3, dtype=torch.float64).eval()
    conv.bias.requires_grad_(False)
    rng = torch.get_rng_state()
    new = ops.inflate_conv(conv)
    assert torch.equal(torch.get_rng_state(), rng)
    assert isinstance(new, ops.InflatedConv3d)
    assert not new.training
    assert new.weight.dtype == new.bias.dtype == torch.float64
    assert (new.weight.requires_grad, new.bias.requires_grad) == (True, False)
    assert list(new.state_dict()) == list(conv.state_dict())
    assert torch.equal(new.weight[:, :, 1], conv.weight)
    assert not new.weight[:, :, ::2].any()
    with torch.no_grad():
        new.bias.zero_()
        new.weight.zero_()
    assert conv.bias.all()
    assert conv.weight.any()
    norm = nn.BatchNorm2d(3)
    new = ops.inflate_batch_norm(norm)
    new.train()(torch.randn(2, 3, 2, 4, 4))
    assert not norm.running_mean.any()
    assert norm.num_batches_tracked == 0
    assert new.num_batches_tracked == 1


class Other(nn.Conv2d):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ('conv', 'options', 'message'),
    [
        (CONVS['plain'], dict(temporal_kernel=4), 'temporal_kernel=4 must be at least 1, and odd'),
        (CONVS['plain'], dict(temporal_kernel=0), 'temporal_kernel=0 must be an integer of at least 1'),
        (CONVS['plain'], dict(temporal_stride=0), 'temporal_stride=0 must be an integer of at least 1'),
        (CONVS['plain'], dict(temporal_dilation=1.5), r'temporal_dilation=1\.5 must be an integer'),
        (CONVS['plain'], dict(temporal_padding=2), 'temporal_padding=2 must be at most .* = 1; the middle'),
        (CONVS['plain'], dict(temporal_padding=-1), 'temporal_padding=-1 must be an integer of at least 0'),
        (CONVS['plain'], dict(mode='centre'), "mode='centre' is unknown; choose one of 'center', 'average'"),
        (CONVS['plain'], dict(temporal_padding_mode='x'), "temporal_padding_mode='x' is unknown"),
        (nn.Conv2d(3, 3, 3, padding_mode='reflect'), {}, "padding_mode='reflect' of the 2D convolution would also pad"),
        (nn.Conv2d(3, 3, 4, padding='same'), {}, "padding='same' with .* adds more pixels on one side"),
        (nn.LazyConv2d(3, 3), {}, 'LazyConv2d has no weight yet; run it on an input first'),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), {}, 'computes its weight .* remove that first'),
    ],
)
def test_wrong_convolutions(conv, options, message):
    with pytest.raises(ValueError, match=message):
        ops.inflate_conv(conv, **options)


@pytest.mark.parametrize(
    ('function', 'module', 'message'),
    [
        (ops.inflate_conv, Other(3, 3, 1), 'Other is no convolution with the forward of nn.Conv2d; run it on every fr'),
        (ops.inflate_conv, nn.Linear(3, 3), 'Linear is no convolution'),
        (ops.inflate_batch_norm, nn.BatchNorm1d(3), 'BatchNorm1d is no batch normalisation'),
        (ops.inflate_norm, nn.ReLU(), 'ReLU is no normalisation'),
        (ops.inflate_pool, nn.FractionalMaxPool2d(2, 2), 'FractionalMaxPool2d draws its windows at random'),
        (ops.inflate_pool, nn.MaxPool1d(2), 'MaxPool1d is no pooling layer'),
        (ops.inflate_activation, nn.Softmax(1), 'Softmax is no element-wise activation'),
        (ops.inflate_dropout, nn.ReLU(), 'ReLU is no dropout'),
        (ops.inflate_padding, nn.ZeroPad1d(2), 'ZeroPad1d is no padding layer'),
    ],
)
def test_wrong_types(function, module, message):
    with pytest.raises(TypeError, match=message):
        function(module)


def test_linear():
    linear = nn.Linear(6, 4)
    new = ops.inflate_linear(linear, 3)
    x = torch.randn(2, 3, 6)
    close(new(x.flatten(1)), linear(x).mean(1))
    same = x[:, :1].expand(-1, 3, -1)  # with equal frames the order does not matter, as all copies are the same
    close(new(same.flatten(1)), linear(x[:, 0]))
    other = new.weight.unflatten(1, (3, 6)).transpose(1, 2).flatten(1)
    close(F.linear(x.transpose(1, 2).flatten(1), other, new.bias), new(x.flatten(1)))
    with pytest.raises(ValueError, match='frames=0 must be an integer of at least 1'):
        ops.inflate_linear(linear, 0)


NORMS = {
    'batch': (nn.BatchNorm2d(8), nn.BatchNorm3d),
    'batch, plain': (nn.BatchNorm2d(8, affine=False, track_running_stats=False), nn.BatchNorm3d),
    'sync': (nn.SyncBatchNorm(8), nn.SyncBatchNorm),
    'instance': (nn.InstanceNorm2d(8, affine=True), nn.InstanceNorm3d),
    'group': (nn.GroupNorm(2, 8), nn.GroupNorm),
    'response': (nn.LocalResponseNorm(3), nn.LocalResponseNorm),
}


@pytest.mark.parametrize('name', NORMS)
def test_norms(name):
    norm, kind = NORMS[name]
    for value in norm.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    norm.eval()
    new = ops.inflate_norm(norm)
    assert type(new) is kind
    assert new is not norm
    assert not new.training
    image = torch.randn(2, 8, 5, 6)
    close(new(still(image)), still(norm(image)))
    assert all(torch.equal(value, norm.state_dict()[key]) for key, value in new.state_dict().items())


def test_batch_norm_of_moving_clips():
    norm = nn.BatchNorm2d(4).eval()
    norm.running_mean.normal_()
    clip = torch.randn(2, 4, 3, 5, 5)
    close(ops.inflate_batch_norm(norm)(clip), frames_of(norm, clip))


def test_layer_norm_over_channels():
    norm = nn.LayerNorm(8)
    image = torch.randn(2, 5, 6, 8)
    clip = image[:, None].expand(-1, 3, -1, -1, -1)
    close(ops.inflate_norm(norm)(clip), norm(image)[:, None].expand_as(clip))


POOLS = {
    'max': nn.MaxPool2d(3, 2, 1),
    'max, ceil': nn.MaxPool2d(3, 2, ceil_mode=True),
    'max, dilated': nn.MaxPool2d(2, 1, dilation=2),
    'average': nn.AvgPool2d(2),
    'average, padding': nn.AvgPool2d(3, 2, 1),
    'average, not counted': nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    'average, divisor': nn.AvgPool2d((3, 2), divisor_override=4),
    'power': nn.LPPool2d(2, 2),
}


@pytest.mark.parametrize('name', POOLS)
def test_pools(name):
    pool = POOLS[name]
    clip = torch.rand(2, 3, 4, 7, 8)
    close(ops.inflate_pool(pool)(clip), frames_of(pool, clip))
    kernels = [dict(temporal_kernel=2), dict(temporal_kernel=3, temporal_stride=1)] if name != 'power' else []
    if 'average, p' not in name and 'divisor' not in name and name != 'power':
        kernels.append(dict(temporal_kernel=3, temporal_stride=2, temporal_padding=1))
    for options in kernels:
        out = ops.inflate_pool(pool, **options)(still(clip[:, :, 0]))
        close(out, pool(clip[:, :, 0])[:, :, None].expand_as(out))


def test_pools_along_time():
    clip = torch.rand(1, 2, 4, 6, 6)
    out = ops.inflate_pool(nn.MaxPool2d(2), 3, 2, 1)(clip)
    frames = frames_of(nn.MaxPool2d(2), clip)
    close(out, torch.stack([frames[:, :, :2].amax(2), frames[:, :, 1:].amax(2)], 2))
    out = ops.inflate_pool(nn.AvgPool2d(2), 3, 2, 1)(clip)
    frames = frames_of(nn.AvgPool2d(2), clip)
    close(out, torch.stack([frames[:, :, :2].mean(2), frames[:, :, 1:].mean(2)], 2))
    out = ops.inflate_pool(nn.AdaptiveAvgPool2d((3, 1)))(clip)
    close(out, frames_of(nn.AdaptiveAvgPool2d((3, 1)), clip).mean(2, keepdim=True))
    out = ops.inflate_pool(nn.AdaptiveMaxPool2d(2))(clip)
    close(out, frames_of(nn.AdaptiveMaxPool2d(2), clip).amax(2, keepdim=True))


@pytest.mark.parametrize(
    ('pool', 'options', 'message'),
    [
        (nn.MaxPool2d(2), dict(temporal_kernel=0), 'temporal_kernel=0 must be an integer of at least 1'),
        (nn.MaxPool2d(2), dict(temporal_stride=0), 'temporal_stride=0 must be'),
        (nn.MaxPool2d(2), dict(temporal_kernel=3, temporal_padding=2), 'at most temporal_kernel // 2 = 1'),
        (nn.MaxPool2d(2, return_indices=True), {}, 'places in a picture are none in a clip'),
        (
            nn.AvgPool2d(3, 1, 1),
            dict(temporal_kernel=3, temporal_padding=1),
            'one is not to be counted and the other is',
        ),
        (POOLS['average, divisor'], dict(temporal_kernel=3, temporal_padding=1), 'hangs over the end of the clip'),
        (POOLS['power'], dict(temporal_kernel=2), 'LPPool2d adds up what it sees'),
    ],
)
def test_wrong_pools(pool, options, message):
    with pytest.raises(ValueError, match=message):
        ops.inflate_pool(pool, **options)


@pytest.mark.parametrize(
    'pad',
    [nn.ZeroPad2d((1, 2, 0, 1)), nn.ConstantPad2d(1, 3.5), nn.ReflectionPad2d(2), nn.ReplicationPad2d(1),
     nn.CircularPad2d((1, 1, 2, 0))],
)  # fmt: skip
def test_padding(pad):
    clip = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(ops.inflate_padding(pad)(clip), frames_of(pad, clip))


def test_activations_and_dropout():
    clip = torch.randn(1, 3, 4, 5, 5)
    for layer in (nn.ReLU(inplace=True), nn.Hardswish(), nn.PReLU(3)):
        new = ops.inflate_activation(layer)
        assert type(new) is type(layer)
        assert new is not layer
        assert torch.equal(new(clip.clone()), frames_of(layer, clip.clone()))
    new = ops.inflate_dropout(nn.Dropout2d(0.25).eval())
    assert isinstance(new, nn.Dropout3d)
    assert (new.p, new.training) == (0.25, False)
    dropped = ops.inflate_dropout(nn.Dropout2d(0.5))(torch.ones(8, 16, 3, 2, 2))
    per_channel = dropped.flatten(2)
    assert torch.equal(per_channel, per_channel[:, :, :1].expand_as(per_channel))
    assert isinstance(ops.inflate_dropout(nn.Dropout(0.1)), nn.Dropout)


def test_a_divisor_of_ones_own_where_windows_hang_over_the_image():
    """One frame a window: that no window hangs over the clip's end is what counts."""
    pool = nn.AvgPool2d(2, ceil_mode=True, divisor_override=3)
    clip = torch.rand(1, 2, 3, 5, 5)
    new = ops.inflate_pool(pool, 1)
    torch.testing.assert_close(new(clip), torch.stack([pool(frame) for frame in clip.unbind(2)], 2))
    with pytest.raises(ValueError, match='divisor_override=3'):
        ops.inflate_pool(nn.AvgPool2d(1, ceil_mode=True, divisor_override=3), 2)
