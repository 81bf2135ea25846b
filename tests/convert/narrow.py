"""Small checkpoints in the layout of the involution project."""

import torch

from mmext.models import RedNet

WIDTHS = dict(stem_channels=32, base_channels=16, expansion=2)


def rednet(**options):
    """The narrowest legal RedNet-26."""
    return RedNet(26, **{**WIDTHS, **options})


def classifier(classes=5, **options):
    """A state dict with the published classifiers' names; no value is one that an initialisation would give."""
    torch.manual_seed(1)
    state = {
        f'backbone.{key}': torch.rand(value.shape) + 2 if value.is_floating_point() else torch.tensor(1000)
        for key, value in rednet(**options).state_dict().items()
    }
    state['head.fc.weight'] = torch.rand(classes, 8 * 32)
    state['head.fc.bias'] = torch.rand(classes)
    return state
