"""The dilation of every filter of one layer, chosen from the kernel of a trained supernet."""

from dataclasses import dataclass

import numpy as np
import torch

from mmext.patterns import PatternError

__all__ = ['CRITERIA', 'Choice', 'choose', 'dilations', 'errors', 'kept_taps']

CRITERIA = 'l1', 'expectation'


@dataclass(frozen=True)
class Choice:
    """The result of one layer.

    Attributes:
        runs: Runs of the pattern, (dilation_h, dilation_w, channels), in the order of the published files.
        order: For each output channel in the order of the runs, the filter of the supernet that it is.
        dilations: For each filter of the supernet, its (dilation_h, dilation_w).
        lost: Sum of the chosen errors over all filters.
        total: Sum of the errors of leaving out everything, NaN where it is not known.
        dead: Number of filters whose weights are all zero.
    """

    runs: tuple
    order: tuple
    dilations: tuple
    lost: float
    total: float
    dead: int


def dilations(max_dilation):
    """Return all (dilation_h, dilation_w), small areas first and, of equal ones, the wider first: the order of ties."""
    pairs = [(h, w) for h in range(1, max_dilation + 1) for w in range(1, max_dilation + 1)]
    return sorted(pairs, key=lambda pair: (pair[0] * pair[1], -pair[1]))


def errors(weight, max_dilation, criterion='l1', channel_means=None):
    """Return the representation error of every filter for every dilation, and that of leaving out all taps.

    Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), section 3: the L1 norm of the difference
    between the expectations of the outputs of the whole kernel and of the taps that a dilation keeps.

    Args:
        weight (Tensor): Kernel [O, I, K, K] of a supernet, K = (k - 1) max_dilation + 1.
        max_dilation (int): Of the supernet.
        criterion (str): 'l1', the sum of the absolute weights that are left out: the last step of the published
            search. 'expectation', the absolute value of their sum for each input channel, summed. Default: 'l1'.
        channel_means (Tensor, optional): [I] or, with groups, [O, I]: means of the input channels, which weight those
            of 'expectation'. Default: None, all 1.

    Returns:
        tuple[ndarray, ndarray]: [O, D] in the order of :func:`dilations`, and [O].

    Raises:
        ValueError: If the criterion is unknown, the kernel is none of such a supernet, or has NaN or infinite weights.
    """
    if criterion not in CRITERIA:
        raise ValueError(f'criterion={criterion!r} is unknown; choose one of {", ".join(CRITERIA)}')
    size = weight.shape[-1] if weight.ndim == 4 else 0
    taps, rest = divmod(size - 1, max_dilation)
    if weight.ndim != 4 or weight.shape[-2] != size or rest or taps < 2 or taps % 2:
        raise ValueError(
            f'a kernel {list(weight.shape)} is none of a supernet with max_dilation={max_dilation}: it has '
            '[O, I, K, K], K = (k - 1) max_dilation + 1 for an odd k of at least 3'
        )
    weight = weight.detach().double()
    if not weight.isfinite().all():
        raise ValueError('the kernel has NaN or infinite weights; take a checkpoint from before training diverged')
    if criterion == 'l1':
        sums = weight.abs().sum(1)  # [O, K, K]: the rest is linear in the taps
        totals = sums.sum((1, 2))
        found = [
            totals - sums[:, rows][:, :, columns].sum((1, 2)) for rows, columns in kept_taps(taps + 1, max_dilation)
        ]
        return torch.stack(found, 1).clamp_min(0).numpy(), totals.numpy()
    means = 1 if channel_means is None else channel_means.double().abs()
    whole = weight.sum((2, 3))  # [O, I]
    found = [
        ((whole - weight[:, :, rows][:, :, :, columns].sum((2, 3))).abs() * means).sum(1)
        for rows, columns in kept_taps(taps + 1, max_dilation)
    ]
    return torch.stack(found, 1).numpy(), (whole.abs() * means).sum(1).numpy()


def kept_taps(kernel_size, max_dilation):
    """Return the taps of a supernet's kernel that each dilation keeps.

    Args:
        kernel_size (int): Taps a side of the ordinary convolution.
        max_dilation (int): Of the supernet.

    Returns:
        list[tuple[ndarray, ndarray]]: Rows and columns, in the order of :func:`dilations`.
    """
    reach = kernel_size // 2
    centre, steps = reach * max_dilation, np.arange(-reach, reach + 1)
    return [(centre + height * steps, centre + width * steps) for height, width in dilations(max_dilation)]


def choose(weight, max_dilation, criterion='l1', groups=1, channel_means=None, error=None):
    """Choose the dilation of least error for every filter of a layer.

    Ties go to the smaller area, then to the wider; a filter whose weights are all zero becomes undilated. With groups,
    an inception convolution has the same number of filters of a dilation in each of them: the numbers are those of the
    free choice, rounded, and within each group filters are assigned so that the sum of their errors is least.

    Args:
        weight (Tensor): Kernel [O, I, K, K] of a supernet.
        max_dilation (int): Of the supernet.
        criterion (str): See :func:`errors`. Default: 'l1'.
        groups (int): Of the convolution. Default: 1.
        channel_means (Tensor, optional): See :func:`errors`. Default: None.
        error (ndarray, optional): [O, D] in the order of :func:`dilations`, in place of those of the criterion.
            Default: None.

    Returns:
        Choice: Runs of the pattern, and which filter stands where.

    Raises:
        ValueError: See :func:`errors`; or if the filters are no multiple of ``groups``.
    """
    found, totals = errors(weight, max_dilation, criterion, channel_means)
    found = found if error is None else error
    count = len(weight)
    if groups < 1 or count % groups:
        raise PatternError(f'groups={groups} does not divide the {count} filters; choose a divisor')
    dead = (weight.detach().abs().amax((1, 2, 3)) == 0).numpy()
    found = np.where(dead[:, None], 0, found)
    free = found.argmin(1)  # of equal ones the first
    chosen = free if groups == 1 else _balanced(found, free, groups)
    pairs = dilations(max_dilation)
    order = sorted(range(count), key=lambda index: (pairs[chosen[index]], index))
    runs = []
    for index in order:
        pair = pairs[chosen[index]]
        if runs and tuple(runs[-1][:2]) == pair:
            runs[-1][2] += 1
        else:
            runs.append([*pair, 1])
    return Choice(
        runs=tuple(map(tuple, runs)),
        order=tuple(order),
        dilations=tuple(pairs[index] for index in chosen),
        lost=float(found[np.arange(count), chosen].sum()),
        total=float(totals.sum()) if error is None else float('nan'),
        dead=int(dead.sum()),
    )


def _balanced(found, free, groups):
    """Choose with the same number of filters of each dilation in every group."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise ImportError('the search in grouped convolutions needs scipy; run `pip install scipy`') from None
    per_group = len(found) // groups
    exact = np.bincount(free, minlength=found.shape[1]) / groups
    quotas = exact.astype(int)
    for index in np.argsort(quotas - exact, kind='stable')[: per_group - quotas.sum()]:
        quotas[index] += 1
    slots = np.repeat(np.arange(found.shape[1]), quotas)
    chosen = np.empty(len(found), int)
    for begin in range(0, len(found), per_group):
        rows, columns = linear_sum_assignment(found[begin : begin + per_group, slots])
        chosen[begin + rows] = slots[columns]
    return chosen
