"""Cross entropy over the pixels that a network finds hard."""

import torch.nn.functional as F
from torch import nn

from mmext.registry import MODELS

__all__ = ['BootstrappedCrossEntropyLoss']


@MODELS.register_module()
class BootstrappedCrossEntropyLoss(nn.Module):
    """Mean cross entropy over the hard pixels: those whose label has a probability of at most a threshold.

    The threshold is raised, where needed, to the ``min_kept``-th smallest probability among the valid pixels of the
    whole batch of a device. A probability equal to the threshold counts as hard, so that ties keep more pixels. Where a
    batch has no more than ``min_kept`` valid pixels, all of them are kept, however easy. Pixels without a label never
    count. mmseg's ``OHEMPixelSampler`` differs in all of this: ``min_kept`` counts per picture, the comparison is
    strict, and the sum over the hard pixels is divided by the number of all.

    Source: "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den Hengel, 2016),
    training of the segmentation networks, with the rules of its published code; the method is that of "Bridging
    Category-level and Instance-level Semantic Image Segmentation" (Wu, Shen, van den Hengel, 2016).

    Args:
        thresh (float): Threshold of the probability, from 0 to 1. Default: 0.6.
        min_kept (int): Number of pixels kept at least, 0 or more; 0 means the threshold alone. It is the published
            number for four pictures with labels at a stride of 8: with labels for all pixels a larger one is due.
            Default: 256.
        margin (float, optional): If given, above 0 and at most 1: of the kept pixels only those are kept in a second
            step whose probability exceeds the second largest one of all classes by at most this margin, or by at most
            the ``min_kept``-th smallest such difference if that is larger. Default: None.
        loss_weight (float): Factor of the loss. Default: 1.0.
        loss_name (str): Name in the log. It must begin with ``loss_`` to be trained. Default: 'loss_bootstrapped'.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, thresh=0.6, min_kept=256, margin=None, loss_weight=1.0, loss_name='loss_bootstrapped'):
        super().__init__()
        if not 0 <= thresh <= 1:
            raise ValueError(f'thresh={thresh} is a probability: it must lie from 0 to 1')
        if min_kept != int(min_kept) or min_kept < 0:
            raise ValueError(f'min_kept={min_kept} is a number of pixels: it must be whole and at least 0')
        if margin is not None and not 0 < margin <= 1:
            raise ValueError(f'margin={margin} must be above 0 and at most 1, or None for no second step')
        self.thresh = thresh
        self.min_kept = int(min_kept)
        self.margin = margin
        self.loss_weight = loss_weight
        self._loss_name = loss_name

    @property
    def loss_name(self):
        """Name in the log (str)."""
        return self._loss_name

    def extra_repr(self):
        """Return the settings for ``print(model)``."""
        return f'thresh={self.thresh}, min_kept={self.min_kept}, margin={self.margin}, loss_weight={self.loss_weight}'

    def forward(self, cls_score, label, weight=None, ignore_index=255, **kwargs):
        """Return the loss.

        Args:
            cls_score (Tensor): Scores [N, C, ...] before the softmax, C at least 2, of any floating type. The loss is
                computed in float64, also under autocast.
            label (Tensor): Labels [N, ...], int64: 0 to C - 1 or ``ignore_index``.
            weight (Tensor, optional): Must be None: weights come from a sampler, and this loss is one itself.
            ignore_index (int): Label of the pixels that do not count. Default: 255.
            **kwargs: Not used.

        Returns:
            Tensor: Scalar, float32. 0 with a gradient of 0 if no pixel is valid.

        Raises:
            ValueError: If ``weight`` is given.
        """
        if weight is not None:
            raise ValueError(
                'BootstrappedCrossEntropyLoss chooses the pixels itself and takes no weight: remove sampler=... from '
                'the head, or use CrossEntropyLoss'
            )
        # float64, as the original: the choice among very easy pixels depends on differences below 1e-7
        scores = cls_score.double()
        losses = F.cross_entropy(scores, label, ignore_index=ignore_index, reduction='none')
        probability = (-losses.detach()).exp().float()
        kept = self._smallest(probability, label != ignore_index, self.thresh)
        if self.margin is not None:
            second = scores.detach().softmax(1).topk(2, dim=1).values[:, 1].float()
            kept = self._smallest(probability - second, kept, self.margin)
        return (losses.where(kept, 0).sum() / kept.sum().clamp(min=1)).float() * self.loss_weight

    def _smallest(self, values, candidates, bound):
        """Tell which candidates are at most the bound, raised so that at least ``min_kept`` are, or all."""
        if self.min_kept:
            # Numbers of candidates stay on the device: where there are too few, the bound becomes infinite.
            line = values.where(candidates, float('inf')).flatten()
            bound = line.topk(min(self.min_kept, len(line)), largest=False).values[-1].clamp(min=bound)
        return candidates & ~(values > bound)  # in this form NaN is kept, and seen in the loss
