"""Recomputation by itself: the same values, gradients and statistics, whatever the norms do."""

import copy

import pytest
import torch
from torch import nn

from mmext.models.recompute import recompute


def part():
    """Norms that move their statistics, have a mean of all batches, keep none, and are frozen."""
    torch.manual_seed(0)
    norms = nn.BatchNorm2d(3), nn.BatchNorm2d(3, momentum=None), nn.BatchNorm2d(3, track_running_stats=False)
    frozen = nn.BatchNorm2d(3)
    frozen.running_mean.normal_()
    layers = [layer for norm in (*norms, frozen) for layer in (nn.Conv2d(3, 3, 3, padding=1), norm, nn.Tanh())]
    model = nn.Sequential(*layers).train()
    frozen.eval()
    return model


def test_the_same_with_and_without():
    plain = part()
    saving = copy.deepcopy(plain)
    x = torch.randn(2, 3, 6, 5)
    results = []
    for model, run in ((plain, plain), (saving, lambda x: recompute(saving, x, [saving]))):
        inputs = x.clone().requires_grad_()
        for _ in range(2):
            out = run(inputs)
            out.square().sum().backward()
        results.append([out, inputs.grad, *(p.grad for p in model.parameters()), *model.buffers()])
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)
    settings = [[(m.momentum, m.training) for m in model if isinstance(m, nn.BatchNorm2d)] for model in (plain, saving)]
    assert settings[0] == settings[1]
    assert saving[1].num_batches_tracked == 2


def test_an_error_in_the_second_run_leaves_the_norms_as_they_were():
    model = part()

    def fail(module, args):
        raise RuntimeError('interrupted')

    out = recompute(model, torch.randn(2, 3, 6, 5, requires_grad=True), [model])
    before = copy.deepcopy(model.state_dict())
    model[3].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match='interrupted'):
        out.sum().backward()
    assert model[1].momentum == 0.1
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_two_backward_passes_over_one_graph():
    plain = part()
    saving = copy.deepcopy(plain)
    x = torch.randn(2, 3, 6, 5)
    results = []
    for model, run in ((plain, plain), (saving, lambda x: recompute(saving, x, [saving]))):
        inputs = x.clone().requires_grad_()
        out = run(inputs)
        out.square().sum().backward(retain_graph=True)
        out.sum().backward()
        results.append([inputs.grad, *(p.grad for p in model.parameters()), *model.buffers()])
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)
