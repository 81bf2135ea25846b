"""Inflation of pooling layers."""

from torch import nn

from .carrying import integer, plain

__all__ = ['inflate_pool']

ADAPTIVE = {nn.AdaptiveAvgPool2d: nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d: nn.AdaptiveMaxPool3d}


def inflate_pool(pool, temporal_kernel=1, temporal_stride=None, temporal_padding=0):
    """Turn a pooling layer of pictures into one of clips.

    - ``nn.MaxPool2d``: ``nn.MaxPool3d``.
    - ``nn.AvgPool2d``: ``nn.AvgPool3d``. Frames that ``temporal_padding`` adds are not counted, which would make the
      first and last frames darker; hence such a padding is refused beside one in space that is counted.
    - ``nn.LPPool2d``: ``nn.LPPool3d``; it adds up what it sees, hence sees one frame only.
    - ``nn.AdaptiveAvgPool2d``, ``nn.AdaptiveMaxPool2d``: ``nn.AdaptiveAvgPool3d``, ``nn.AdaptiveMaxPool3d`` over all
      frames, which leave one.

    A static clip gives what its picture gives with each. With one tap along time, so does every frame of a moving clip.

    Args:
        pool (nn.Module): One of the above. ``return_indices`` must be off.
        temporal_kernel (int): Frames that are pooled, at least 1; 1 for ``nn.LPPool2d``. Adaptive pools take all
            frames, whatever is given here. Default: 1.
        temporal_stride (int, optional): Step in frames, at least 1. Default: None, ``temporal_kernel``.
        temporal_padding (int): Frames added on either side, from 0 to ``temporal_kernel // 2``. Default: 0.

    Returns:
        nn.Module: [N, C, T, H, W] -> [N, C, T', H', W'], in the mode of ``pool``.

    Raises:
        TypeError: If ``pool`` is none of the above (``nn.FractionalMaxPool2d`` draws its windows at random), or a
            subclass that computes something else.
        ValueError: If another argument is not as above.

    Examples:
        >>> pool = inflate_pool(nn.MaxPool2d(3, 2, 1), temporal_kernel=3, temporal_stride=2, temporal_padding=1)
        >>> pool(torch.rand(1, 8, 5, 16, 16)).shape
        torch.Size([1, 8, 3, 8, 8])
    """
    if isinstance(pool, nn.FractionalMaxPool2d):
        raise TypeError('FractionalMaxPool2d draws its windows at random; run it on every frame, or replace it')
    base = plain(pool, (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, *ADAPTIVE), 'pooling layer')
    integer('temporal_kernel', temporal_kernel, 1)
    temporal_stride = temporal_kernel if temporal_stride is None else temporal_stride
    integer('temporal_stride', temporal_stride, 1)
    integer('temporal_padding', temporal_padding, 0)
    if temporal_padding > temporal_kernel // 2:
        raise ValueError(
            f'temporal_padding={temporal_padding} must be at most temporal_kernel // 2 = {temporal_kernel // 2}'
        )
    if getattr(pool, 'return_indices', False):
        raise ValueError(f'return_indices=True: places in a picture are none in a clip; run {base.__name__} on frames')
    if base in ADAPTIVE:
        new = ADAPTIVE[base]((1, *_pair(pool.output_size)))
    else:
        kernel = (temporal_kernel, *_pair(pool.kernel_size))
        stride = (temporal_stride, *_pair(pool.kernel_size if pool.stride is None else pool.stride))
        padding = temporal_padding
        if base is nn.MaxPool2d:
            padding = (padding, *_pair(pool.padding))
            new = nn.MaxPool3d(kernel, stride, padding, (1, *_pair(pool.dilation)), ceil_mode=pool.ceil_mode)
        elif base is nn.AvgPool2d:
            new = _average(pool, kernel, stride, padding)
        else:
            if temporal_kernel > 1:
                raise ValueError(
                    f'temporal_kernel={temporal_kernel}: LPPool2d adds up what it sees, so that a static clip would '
                    'not give what its image gives; use 1'
                )
            new = nn.LPPool3d(pool.norm_type, kernel, stride, pool.ceil_mode)
    return new.train(pool.training)


def _average(pool, kernel, stride, temporal_padding):
    margins = _pair(pool.padding)
    count_include_pad, divisor = pool.count_include_pad, pool.divisor_override
    if temporal_padding:
        if count_include_pad and any(margins):
            raise ValueError(
                f'temporal_padding={temporal_padding} beside padding={pool.padding} with count_include_pad=True: one '
                'is not to be counted and the other is; use temporal_padding=0'
            )
        count_include_pad = False
    if divisor is not None:
        if temporal_padding or (pool.ceil_mode and kernel[0] > 1):
            raise ValueError(
                f'divisor_override={divisor} divides by the same number where a window hangs over the end of the clip; '
                'use temporal_padding=0, and temporal_kernel=1 with ceil_mode=True'
            )
        divisor *= kernel[0]
    padding = (temporal_padding, *margins)
    return nn.AvgPool3d(kernel, stride, padding, pool.ceil_mode, count_include_pad, divisor)


def _pair(value):
    return (value, value) if value is None or isinstance(value, int) else tuple(value)
