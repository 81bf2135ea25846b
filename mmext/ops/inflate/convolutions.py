"""Inflation of convolutions and linear layers."""

from torch import nn

from .carrying import carry, integer, plain
from .conv3d import InflatedConv3d
from .weights import inflate_weight

__all__ = ['inflate_conv', 'inflate_linear']


def inflate_conv(
    conv,
    temporal_kernel=3,
    temporal_stride=1,
    temporal_padding=None,
    temporal_dilation=1,
    mode='center',
    temporal_padding_mode='zeros',
):
    """Turn a 2D convolution into a 3D one.

    A static clip gives what its image gives: with ``mode='center'`` for every padding, as the taps that see zeros have
    zero weight; with ``mode='average'`` where ``temporal_padding`` is 0 or ``temporal_padding_mode`` is 'replicate'
    (zeros beside the clip would make its first and last frames darker). With ``mode='center'`` the result for a moving
    clip is that of the 2D convolution on every frame at first, too.

    Source: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017), section 2.4, for
    'average'.

    Args:
        conv (nn.Conv2d): Any kernel, stride, dilation, groups and bias. Its ``padding_mode`` must be 'zeros'; 'same' is
            possible where as many pixels stand on either side, and 'valid'.
        temporal_kernel (int): Taps along time, at least 1; with 'center' odd. Default: 3.
        temporal_stride (int): Step in frames, at least 1. Default: 1.
        temporal_padding (int, optional): Frames added on either side, from 0 to
            ``temporal_dilation * (temporal_kernel - 1) // 2``. Default: None, the latter, which keeps the number of
            frames under an odd kernel and stride 1.
        temporal_dilation (int): Distance of taps in frames, at least 1. Default: 1.
        mode (str): 'center' or 'average', see :func:`inflate_weight`. Default: 'center'.
        temporal_padding_mode (str): 'zeros' or 'replicate', see :class:`InflatedConv3d`. Default: 'zeros'.

    Returns:
        InflatedConv3d: [N, C, T, H, W] -> [N, C', T', H', W'], with the keys of ``conv``; a new module with its dtype,
        device, mode and ``requires_grad``.

    Raises:
        TypeError: If ``conv`` is no ``nn.Conv2d``, or a subclass that computes something else.
        ValueError: If another argument is not as above.

    Examples:
        >>> conv = inflate_conv(nn.Conv2d(3, 8, 7, stride=2, padding=3))
        >>> conv(torch.rand(1, 3, 5, 32, 32)).shape
        torch.Size([1, 8, 5, 16, 16])
    """
    plain(conv, (nn.Conv2d,), 'convolution')
    for name, value in (
        ('temporal_kernel', temporal_kernel),
        ('temporal_stride', temporal_stride),
        ('temporal_dilation', temporal_dilation),
    ):
        integer(name, value, 1)
    weight = inflate_weight(conv.weight.detach(), temporal_kernel, mode)
    most = temporal_dilation * (temporal_kernel - 1) // 2
    if temporal_padding is None:
        temporal_padding = most
    integer('temporal_padding', temporal_padding, 0)
    if temporal_padding > most:
        raise ValueError(
            f'temporal_padding={temporal_padding} must be at most temporal_dilation * (temporal_kernel - 1) // 2 = '
            f'{most}; the middle of the kernel must stand on a frame'
        )
    new = InflatedConv3d(
        conv.in_channels,
        conv.out_channels,
        (temporal_kernel, *conv.kernel_size),
        (temporal_stride, *conv.stride),
        (temporal_padding, *_padding(conv)),
        (temporal_dilation, *conv.dilation),
        conv.groups,
        conv.bias is not None,
        temporal_padding_mode=temporal_padding_mode,
        device='meta',
        dtype=conv.weight.dtype,
    )
    return carry(conv, new, weight=weight)


def _padding(conv):
    if conv.padding_mode != 'zeros':
        raise ValueError(
            f'padding_mode={conv.padding_mode!r} of the 2D convolution would also pad along time; put a layer such as '
            'nn.ReflectionPad2d in front of it and set padding=0, or run it on every frame'
        )
    if conv.padding == 'valid':
        return 0, 0
    if conv.padding == 'same':
        margins = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size)]
        if any(margin % 2 for margin in margins):
            raise ValueError(
                f"padding='same' with kernel_size={conv.kernel_size} and dilation={conv.dilation} adds more pixels on "
                'one side than on the other; put nn.ZeroPad2d in front and set padding=0, or run it on every frame'
            )
        return [margin // 2 for margin in margins]
    return conv.padding


def inflate_linear(linear, frames):
    """Turn a linear layer for one frame's features into one for those of ``frames`` frames.

    The weight is copied once for each frame and divided by their number, so that the new layer gives the mean of what
    the old one gives for each frame; that is the old result for a static clip. Features may be flattened from
    [frames, C] or from [C, frames]: this function arranges the copies for [frames, C], :func:`mmext.inflate` flattens
    so, and both orders differ only where copies differ, after training. For features of [C, frames], rearrange::

        linear.weight.unflatten(1, (frames, -1)).transpose(1, 2).flatten(1)

    Args:
        linear (nn.Linear): [N, C] -> [N, classes].
        frames (int): Frames that reach the layer, at least 1.

    Returns:
        nn.Linear: [N, frames * C] -> [N, classes], with the keys of ``linear``; a new module with its dtype, device,
        mode and ``requires_grad``.

    Raises:
        TypeError: If ``linear`` is no ``nn.Linear``, or a subclass that computes something else.
        ValueError: If ``frames`` is below 1.

    Examples:
        >>> inflate_linear(nn.Linear(1024, 1000), frames=2)
        Linear(in_features=2048, out_features=1000, bias=True)
    """
    plain(linear, (nn.Linear,), 'linear layer')
    integer('frames', frames, 1)
    weight = linear.weight.detach().repeat(1, frames) / frames
    new = nn.Linear(
        linear.in_features * frames,
        linear.out_features,
        linear.bias is not None,
        device='meta',
        dtype=linear.weight.dtype,
    )
    return carry(linear, new, weight=weight)
