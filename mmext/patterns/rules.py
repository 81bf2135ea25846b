"""Patterns without a search: half the channels keep dilation 1, a rule spreads the rest over the other dilations.

In the published patterns 0.42 to 0.51 of the channels have dilation (1, 1), and what the others have falls off as
1 / (dilation_h * dilation_w): the rule 'proportional' is their average. The rule 'uniform' has as many channels in each
dilation as in every other.
"""

from math import prod
from numbers import Integral

from torch import nn

from .pattern import MAX_CHANNELS, MAX_DILATION, Pattern, PatternError

__all__ = ['RULES', 'make_layer', 'make_pattern', 'replaceable_convolutions']

# Rule -> weight of a dilation among those that are not (1, 1)
RULES = {
    'uniform': lambda dilation_h, dilation_w: 1,
    'proportional': lambda dilation_h, dilation_w: 1 / (dilation_h * dilation_w),
}


def make_pattern(rule, network, max_dilation=4, undilated=0.5):
    """Make a pattern for any network.

    Args:
        rule (str): How the dilated channels are spread: 'uniform' or 'proportional'.
        network (nn.Module or Sequence[int]): A network, whose 3x3 convolutions get a layer each (see
            :func:`replaceable_convolutions`), or the widths, in output channels.
        max_dilation (int): Largest dilation in either direction, in pixels, 1 to 256. Default: 4, as published for
            detection and segmentation; 6 for pose.
        undilated (float): Share of channels with dilation (1, 1), from 0 to 1. Default: 0.5.

    Returns:
        Pattern: One layer for each convolution or width, in order.

    Raises:
        PatternError: If a setting is out of its range, or the network has no such convolution.

    Examples:
        >>> make_pattern('proportional', [64, 128], max_dilation=2)[0]
        ((1, 1, 32), (1, 2, 13), (2, 1, 13), (2, 2, 6))
    """
    if isinstance(network, nn.Module):
        convolutions = replaceable_convolutions(network)
        if not convolutions:
            raise PatternError(f'{type(network).__name__} has no 3x3 convolution; give a network that has, or widths')
        layers = [(conv.out_channels, conv.groups) for conv in convolutions.values()]
    else:
        layers = [(width, 1) for width in network]
    return Pattern(make_layer(rule, width, max_dilation, undilated, groups) for width, groups in layers)


def make_layer(rule, channels, max_dilation=4, undilated=0.5, groups=1):
    """Make the runs of one layer by a rule.

    Args:
        rule (str): 'uniform' or 'proportional'.
        channels (int): Output channels, 1 to 2^20.
        max_dilation (int): See :func:`make_pattern`. Default: 4.
        undilated (float): See :func:`make_pattern`. Default: 0.5.
        groups (int): Every run has a multiple of so many channels. Default: 1.

    Returns:
        tuple[tuple[int, int, int], ...]: (dilation_h, dilation_w, channels), dilations in ascending order.

    Raises:
        PatternError: If a setting is out of its range.
    """
    if rule not in RULES:
        raise PatternError(f'rule={rule!r} is unknown; choose one of {", ".join(RULES)}')
    for name, value in (('channels', channels), ('max_dilation', max_dilation), ('groups', groups)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise PatternError(f'{name}={value!r}: an integer of at least 1 is needed')
    for name, value, most in (('channels', channels, MAX_CHANNELS), ('max_dilation', max_dilation, MAX_DILATION)):
        if value > most:
            raise PatternError(f'{name}={value!r}: an integer of at most {most} is needed')
    if not isinstance(undilated, (int, float)) or not 0 <= undilated <= 1:
        raise PatternError(f'undilated={undilated!r}: a share from 0 to 1 is needed')
    if channels % groups:
        raise PatternError(f'channels={channels} is not a multiple of groups={groups}; choose a divisor')
    units = channels // groups
    dilations = [(h, w) for h in range(1, max_dilation + 1) for w in range(1, max_dilation + 1)]
    kept = units if max_dilation == 1 else round(units * undilated)
    counts = {(1, 1): kept, **_spread(units - kept, {pair: RULES[rule](*pair) for pair in dilations[1:]})}
    return tuple((*pair, counts[pair] * groups) for pair in dilations if counts[pair])


def _spread(units, weights):
    """Share out units in proportion, the ones left over to the largest remainders, to small dilations where equal."""
    total = sum(weights.values())
    exact = {pair: units * weight / total for pair, weight in weights.items()}
    counts = {pair: int(value) for pair, value in exact.items()}
    order = sorted(weights, key=lambda pair: (counts[pair] - exact[pair], prod(pair), pair))
    for pair in order[: units - sum(counts.values())]:
        counts[pair] += 1
    return counts


def replaceable_convolutions(network):
    """List the convolutions that can become inception convolutions: 3x3, more than one filter per group.

    Args:
        network (nn.Module): Any network. Give the part that is meant, for example a U-Net's ``encoder``.

    Returns:
        dict[str, nn.Conv2d]: Name -> module, in the order in which the network holds them.
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.out_channels > module.groups
    }
