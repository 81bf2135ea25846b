import pytest
import torch
from mmcv.ops import RoIAlign, nms

import mmext  # noqa: F401  applies the cures

BOXES = torch.tensor([[0.0, 0, 8, 8], [1, 1, 8, 8], [8, 8, 16, 16]])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_nms(dtype):
    scores = torch.tensor([0.5, 0.75, 0.25])
    kept = nms(BOXES, scores, 0.5)[1]
    assert kept.tolist() == [1, 2]
    assert torch.equal(nms(BOXES.to(dtype), scores.to(dtype), 0.5)[1], kept)
    assert torch.equal(nms(BOXES, scores.to(dtype), 0.5)[1], kept)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_roi_align(dtype):
    rois = torch.cat([torch.zeros(3, 1), BOXES], dim=1)
    features = torch.rand(1, 4, 8, 8).to(dtype).float().requires_grad_()
    layer = RoIAlign(2, spatial_scale=0.5)
    out = layer(features, rois)
    (grad,) = torch.autograd.grad(out.sum(), features)

    half = features.detach().to(dtype).requires_grad_()
    out_half = layer(half, rois.to(dtype))
    (grad_half,) = torch.autograd.grad(out_half.sum(), half)
    assert out_half.dtype == grad_half.dtype == dtype
    assert torch.equal(out_half, out.to(dtype))
    assert torch.equal(grad_half, grad.to(dtype))
