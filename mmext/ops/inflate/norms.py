"""Inflation of normalisation layers."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .carrying import carry, copied, plain

__all__ = ['inflate_batch_norm', 'inflate_norm']

ANY_RANK = (nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def inflate_batch_norm(norm):
    """Turn a batch normalisation of pictures into one of clips, with statistics of its own.

    In evaluation mode every element becomes what it was in 2D, in static and moving clips. In training mode, mean and
    variance are those over frames as well; for a static clip they are those of its pictures (the running variance is
    that of more samples).

    Args:
        norm (nn.BatchNorm2d or nn.SyncBatchNorm): Affine or not, with running statistics or without.

    Returns:
        nn.BatchNorm3d or nn.SyncBatchNorm: [N, C, T, H, W] -> the same shape, with the keys of ``norm`` and copies of
        its values; its dtype, device, mode and ``requires_grad``.

    Raises:
        TypeError: If ``norm`` is neither, or a subclass that computes something else.

    Examples:
        >>> inflate_batch_norm(nn.BatchNorm2d(8))
        BatchNorm3d(8, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
    """
    base = plain(norm, (nn.SyncBatchNorm, nn.BatchNorm2d), 'batch normalisation')
    settings = (norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    if base is nn.SyncBatchNorm:
        new = nn.SyncBatchNorm(*settings, process_group=norm.process_group, device='meta')
    else:
        new = nn.BatchNorm3d(*settings, device='meta')
    return carry(norm, new)


def inflate_norm(norm):
    """Turn a normalisation layer of pictures into one of clips.

    - ``nn.BatchNorm2d``, ``nn.SyncBatchNorm``: see :func:`inflate_batch_norm`.
    - ``nn.InstanceNorm2d``: ``nn.InstanceNorm3d``; the statistics of a sample are those over its frames as well.
    - ``nn.GroupNorm``: a copy, which takes the statistics over the frames as well when it is given a clip.
    - ``nn.LayerNorm``: a copy, for tensors whose last axes are those it normalises, such as [N, T, H, W, C].
    - ``nn.LocalResponseNorm``: a copy, for [N, C, T, H, W].

    A static clip gives what its picture gives with each. A moving clip gives what its frames give, except where
    statistics are taken over frames.

    Args:
        norm (nn.Module): One of the above.

    Returns:
        nn.Module: A new module with the keys of ``norm``, its dtype, device, mode and ``requires_grad``.

    Raises:
        TypeError: If ``norm`` is none of them, or a subclass that computes something else.
    """
    if isinstance(norm, _BatchNorm):
        return inflate_batch_norm(norm)
    if isinstance(norm, nn.InstanceNorm2d):
        plain(norm, (nn.InstanceNorm2d,), 'normalisation')
        settings = (norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        return carry(norm, nn.InstanceNorm3d(*settings, device='meta'))
    plain(norm, ANY_RANK, 'normalisation')
    return copied(norm)
