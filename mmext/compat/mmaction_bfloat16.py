"""mmaction2's classifiers hand their scores to numpy, which has no bfloat16, so that ``--amp`` fails on the CPU.

No upstream issue is known to us. The scores become float32 before the loss, as autocast makes them within it anyway.
"""

import torch

from .after_import import after_import

__all__ = ['apply']


def _cure(module):
    loss_by_feat = module.BaseHead.loss_by_feat

    def in_float32(self, cls_scores, data_samples):
        if isinstance(cls_scores, torch.Tensor) and cls_scores.dtype == torch.bfloat16:
            cls_scores = cls_scores.float()
        return loss_by_feat(self, cls_scores, data_samples)

    module.BaseHead.loss_by_feat = in_float32


def apply():
    """Let mmaction2's classifiers train in bfloat16."""
    after_import('mmaction.models.heads.base', _cure)
