import torch
from mmengine.registry import DefaultScope

import mmext  # noqa: F401


def test_scores_in_bfloat16_have_the_loss_of_float32():
    from mmaction.models.heads import I3DHead
    from mmaction.structures import ActionDataSample

    scores = torch.randn(4, 6).bfloat16()
    samples = [ActionDataSample().set_gt_label(label) for label in (0, 5, 3, 2)]
    with DefaultScope.overwrite_default_scope('mmaction'):
        head = I3DHead(6, 8)
        found = head.loss_by_feat(scores, samples)
        expected = head.loss_by_feat(scores.float(), samples)
    assert found['loss_cls'].dtype == torch.float32
    assert found == expected
