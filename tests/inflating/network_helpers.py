"""What the tests of mmext.inflate share: weights that are not trivial, and comparisons with the 2D network."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

TOLERANCE = 1e-5  # of the largest value


def filled(model):
    """Give every norm statistics and weights of its own; return the model in evaluation mode."""
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias, 0, 0.1)
    model.eval()  # some toolboxes' backbones return nothing here
    return model


def still(image, frames):
    return image[:, :, None].expand(-1, -1, frames, -1, -1)


def outputs(model, x):
    with torch.inference_mode():
        out = model(x)
    return tuple(out) if isinstance(out, (tuple, list)) else (out,)


def assert_equal(one, other):
    one, other = one.detach(), other.detach()
    assert one.shape == other.shape
    error = float((one - other).abs().max() / other.abs().max())
    assert error < TOLERANCE, f'relative error {error:.2e}'


def assert_still_clips(model, network, image, frames=(1, 3)):
    """Assert that a static clip gives what its picture gives, in every frame where there are frames left."""
    expected = outputs(model, image)
    for count in frames:
        found = outputs(network, still(image, count))
        for one, other in zip(found, expected, strict=True):
            if one.ndim > other.ndim:
                time = 2 if other.ndim == 4 else 1
                other = other.unsqueeze(time).expand_as(one)
            assert_equal(one, other)
