"""Legal ways to write the functions that mmext.inflate knows, by what they do on a clip.

Each line is an expression of ``x``, a feature map [N, 8, 6, 5], and of ``net``, which has parameters and buffers:
``scale`` [8, 1, 1], ``last`` [5], ``eight`` [8], ``weight`` [4, 8, 3, 3], ``square`` [5, 5], ``mean`` [1, 8, 1, 1].
"""

PARAMETERS = {
    'scale': (8, 1, 1),
    'last': (5,),
    'eight': (8,),
    'weight': (4, 8, 3, 3),
    'square': (5, 5),
    'mean': (1, 8, 1, 1),
    'out': (2, 8, 6, 5),
}

# every frame of a clip becomes what its picture becomes
FRAMES = """
    x.var(1)
    x.var(1, False)
    x.var(1, True)
    x.var((1,), False)
    x.var([1], unbiased=False)
    x.var(dim=1, unbiased=False)
    x.var(1, False, True)
    x.var(1, keepdim=True)
    x.var(dim=1, correction=0)
    x.var(dim=1, correction=2, keepdim=True)
    x.var(1, correction=0)
    x.var(axis=1)
    x.var(-1, False)
    torch.var(x, 1, False)
    torch.var(x, dim=(1, 2), unbiased=False)
    torch.var(input=x, dim=1, correction=0)
    torch.var(x, [-1, 1], False, True)
    x.std(1, False, True)
    x.std(1, False)
    x.std((1, 2), True)
    x.std(dim=-2, correction=0)
    torch.std(x, 1, False)
    torch.std(x, 1, unbiased=False, keepdim=True)
    torch.std(x, dim=1, correction=0.5)
    x.mean(1)
    x.mean(1, True)
    x.mean(dim=[1], keepdim=True)
    x.mean((1, 2))
    x.mean(axis=1, keepdims=True)
    x.mean(-1, dtype=torch.float64)
    torch.mean(x, 1)
    torch.mean(x, (1,), True)
    torch.mean(x, dim=1, keepdim=False, dtype=torch.float64)
    x.mean(2, True).sigmoid().mean(3)
    x.sum(1)
    x.sum((1, 2), True)
    x.sum(dim=1, dtype=torch.float64)
    x.sum(1, keepdim=True)
    torch.sum(x, 1)
    torch.sum(x, [1, -1], keepdim=True)
    torch.sum(x, axis=-1)
    x.amax(1)
    x.amax(1, True)
    x.amax(dim=(1, 2))
    torch.amax(x, 1, keepdim=True)
    torch.amax(x, dim=-1)
    x.amin(1)
    x.amin((1, 3), True)
    torch.amin(x, 1)
    torch.amin(x, dim=2, keepdim=True)
    x.max(1)[0]
    x.max(1, True)[0]
    x.max(dim=1, keepdim=True)[1]
    x.max(1).values
    x.max(-1).indices
    torch.max(x, 1)[0]
    torch.max(x, dim=2, keepdim=True).values
    torch.max(x, -x)
    torch.max(x, other=net.scale)
    x.max(net.mean)
    x.min(1)[0]
    x.min(1, keepdim=True).indices
    torch.min(x, 1, True)[0]
    torch.min(x, net.scale)
    x.argmax(1)
    x.argmax(1, True)
    x.argmax(dim=-1, keepdim=True)
    torch.argmax(x, 1)
    torch.argmax(x, dim=2, keepdim=True)
    x.argmin(1)
    torch.argmin(x, 1, True)
    x.prod(1)
    x.prod(dim=1, keepdim=True)
    torch.prod(x, 1)
    torch.prod(x, -1, True, dtype=torch.float64)
    x.logsumexp(1)
    x.logsumexp((1, 2), True)
    torch.logsumexp(x, 1)
    torch.logsumexp(x, dim=[1, 3], keepdim=True)
    x.flip(2, 3)
    x.flip(1)
    x.flip(-1)
    x.flip((2, 3))
    x.flip([3])
    x.flip(dims=(1, 2))
    torch.flip(x, (2, 3))
    torch.flip(x, [1])
    torch.flip(x, dims=(-1,))
    x.roll(1, 2)
    x.roll((1, 2), (2, 3))
    x.roll(shifts=1, dims=-1)
    x.roll([1], [1])
    torch.roll(x, 1, 3)
    torch.roll(x, (1, 2), dims=(2, 3))
    torch.roll(x, shifts=2, dims=1)
    x.cumsum(1)
    x.cumsum(dim=-1, dtype=torch.float64)
    x.cumsum_(2)
    x.cumsum_(dim=1)
    torch.cumsum(x, 1)
    torch.cumsum(x, dim=3)
    x.softmax(1)
    x.softmax(-1, torch.float64)
    x.softmax(dim=2, dtype=torch.float64)
    torch.softmax(x, 1)
    torch.softmax(x, dim=-3, dtype=torch.float64)
    F.softmax(x, 1)
    F.softmax(x, dim=-1, dtype=torch.float64)
    F.softmax(input=x, dim=1, _stacklevel=5)
    F.softmin(x, 1)
    F.softmin(x, dim=-1)
    x.log_softmax(1)
    x.log_softmax(dim=-1, dtype=torch.float64)
    torch.log_softmax(x, 1)
    F.log_softmax(x, 1)
    F.log_softmax(x, dim=2, dtype=torch.float64)
    F.glu(x, 1)
    F.glu(x, dim=2)
    F.glu(x[..., :4])
    F.normalize(x)
    F.normalize(x, 1, 2)
    F.normalize(x, p=1.0, dim=-1)
    F.normalize(x, 2.0, 1, 0.5)
    F.normalize(x, dim=(1, 2), eps=0.5)
    x.chunk(2, 1)[1]
    x.chunk(2, dim=-1)[0]
    x.chunk(chunks=3, dim=2)[2]
    torch.chunk(x, 2, 1)[0]
    torch.chunk(input=x, chunks=2, dim=1)[1]
    x.chunk(4, 1)[1:][-1]
    x.split(4, 1)[1]
    x.split([3, 5], 1)[1]
    x.split(split_size=2, dim=2)[0]
    x.split(x.size(1) // 2, dim=1)[1]
    torch.split(x, 3, 1)[2]
    torch.split(x, [2, 6], dim=1)[0]
    torch.split(x, split_size_or_sections=2, dim=-1)[2]
    torch.cat([x, -x], 1)
    torch.cat((x, -x), dim=-1)
    torch.cat(tensors=[x, x + 1], dim=1)
    torch.cat([x, -x], axis=1)
    torch.cat([x, -x])
    torch.concat([x, -x], 2)
    torch.concatenate([x, -x], dim=1)
    torch.cat([x, net.mean.expand(x.size(0), 8, 6, 5)], 1)
    torch.stack([x, -x], 1)
    torch.stack((x, -x), dim=2).sum(2)
    torch.stack(tensors=(x, -x), dim=-1)
    x.flatten(1)
    x.flatten(2)
    x.flatten(1, 2)
    x.unsqueeze(1).flatten(1, 2)
    x.unflatten(1, (2, 4)).flatten(1, 2)
    x.flatten(start_dim=2, end_dim=3)
    x.flatten(-2)
    x.flatten(end_dim=-1, start_dim=1)
    torch.flatten(x, 1)
    torch.flatten(x, start_dim=2)
    torch.flatten(x, 1, -2)
    torch.flatten(input=x, start_dim=1, end_dim=-1)
    x.permute(0, 2, 3, 1)
    x.permute((0, 1, 3, 2))
    x.permute(dims=[0, 3, 1, 2])
    x.permute(0, -1, 1, -2)
    torch.permute(x, (0, 2, 3, 1))
    torch.permute(x, dims=(0, 2, 3, 1))
    x.transpose(1, 2)
    x.transpose(-1, -2)
    x.transpose(dim0=1, dim1=3)
    x.transpose_(1, 2)
    torch.transpose(x, 1, 2)
    torch.transpose(x, dim0=-1, dim1=1)
    x.swapaxes(1, 2)
    x.swapaxes(axis0=2, axis1=3)
    x.swapdims(1, -1)
    torch.swapaxes(x, 1, 2)
    torch.swapaxes(x, axis0=1, axis1=2)
    torch.swapdims(x, dim0=1, dim1=2)
    x.reshape(x.shape[0], -1)
    x.reshape((x.size(0), 4, 2, -1))
    x.reshape(shape=(x.size(0), -1, 5))
    x.reshape([x.shape[0], 2, 4, 6, 5])
    torch.reshape(x, (x.shape[0], -1))
    torch.reshape(x, shape=(-1, 8, 30))
    x.view(x.size(0), -1)
    x.view((x.size(0), 8, -1))
    x.view(size=(x.size(0), 4, 2, 6, 5))
    x.view(x.size())
    x.view(x.shape)
    x.view(-1, *x.shape[1:])
    x.view(-1, 240)
    x.view(x.size(0), 2, 4, 6, 5).transpose(1, 2).reshape(x.size(0), -1, 6, 5)
    x.view(x.size(0), 16, 15).mean(2)
    x.view(x.size(0), 48, 5).mean(2)
    x[:, :, :1].reshape(x.size(0), 1, 8, 5)
    x.unflatten(1, (2, 4))
    x.unflatten(dim=1, sizes=(4, -1))
    x.unflatten(-2, [3, 2])
    torch.unflatten(x, 1, (2, 4))
    torch.unflatten(x, dim=2, sizes=(2, 3))
    x.unflatten(1, (2, 4)).sum(2)
    x.unflatten(3, (1, 5)).sum(1)
    x.unflatten(2, (2, 3)).softmax(1)
    x.unsqueeze(1)
    x.unsqueeze(dim=-1)
    x.unsqueeze_(2)
    torch.unsqueeze(x, 2)
    torch.unsqueeze(x, dim=3)
    x[:, :1].squeeze(1)
    x[:, :1].squeeze()
    x[:, :1, :, :1].squeeze((1, 3))
    x[:, :1, :, :1].squeeze(1, 3)
    x[..., :1].squeeze(dim=-1)
    x[:, :1].squeeze_(1)
    x.squeeze(1)
    torch.squeeze(x[:, :1], 1)
    torch.squeeze(x[:, :1, :1], dim=(1, 2))
    torch.squeeze(x[:, :1])
    x * x.size(1)
    x * x.size(dim=-1)
    x.add(x.size()[2])
    x.reshape(x.size(0), x.size(1) * x.size(2), x.size(3))
    x * x.dim()
    x * x.ndim
    x / x.shape[-1]
    x * len(x.shape)
    x[:, 0]
    x[:, -1:]
    x[..., 0]
    x[:, :, 1:, ::2]
    x[:, 1:x.size(1) // 2]
    x[:, :, 0, 0]
    x[:]
    x[...]
    F.max_pool2d(x, 2)
    F.max_pool2d(x, (2, 3), (1, 2))
    F.max_pool2d(x, 3, 2, 1, 1, True)
    F.max_pool2d(x, kernel_size=3, stride=2, padding=1, ceil_mode=True)
    F.max_pool2d(x, 2, dilation=2)
    F.max_pool2d(x, (6, 5))
    x.mean(3).sigmoid().amax(2)
    x.flatten(2).unflatten(2, (6, 5)).mean(3)
    x.reshape(x.size(0), 8, 3, -1).amax(2)
    F.max_pool2d(input=x, kernel_size=2, return_indices=False)
    F.max_pool2d(x, 3, 2, return_indices=True)[1]
    F.max_pool2d_with_indices(x, 2)[0]
    torch.max_pool2d(x, 2, stride=1)
    F.lp_pool2d(x, 2, 2)
    F.lp_pool2d(x, norm_type=1, kernel_size=3, stride=2, ceil_mode=True)
    F.avg_pool2d(x, 2)
    F.avg_pool2d(x, (6, 3))
    F.avg_pool2d(x, 3, 2, 1, True, False)
    F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
    F.avg_pool2d(x, 3, 2, ceil_mode=True)
    F.avg_pool2d(x, (2, 2), divisor_override=3)
    F.avg_pool2d(x, kernel_size=x.size(3) - 2)
    F.avg_pool2d(x, (6, 5), padding=(3, 2))
    F.avg_pool2d(x, (6, 5), 7, padding=(2, 1))
    F.avg_pool2d(x[:, :, :1, :1], 1)
    F.adaptive_avg_pool2d(x, 1) * 0 + x
    F.interpolate(x, scale_factor=2)
    F.interpolate(x, (7, 9), mode='bilinear', align_corners=True)
    F.interpolate(x, size=(4, 3), mode='bilinear', antialias=True)
    F.interpolate(x, None, 1.5, 'bicubic', False, True)
    F.interpolate(x, size=x.shape[2:], mode='area')
    F.upsample(x, scale_factor=2)
    F.upsample_nearest(x, scale_factor=2)
    F.upsample_bilinear(x, (9, 9))
    F.pad(x, (1, 2))
    F.pad(x, (1, 1, 2, 0), 'reflect')
    F.pad(x, pad=(1, 1), mode='constant', value=3.0)
    F.pad(x, (0, 0, 0, 0, 1, 2))
    F.pixel_shuffle(x, 2)
    F.pixel_unshuffle(x[:, :, :, :4], downscale_factor=2)
    torch.pixel_shuffle(x, upscale_factor=2)
    F.channel_shuffle(x, 4)
    torch.channel_shuffle(x, groups=2)
    F.unfold(x, 3)
    F.unfold(x, kernel_size=2, dilation=2, padding=1, stride=2)
    x.unfold(2, 2, 2)
    x.unfold(dimension=3, size=3, step=1)
    F.grid_sample(x, torch.stack([x[:, 0], x[:, 1]], -1), align_corners=False)
    F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), 'nearest', 'border', True)
    F.conv2d(x, net.weight)
    F.conv2d(x, net.weight, None, 2, 1)
    F.conv2d(x, net.weight, padding='same')
    torch.conv2d(x, net.weight[:, :4], groups=2, dilation=2)
    F.conv_transpose2d(x, net.weight.transpose(0, 1), stride=2, output_padding=1)
    torch.conv_transpose2d(x, net.weight.transpose(0, 1), None, 2, 1)
    F.batch_norm(x, net.eight, net.eight)
    F.batch_norm(x, net.eight, net.eight, net.eight, net.eight, False, 0.1, 0.5)
    F.batch_norm(x, running_mean=net.eight, running_var=net.eight, eps=1.0)
    torch.batch_norm(x, net.eight, net.eight, net.eight, net.eight, False, 0.1, 1.0, False)
    F.local_response_norm(x, 3)
    F.local_response_norm(x, size=3, alpha=1.0, beta=0.5, k=2.0)
    F.prelu(x, net.eight)
    F.prelu(input=x, weight=net.eight[:1])
    torch.prelu(x, net.eight)
    x.prelu(net.eight)
    F.dropout2d(x, 0.5, False)
    F.dropout2d(x, p=1.0)
    F.dropout2d(x, 0.5, training=False, inplace=True)
    F.dropout2d(x, training=False)
    F.dropout2d(x, 1.0, True, True)
    torch.feature_dropout(x, 0.5, False)
    torch.feature_dropout(x, p=1.0, train=True)
    torch.feature_dropout_(x, 1.0, True)
    F.feature_alpha_dropout(x, 0.5)
    torch.feature_alpha_dropout(x, 0.5, False)
    F.dropout(x, 0.5, False)
    F.dropout(x, p=1.0, training=True, inplace=True)
    torch.dropout(x, 0.5, False)
    torch.dropout_(x, 1.0, train=True)
    F.alpha_dropout(x, 0.5)
    F.alpha_dropout(x, p=0.5, training=False)
    F.layer_norm(x, (5,))
    F.layer_norm(x, x.shape[-1:], net.last, net.last, 0.5)
    F.layer_norm(x, normalized_shape=[6, 5], eps=1.0)
    F.layer_norm(x, x.shape[1:])
    F.layer_norm(x, x.size()[2:], weight=None)
    F.layer_norm(input=x, normalized_shape=(8, 6, 5))
    torch.layer_norm(x, (5,), net.last, eps=0.5)
    F.layer_norm(x.permute(0, 2, 3, 1), (8,), net.eight).permute(0, 3, 1, 2)
    F.linear(x, net.square)
    F.linear(x, net.square, net.last)
    F.linear(input=x, weight=net.square, bias=net.last)
    F.relu(x)
    F.relu(x, True)
    F.relu(x, inplace=True)
    F.relu_(x)
    torch.relu(x)
    torch.relu_(x)
    x.relu()
    x.relu_()
    F.relu6(x)
    F.relu6(x, inplace=True)
    F.leaky_relu(x, 0.3)
    F.leaky_relu(x, negative_slope=0.3, inplace=True)
    F.leaky_relu_(x, 0.2)
    F.elu(x, 0.5)
    F.elu(x, alpha=2.0, inplace=True)
    F.celu(x, 0.5)
    torch.celu_(x, 0.5)
    F.selu(x, True)
    torch.selu(x)
    F.gelu(x)
    F.gelu(x, approximate='tanh')
    F.hardtanh(x, -0.5, 0.5)
    F.hardtanh_(x, min_val=-0.1, max_val=0.2)
    F.hardswish(x)
    F.hardswish(x, inplace=True)
    F.hardsigmoid(x)
    F.hardshrink(x, 0.3)
    x.hardshrink(0.2)
    F.softshrink(x, lambd=0.3)
    F.tanhshrink(x)
    F.softplus(x, 2, 0.5)
    F.softplus(x, beta=3)
    F.softsign(x)
    F.logsigmoid(x)
    F.sigmoid(x)
    F.tanh(x)
    F.silu(x)
    F.silu(x, inplace=True)
    F.mish(x)
    F.rrelu(x, 0.2, 0.2)
    F.threshold(x, 0.1, 20)
    F.threshold(x, threshold=0.1, value=2, inplace=True)
    x.sigmoid()
    x.sigmoid_()
    torch.sigmoid(x)
    x.tanh()
    torch.tanh_(x)
    x.abs()
    abs(x)
    x.exp()
    torch.exp(x)
    x.abs().log()
    x.abs().sqrt_()
    x.rsqrt()
    x.reciprocal()
    x.sin() + torch.cos(x)
    x.erf()
    x.sign()
    x.square()
    x.neg()
    -x
    x.add(1)
    x.add(x, alpha=2)
    x.add_(net.scale, alpha=0.5)
    torch.add(x, x, alpha=3)
    torch.add(x, other=net.mean)
    x + 1
    1 + x
    x.__add__(1)
    x += 1
    x += net.scale
    x.sub(1)
    x.sub(net.scale, alpha=2)
    torch.sub(x, 1, alpha=2)
    torch.subtract(x, net.scale)
    x.subtract_(1)
    x - net.scale
    1 - x
    torch.rsub(x, 2)
    x -= 2
    x.mul(2)
    x.mul_(net.scale)
    torch.mul(x, net.last)
    x.multiply(2)
    x.__mul__(2)
    x * net.scale
    x *= 2
    x.div(2)
    x.div(2, rounding_mode='floor')
    torch.div(x, net.scale + 1, rounding_mode='trunc')
    x.div_(2)
    x / (net.scale + 1)
    1 / x
    x /= 2
    x // 0.3
    x.true_divide(2)
    x.pow(2)
    torch.pow(x, exponent=2)
    x ** 2
    2 ** x
    x.square_()
    x.clamp(0, 1)
    x.clamp(min=0.2)
    x.clamp_(max=0.1)
    x.clamp(net.scale, net.scale + 1)
    torch.clamp(x, min=-0.5, max=0.5)
    x.clip(0, 1)
    x.clamp_min(0.1)
    torch.clamp_max_(x, 0.1)
    torch.maximum(x, net.scale)
    torch.minimum(x, net.mean)
    torch.where(x > 0, x, 0.5)
    torch.where(x > 0, x, net.scale)
    x.where(x < 0, net.mean)
    x.masked_fill(x > 0, 2.0)
    x.masked_fill_(x.ge(0), value=-1)
    x.masked_fill(net.scale > 0.5, 0)
    torch.lerp(x, x + 1, 0.3)
    x.lerp(x * 2, net.scale)
    torch.addcmul(x, x, net.scale.expand_as(x), value=0.5)
    x.addcmul_(x, x, value=2)
    x.eq(0)
    x.ne(0) * x.le(0.2)
    (x >= 0.1) == (x < 0.3)
    x.gt(net.scale)
    torch.lt(x, 0.1)
    x.clone()
    x.clone(memory_format=torch.channels_last)
    x.contiguous()
    x.contiguous(memory_format=torch.channels_last) * 2
    x.to(memory_format=torch.channels_last)
    x.detach()
    x.requires_grad_(False)
    x.to(torch.float64)
    x.to(dtype=torch.float64, copy=True)
    x.to(x.device, torch.float64)
    x.to('cpu')
    x.to(net.scale)
    x * net.scale.to(x)
    x * net.scale.type_as(x)
    x + net.mean.to(dtype=x.dtype, device=x.device)
    x.type(torch.float64)
    x.type_as(net.scale)
    x.float()
    x.double()
    x.half()
    x.bfloat16()
    x.cpu()
    net.scale.expand_as(x) + x
    x.expand_as(x)
    torch.zeros_like(x)
    torch.ones_like(x, dtype=torch.float64)
    torch.full_like(x, 2.0)
    x.mean(1, keepdim=True).expand_as(x)
    x.bernoulli(p=1.0)
    x * x.is_floating_point()
    x.add(x.get_device())
    torch.is_floating_point(x) * x
    x[:, :8].add_(1)
    x[:, 1:3].add_(1).sum(1) + x.sum(1)
    x.view(x.shape).add_(1) * x
    x.chunk(2, 1)[0].relu_() + x[:, :4]
    x.mul(2).add_(x)
"""

# over time as well: means of what pictures give
MEANS = """
    x.mean((2, 3))
    x.mean([2, 3], True)
    x.mean((-1, -2), keepdim=True)
    x.mean(dim=(2, 3))
    x.mean((1, 2, 3))
    x.mean(axis=(3, 2), keepdims=True)
    x.mean((2, 3), dtype=torch.float64)
    torch.mean(x, (2, 3), True)
    torch.mean(x, dim=[-2, -1], keepdim=False)
    x.flatten(2).mean(2)
    x.flatten(2).mean(-1, True)
    x.view(x.size(0), 8, -1).mean(dim=2)
    x.flatten(2).transpose(1, 2).mean(1)
    x.permute(0, 2, 3, 1).reshape(x.size(0), 30, 8).mean(1)
    x.reshape(x.size(0), 8, 1, -1).mean(3)
    x.view(x.size(0), 2, 4, 6, 5).mean((-1, -2))
    x.mean(3).mean(2)
    x.mean(3, True).squeeze(3).mean(2)
    x.mean(-1).contiguous().transpose(1, 2).mean(1)
    x.flatten(2).unflatten(2, (6, 5)).mean(3).mean(2)
    x.flatten(2).unflatten(2, (1, 6, 5)).mean((2, 3, 4))
    x.reshape(x.size(0), 8, 3, -1).mean(-1).mean(-1)
    x.mean(2, True).mean(3, keepdim=True)
    x.mean(-1).mean(-1)
    x.amax(3).mean(2)
    x.sum(3, True).flatten(2).mean(2)
    x.sum(1).mean((1, 2))
    x.std(3).mean(2)
    x.permute(0, 2, 3, 1).mean((1, 2))
    F.avg_pool2d(x, (6, 5))
    F.avg_pool2d(x, [6, 5], 1)
    F.avg_pool2d(x[:, :, :1, :1], x[:, :, :1, :1].shape[2:])
    F.avg_pool2d(x, (x.size(2), x.size(3)))
    F.avg_pool2d(x, x.shape[2:])
    F.avg_pool2d(x, x.shape[-2:], stride=1)
    F.avg_pool2d(x, x.size()[2:])
    F.avg_pool2d(x, kernel_size=(x.size(2), x.size(3)))
    F.avg_pool2d(x, [x.shape[-2], x.shape[-1]]).flatten(1)
    F.avg_pool2d(x[:, :, 1:], kernel_size=x.shape[-1])
    F.avg_pool2d(x[:, :, 1:], x.size(3))
    F.avg_pool2d(x[:, :, 1:], 5)
    F.avg_pool2d(x[:, :, 1:], (5,))
    F.avg_pool2d(input=x, kernel_size=x.shape[2:], ceil_mode=True, divisor_override=7)
    torch.nn.functional.avg_pool2d(x, tuple(x.shape[-2:]))
    F.adaptive_avg_pool2d(x, 1)
    F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)
    F.adaptive_avg_pool2d(x, output_size=(2, None))
    F.adaptive_avg_pool2d(input=x, output_size=[3, 1])
    F.adaptive_avg_pool2d(x, x.shape[-2:])
    F.adaptive_avg_pool2d(x, x.size(3) - 3)
"""

# over time as well: maxima, or minima
MAXIMA = """
    x.amax(3).amax(2)
    x.mean(3).amax(2)
    x.amax(2, True).amax(dim=3, keepdim=True)
    torch.amax(torch.amax(x, -1).clone(), -1)
    F.max_pool2d(x, x.shape[2:])
    F.max_pool2d(x[..., :5, :], x.size(-1))
    torch.max_pool2d(x, kernel_size=(x.size(2), x.size(3)))
    F.max_pool2d(x, x.shape[-2:], return_indices=False).flatten(1)
    x.amax((2, 3))
    x.amax([-1, -2], True)
    torch.amax(x, (2, 3))
    torch.amax(x, dim=(1, 2, 3), keepdim=True)
    x.flatten(2).amax(-1)
    F.adaptive_max_pool2d(x, 1)
    F.adaptive_max_pool2d(x, (1, 1), False)
    F.adaptive_max_pool2d(x, output_size=(2, 1), return_indices=False)
"""
MINIMA = """
    x.amin(3).amin(2)
    x.amin((2, 3))
    torch.amin(x, dim=[2, 3], keepdim=True)
"""

# with statistics over a clip: as if its frames stood one above the other in a picture
OVER_FRAMES = """
    F.group_norm(x, 2)
    F.group_norm(x, num_groups=4, weight=net.eight, bias=net.eight, eps=0.5)
    torch.group_norm(x, 2, net.eight, net.eight, 0.5, False)
    F.instance_norm(x)
    F.instance_norm(x, weight=net.eight, bias=net.eight, eps=0.5)
    F.batch_norm(x, None, None, training=True)
    F.batch_norm(x, None, None, net.eight, net.eight, True, 0.2, 0.5)
"""

# other values on each call: of the right shape
RANDOM = """
    F.dropout(x)
    F.dropout(x, 0.3, training=True)
    x.bernoulli(0.3)
    torch.bernoulli(x.sigmoid())
    F.dropout2d(x)
    F.dropout2d(x, p=0.3, inplace=True)
    torch.feature_dropout(x, 0.5, True)
    F.alpha_dropout(x, 0.5, True)
    F.feature_alpha_dropout(x, 0.5, True)
    F.rrelu(x, training=True)
    torch.rand_like(x)
    torch.randn_like(x, dtype=torch.float64)
    torch.empty_like(x)
"""

# said at once, and what the message says after the name of the function
REFUSED = {
    'x.max(3)[0].max(2)[0]': 'is over a whole picture, and not the same over a',
    'x.max(3).values.max(2).values': 'is over a whole picture, and not the same over a',
    'x.amin(3).min(dim=2)[0]': 'is over a whole picture, and not the same over a',
    'x.sum(3).sum(2) / 30': 'is over a whole picture, and not the same over a',
    'F.lp_pool2d(x, 2, x.shape[2:])': 'is over a whole picture, and not the same over a static clip',
    'F.max_pool2d(x, x.shape[2:], return_indices=True)[0]': 'is over a whole picture with return_indices=True',
    "F.interpolate(x, 1, mode='area')": r'averages a whole picture; use torch\.nn\.functional\.adaptive_avg_pool2d',
    "F.interpolate(x, (1, 1), None, 'area')": 'averages a whole picture',
    'x.mean()': 'names no axis; give dim',
    'x.mean(0)': 'works along the batch',
    'x.mean((0, 2))': 'works along the batch',
    'x.sum()': 'names no axis; give dim',
    'x.sum((2, 3))': 'is over a whole picture, and not the same over a static clip',
    'x.var((2, 3), False)': 'is over a whole picture',
    'torch.std(x)': 'names no axis; give dim',
    'x.var(False)': 'names no axis',
    'x.max()': 'names no axis',
    'x.argmax()': 'names no axis',
    'x.max(0)[0]': 'works along the batch',
    'x.flip(0)': 'works along the batch',
    'x.flip(0, 1)': 'works along the batch',
    'torch.roll(x, 1)': 'names no axis',
    'torch.roll(x, 1, 0)': 'works along the batch',
    'x.chunk(2)[0]': 'works along the batch',
    'x.split(1)[0]': 'works along the batch',
    'F.softmax(x)': 'names no axis; give dim',
    'x.softmax(0)': 'works along the batch',
    'x.mean(x.dim() - 1)': 'gets its axes from a computation',
    'torch.mean(x, 1, out=net.out[:, 0])': 'writes into out',
    'torch.add(x, 1, out=net.out)': 'writes into out',
    'F.normalize(x, 2.0, 1, 1e-12, net.out)': 'writes into out, which is not known for clips; use what it returns',
    'x.view(torch.int32)': r'is called with dtype=torch\.int32, which is not known for clips; leave dtype out',
    'F.adaptive_max_pool2d(x, 1, True)[0]': 'is called with return_indices=True, which has no 3D form; leave',
    'F.adaptive_max_pool2d(x, 1, return_indices=True)[1]': 'is called with return_indices=True',
    'x.flatten()': 'joins the batch with other axes',
    'torch.flatten(x, 0, 1)': 'joins the batch with other axes',
    'x.view(-1)': 'without the batch as its first axis',
    'x.reshape(-1, 30)': 'without the batch as its first axis',
    'x.unflatten(0, (1, -1))': 'splits the batch',
    'x.unsqueeze(0)': 'puts an axis in front of the batch',
    'x[0]': 'takes one sample out of the batch',
    'x[0, :, 1]': 'takes one sample out of the batch',
    'x[x > 0]': 'indexes by something else',
    'x[None]': 'indexes by something else',
    'x[:, [0, 1]]': 'indexes by something else',
    'x.T': "asks for 'T', which is not known for clips",
    'torch.where(x > 0)[0]': 'does not give one value for each element',
    'torch.cat(x.chunk(2, 1), 1)': 'gets its tensors or its axis from a computation',
    'F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))': 'the batch as its first axis',
    'F.affine_grid(x[:, :2, 0, :3], x.shape)': 'does not run on clips',
    'x.view(x.size(0), -1).add_(1)[:, 0] * x[:, 0, 0, 0]': 'writes in place into a tensor that is used afterwards',
    'x.flatten(1).relu_()[:, 0] * x[:, 0, 0, 0]': 'writes in place into a tensor that is used afterwards',
    'x.transpose_(2, 3)[:, :, 0] + x[:, :, 0]': 'changes the axes of a tensor that is used afterwards',
    'F.adaptive_avg_pool2d(x, 1).expand(-1, -1, 6, 5).clone().add_(x)': 'in place into a tensor without time',
    'F.threshold_(net.out.clone(), 1, 1).mul_(x)': 'in place into a tensor without time',
    'torch.cummax(x, 1)[0]': 'has no 3D form',
    'x.movedim(1, 2)': 'has no 3D form',
    'x.sort(1)[0]': 'has no 3D form',
}
