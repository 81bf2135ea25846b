"""The convolution of a supernet for dilation search: its kernel holds every dilation up to the largest."""

import torch
from mmengine.utils import to_2tuple
from torch import nn

from mmext.registry import MODELS

__all__ = ['SupernetConv2d']

MAX_DILATION = 16  # a kernel of 33 x 33 taps for 3 x 3


@MODELS.register_module()
class SupernetConv2d(nn.Conv2d):
    """Convolution whose kernel has ``(k - 1) max_dilation + 1`` taps a side, in the place of one with ``k``.

    The taps of every dilation from (1, 1) to (max_dilation, max_dilation) are among those of its kernel: the search
    chooses for each filter which of them stay. Weights of the ordinary convolution load as well: they are put at the
    taps of dilation 1 and the others become zero, so that it starts as the ordinary convolution.

    Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), section 3 and figure 2.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        kernel_size (int or tuple[int, int]): Taps a side of the ordinary convolution, odd and equal; 1 leaves it as it
            is.
        stride (int or tuple[int, int]): Step in pixels. Default: 1.
        padding (int or tuple[int, int]): That of the ordinary convolution; the larger kernel gets as much more as
            keeps the size of the output. Default: 0.
        dilation (int or tuple[int, int]): The network's own dilation, which multiplies those of the search. Default: 1.
        groups (int): Default: 1.
        bias (bool): Whether there is one. Default: True.
        max_dilation (int): Largest dilation of the search in pixels, 1 to 16.

    Attributes:
        plain_kernel_size (int): ``kernel_size`` of the ordinary convolution; that of the layer is the larger one.

    Shapes:
        Those of the ordinary convolution.

    Raises:
        ValueError: If ``max_dilation`` is out of its range or the kernel is not square and odd.

    Examples:
        >>> layer = SupernetConv2d(3, 8, 3, stride=2, padding=1, max_dilation=4)
        >>> layer.weight.shape, layer(torch.rand(1, 3, 15, 15)).shape
        (torch.Size([8, 3, 9, 9]), torch.Size([1, 8, 8, 8]))
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        *,
        max_dilation,
    ):
        if isinstance(max_dilation, bool) or not isinstance(max_dilation, int) or not 1 <= max_dilation <= MAX_DILATION:
            raise ValueError(f'max_dilation={max_dilation!r} must be an integer from 1 to {MAX_DILATION} (pixels)')
        taps = set(to_2tuple(kernel_size))
        if len(taps) > 1 or min(taps) % 2 == 0:
            raise ValueError(f'kernel_size={kernel_size}: the search takes square kernels of odd size, such as 3')
        if isinstance(padding, str):
            raise ValueError(f'padding={padding!r}: give the number of pixels')
        self.plain_kernel_size = taps.pop()
        self.max_dilation = max_dilation
        size = (self.plain_kernel_size - 1) * max_dilation + 1
        more = [step * (size - self.plain_kernel_size) // 2 for step in to_2tuple(dilation)]
        padding = tuple(old + new for old, new in zip(to_2tuple(padding), more))
        super().__init__(in_channels, out_channels, size, stride, padding, dilation, groups, bias)

    def extra_repr(self):
        """Return the settings that the printed model shows."""
        return f'{super().extra_repr()}, max_dilation={self.max_dilation}'

    def _load_from_state_dict(self, state_dict, prefix, *args):
        key = f'{prefix}weight'
        weight = state_dict.get(key)
        plain = (*self.weight.shape[:2], self.plain_kernel_size, self.plain_kernel_size)
        if isinstance(weight, torch.Tensor) and tuple(weight.shape) == plain and self.max_dilation > 1:
            margin = (self.weight.shape[-1] - self.plain_kernel_size) // 2
            state_dict = {**state_dict, key: nn.functional.pad(weight, (margin,) * 4)}
        super()._load_from_state_dict(state_dict, prefix, *args)
