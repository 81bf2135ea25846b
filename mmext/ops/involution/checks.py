"""What is legal input of the involution."""

__all__ = ['check_dimensions', 'check_settings', 'check_tensors', 'output_size']


def output_size(size, kernel_size, stride, padding, dilation):
    """Return the number of output rows (or columns) of a sliding window.

    Args:
        size (int): Input rows, in pixels.
        kernel_size (int): Window size in taps.
        stride (int): Step of the window in pixels.
        padding (int): Zeros added at each end, in pixels.
        dilation (int): Distance of neighbouring taps in pixels.

    Returns:
        int: Output rows; with ``padding = dilation * (kernel_size - 1) // 2`` that is ``ceil(size / stride)``.
    """
    return (size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1


def check_settings(stride, padding, dilation):
    """Check the integers.

    Args:
        stride (int): Step in pixels.
        padding (int, optional): Zeros around ``x`` in pixels.
        dilation (int): Distance of taps in pixels.

    Raises:
        ValueError: If one is not an integer in its range.
    """
    for name, value, low in (('stride', stride, 1), ('dilation', dilation, 1), ('padding', padding, 0)):
        if name == 'padding' and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f'{name}={value!r}: an integer of at least {low} is needed')


def check_dimensions(x, weight):
    """Check the numbers of dimensions.

    Args:
        x (Tensor): The input.
        weight (Tensor): The kernels.

    Raises:
        ValueError: If they are not 4 and 6.
    """
    if x.dim() != 4 or weight.dim() != 6:
        raise ValueError(
            f'x has shape {list(x.shape)} and weight {list(weight.shape)}; x must be [N, C, H, W] and weight '
            '[N, G, K, K, Ho, Wo] (channel maps [N, G*K*K, Ho, Wo] by `.unflatten(1, (G, K, K))`)'
        )


def check_tensors(x, weight, stride, padding, dilation):
    """Check shapes, dtypes and devices.

    Args:
        x (Tensor): See :func:`mmext.ops.involution`, as for the rest.
        weight (Tensor): The kernels.
        stride (int): Step in pixels.
        padding (int): Zeros around ``x`` in pixels.
        dilation (int): Distance of taps in pixels.

    Raises:
        ValueError: If they are not as :func:`mmext.ops.involution` says.
    """
    check_dimensions(x, weight)
    batch, channels, height, width = x.shape
    groups, kernel_size = weight.shape[1:3]
    if weight.shape[3] != kernel_size or kernel_size % 2 == 0:
        raise ValueError(
            f'weight has a kernel of {kernel_size} x {weight.shape[3]} taps in shape {list(weight.shape)}; kernels are '
            'square with an odd size (1, 3, 5, 7, ...)'
        )
    if groups == 0 or channels % groups:
        raise ValueError(f'channels={channels} of x are not divisible by groups={groups} of weight; choose a divisor')
    out = [output_size(size, kernel_size, stride, padding, dilation) for size in (height, width)]
    if min(out) < 1:
        raise ValueError(
            f'x of {height} x {width} pixels is smaller than the window of {dilation * (kernel_size - 1) + 1} pixels '
            f'with padding={padding}; use padding={dilation * (kernel_size - 1) // 2} or a larger input'
        )
    if list(weight.shape[4:]) != out or weight.shape[0] != batch:
        raise ValueError(
            f'weight has shape {list(weight.shape)}; x of shape {list(x.shape)} with stride={stride}, '
            f'padding={padding}, dilation={dilation} needs {[batch, groups, kernel_size, kernel_size, *out]}'
        )
    if not x.is_floating_point() or x.dtype != weight.dtype or x.device != weight.device:
        raise ValueError(
            f'x is {x.dtype} on {x.device}, weight is {weight.dtype} on {weight.device}; both must be of one floating '
            'point dtype on one device'
        )
