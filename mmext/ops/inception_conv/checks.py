"""What is legal input of the inception convolution."""

import functools

import torch

__all__ = ['autocast_is_on', 'check_pattern', 'check_strides', 'check_tensors', 'hashable']


def autocast_is_on(x):
    """Say whether autocast is on for the device of a tensor.

    Args:
        x (Tensor): The tensor.

    Returns:
        bool: Whether it is on.
    """
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)  # meta has none


def check_strides(stride):
    """Check a stride.

    Args:
        stride (int or tuple[int, int]): In pixels.

    Returns:
        tuple[int, int]: Of rows and of columns.

    Raises:
        ValueError: If it is not one or two integers of at least 1.
    """
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    if len(strides) != 2 or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in strides):
        raise ValueError(f'stride={stride!r}: an integer of at least 1, or two of them, is needed')
    return strides


def hashable(pattern):
    """Make tuples of a pattern.

    Args:
        pattern (Sequence): Runs of output channels.

    Returns:
        tuple[tuple]: The runs.

    Raises:
        ValueError: If it is no sequence of sequences.
    """
    try:
        return tuple(map(tuple, pattern))
    except TypeError:
        raise ValueError(f'pattern={pattern!r}; a list of (dilation_h, dilation_w, channels) is needed') from None


@functools.lru_cache(maxsize=1024)
def check_pattern(pattern, groups):
    """Check the runs of a pattern.

    Args:
        pattern (tuple): (dilation_h, dilation_w, channels) of each run.
        groups (int): Groups of each run.

    Returns:
        tuple: The pattern.

    Raises:
        ValueError: If a run is not as above, or ``groups`` does not fit.
    """
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(f'groups={groups!r}: an integer of at least 1 is needed')
    for run in pattern:
        integers = len(run) == 3 and all(isinstance(value, int) and value >= 1 for value in run)
        if not integers or run[2] % groups:
            raise ValueError(
                f'pattern has the run {run}; (dilation_h, dilation_w, channels) is needed, all at least 1, channels a '
                f'multiple of groups={groups}'
            )
    return pattern


def check_tensors(x, weight, bias, pattern, groups):
    """Check shapes, dtypes and devices.

    Args:
        x (Tensor): See :func:`mmext.ops.inception_conv2d`, as for the rest.
        weight (Tensor): The filters.
        bias (Tensor, optional): The bias.
        pattern (tuple): (dilation_h, dilation_w, channels) of each run.
        groups (int): Groups of each run.

    Raises:
        ValueError: If they are not as :func:`mmext.ops.inception_conv2d` says.
    """
    if x.dim() != 4 or weight.dim() != 4:
        raise ValueError(
            f'x has shape {list(x.shape)} and weight {list(weight.shape)}; x must be [N, C, H, W] and weight '
            '[O, C / groups, k, k]'
        )
    outputs, inputs, kernel_size = weight.shape[:3]
    if weight.shape[3] != kernel_size or kernel_size % 2 == 0:
        raise ValueError(
            f'weight has a kernel of {kernel_size} x {weight.shape[3]} taps; kernels are square with an odd size '
            '(1, 3, 5, 7, ...)'
        )
    if x.shape[1] != inputs * groups:
        raise ValueError(
            f'x has {x.shape[1]} channels; weight of shape {list(weight.shape)} with groups={groups} needs '
            f'{inputs * groups}'
        )
    channels = sum(run[2] for run in pattern)
    if channels != outputs:
        raise ValueError(f"the pattern's channels add up to {channels}; weight has {outputs} filters")
    if bias is not None and tuple(bias.shape) != (outputs,):
        raise ValueError(f'bias has shape {list(bias.shape)}; [{outputs}] is needed')
    tensors = [tensor for tensor in (x, weight, bias) if tensor is not None]
    if not x.is_floating_point() or len({tensor.device for tensor in tensors}) > 1:
        raise ValueError(
            f'x is {x.dtype} on {x.device}, weight is on {weight.device}; use floating point on one device'
        )
    # autocast makes the dtypes equal
    if len({tensor.dtype for tensor in tensors}) > 1 and not autocast_is_on(x):
        raise ValueError(f'the dtypes are {", ".join(str(tensor.dtype) for tensor in tensors)}; they must be equal')
