"""The inception convolution layer: a convolution whose output channels have dilations of their own."""

import re
from collections.abc import Mapping

import torch
from torch import nn

from mmext.ops.inception_conv import inception_conv2d
from mmext.patterns.pattern import PatternError, check_layer
from mmext.patterns.rules import RULES, make_layer
from mmext.registry import MODELS

__all__ = ['InceptionConv2d']

_PUBLISHED_KEY = re.compile(r'conv_list\.(\d+)\.(weight|bias)')


@MODELS.register_module()
class InceptionConv2d(nn.Conv2d):
    """Convolution with a dilation for each run of output channels, in the place of an ordinary one.

    Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), section 3. Our keys are those of a
    convolution, ``weight`` and ``bias``. Published keys are loaded as they are: ``conv_list.N.weight`` and
    ``conv_list.N.bias``, N counting the runs of the pattern.

    The margins follow from the dilations: d (k - 1) / 2 pixels, which keeps the size for every odd kernel.

    Any network of a toolbox takes it as ``conv_cfg=dict(type='mmext.InceptionConv2d', pattern='uniform')``: the name of
    a rule is expanded by every layer for its own width, and applies to kernels of 3 x 3; all others, such as 1 x 1
    convolutions and stems of 7 x 7, are ordinary convolutions, and so are depthwise ones. A pattern of a whole network
    cannot be given in this way, as a layer does not know which one it is.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
        kernel_size (int or tuple[int, int]): Taps per side; square and odd under explicit runs.
        stride (int or tuple[int, int]): Step in pixels, at least 1. Default: 1.
        padding (int or tuple[int, int], optional): What a network passes to every convolution: accepted if it is
            ``dilation * (kernel_size - 1) / 2``, from which the margins of each run follow. An ordinary convolution has
            just this padding. Default: None, the margins of the runs; 0 in an ordinary convolution.
        dilation (int or tuple[int, int]): The network's dilation in pixels, which multiplies those of the pattern, so
            that a backbone with ``dilations=(1, 1, 2, 4)`` sees as far relative to its resolution. Default: 1.
        groups (int): See :func:`mmext.ops.inception_conv2d`. Default: 1.
        bias (bool): Whether there is one. Default: True.
        pattern (str, Mapping or Sequence): The runs, ``(dilation_h, dilation_w, channels)`` each, that add up to
            ``out_channels``; or a rule, 'uniform' or 'proportional', or ``dict(rule=...)`` with the other arguments of
            :func:`mmext.patterns.make_pattern`.
        backend (str, optional): See :func:`mmext.ops.inception_conv2d`. Default: None.

    Attributes:
        pattern: The runs as a tuple of tuples, without the network's dilation; None in an ordinary convolution.

    Shapes:
        Input [N, in_channels, H, W], output [N, out_channels, ceil(H / stride), ceil(W / stride)].

    Raises:
        ValueError: If the pattern is not legal or does not add up to ``out_channels``, a run's channels are not a
            multiple of ``groups``, the kernel is not square and odd, or ``padding`` does not fit.

    Examples:
        >>> layer = InceptionConv2d(3, 8, 3, stride=2, pattern=[(1, 1, 6), (1, 2, 2)])
        >>> layer(torch.rand(1, 3, 15, 15)).shape
        torch.Size([1, 8, 8, 8])
        >>> InceptionConv2d(64, 64, 3, pattern='uniform').pattern[:3]
        ((1, 1, 32), (1, 2, 3), (1, 3, 2))
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=None,
        dilation=1,
        groups=1,
        bias=True,
        *,
        pattern,
        backend=None,
    ):
        runs = _runs(pattern, out_channels, _pair(kernel_size), groups)
        margins = tuple(d * (k - 1) // 2 for d, k in zip(_pair(dilation), _pair(kernel_size)))
        if runs is None:
            padding = 0 if padding is None else padding
        elif padding is not None and _pair(padding) != margins:
            fitting = margins[0] if margins[0] == margins[1] else margins
            raise ValueError(
                f'padding={padding!r} with kernel_size={kernel_size} and dilation={dilation}: an inception convolution '
                f'keeps the size, which takes padding={fitting}; leave it out'
            )
        super().__init__(
            in_channels, out_channels, kernel_size, stride, margins if runs else padding, dilation, groups, bias
        )
        self.pattern = runs
        self.backend = backend

    def forward(self, x):
        """Convolve.

        Args:
            x (Tensor): [N, in_channels, H, W].

        Returns:
            Tensor: [N, out_channels, ceil(H / stride), ceil(W / stride)].
        """
        if self.pattern is None:
            return super().forward(x)
        step_h, step_w = self.dilation  # as it is now, like the stride
        runs = tuple((h * step_h, w * step_w, channels) for h, w, channels in self.pattern)
        return inception_conv2d(x, self.weight, self.bias, runs, self.stride, self.groups, self.backend)

    def extra_repr(self):
        """Return the settings that the printed model shows."""
        return f'{super().extra_repr()}, {"ordinary" if self.pattern is None else f"{len(self.pattern)} runs"}'

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ):
        published = {key: key[len(prefix) :] for key in state_dict if key.startswith(f'{prefix}conv_list.')}
        if published and f'{prefix}weight' not in state_dict:  # else they are what they look like: unexpected
            state_dict = dict(state_dict)
            missing = []
            for name in ('weight',) if self.bias is None else ('weight', 'bias'):
                parts = self._published_parts(state_dict, prefix, name, missing, error_msgs)
                if parts is not None:
                    state_dict[f'{prefix}{name}'] = torch.cat(parts)
                else:  # named by its parts; what there is now is not touched
                    state_dict[f'{prefix}{name}'] = getattr(self, name).detach()
            missing_keys += missing
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _published_parts(self, state_dict, prefix, name, missing, error_msgs):
        parts = []
        for index, (_, _, channels) in enumerate(self.pattern or [(1, 1, self.out_channels)]):
            key = f'{prefix}conv_list.{index}.{name}'
            expected = (channels, *getattr(self, name).shape[1:])
            part = state_dict.pop(key, None)
            if part is None:
                missing.append(key)
            elif tuple(part.shape) != expected:
                error_msgs.append(
                    f'size mismatch for {key}: the checkpoint has shape {list(part.shape)}, run {index} of the pattern '
                    f'needs {list(expected)}; give the pattern that the checkpoint was trained with.'
                )
            else:
                parts.append(part)
        return parts if len(parts) == len(self.pattern or [None]) else None


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def _runs(pattern, channels, kernel_size, groups):
    """Return the runs of a layer, or None where a rule makes an ordinary convolution."""
    if isinstance(pattern, (str, Mapping)):
        options = dict(rule=pattern) if isinstance(pattern, str) else dict(pattern)
        rule = options.pop('rule', None)
        if rule not in RULES:
            whole = ' (the pattern of a whole network is for a network such as IC-ResNet)' * isinstance(rule, str)
            raise PatternError(
                f'pattern={pattern!r} is no rule of one layer{whole}; give one of {", ".join(RULES)}, dict(rule=...), '
                'or a list of (dilation_h, dilation_w, channels)'
            )
        unknown = sorted(set(options) - {'max_dilation', 'undilated'})
        if unknown:
            raise PatternError(f'pattern has the unknown key {unknown[0]!r}; known are rule, max_dilation, undilated')
        runs = make_layer(rule, channels, groups=groups, **options)  # a bad rule is an error in any layer
        return runs if kernel_size == (3, 3) and channels > groups else None
    runs = check_layer(pattern, 'pattern')
    if len(kernel_size) != 2 or kernel_size[0] != kernel_size[1] or kernel_size[0] % 2 == 0:
        raise ValueError(f'kernel_size={kernel_size}: an inception convolution has a square kernel of odd size')
    found = sum(run[2] for run in runs)
    if found != channels:
        raise PatternError(f'the channels of the pattern add up to {found}, out_channels={channels}')
    wrong = next((run for run in runs if run[2] % groups), None)
    if wrong is not None:
        raise PatternError(f'the run {wrong} of the pattern has {wrong[2]} channels, no multiple of groups={groups}')
    return runs
