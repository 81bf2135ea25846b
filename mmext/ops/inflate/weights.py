"""Inflation of weights: what a 2D weight becomes with a temporal kernel."""

__all__ = ['MODES', 'inflate_weight']

MODES = ('center', 'average')


def inflate_weight(weight, temporal_kernel, mode='center'):
    """Give the weight of a 2D convolution a temporal kernel.

    Both modes keep what a static clip gives, as far as the taps see frames: 'center' puts the 2D weight into the middle
    tap and zeros into the others; 'average' puts the weight, divided by their number, into all.

    Source: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017), section 2.4, for
    'average'.

    Args:
        weight (Tensor): [out_channels, in_channels / groups, h, w].
        temporal_kernel (int): Taps along time, at least 1; with 'center' odd.
        mode (str): 'center' or 'average'. Default: 'center'.

    Returns:
        Tensor: [out_channels, in_channels / groups, temporal_kernel, h, w], with memory of its own.

    Raises:
        ValueError: If an argument is not as above.
    """
    if weight.ndim != 4:
        raise ValueError(f'weight has shape {list(weight.shape)}; a 2D convolution has [out, in / groups, h, w]')
    if mode not in MODES:
        raise ValueError(f'mode={mode!r} is unknown; choose one of {", ".join(map(repr, MODES))}')
    if temporal_kernel < 1 or (mode == 'center' and temporal_kernel % 2 == 0):
        raise ValueError(f"temporal_kernel={temporal_kernel} must be at least 1, and odd with mode='center'")
    inflated = weight.new_zeros(*weight.shape[:2], temporal_kernel, *weight.shape[2:])
    if mode == 'center':
        inflated[:, :, temporal_kernel // 2] = weight
    else:
        inflated[:] = weight[:, :, None] / temporal_kernel
    return inflated
