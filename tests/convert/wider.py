"""Small checkpoints of Wider-ResNets, a sixty-fourth as wide, under the names of the original projects."""

import re

import golden
import torch
import wider_golden
from torch import nn

from mmext.models import WiderResNet

WIDTH = 1 / 64
CHANNELS = 64
COUNTER = 'num_batches_tracked'


def listed(name):
    """{MXNet name: shape} of a golden case, with arg: and aux:."""
    case = wider_golden.Case(name)
    return {f'{kind}:{key}': tuple(shape) for kind in ('arg', 'aux') for key, shape in case[f'{kind}s']}


def our_key(name, segments=False):
    """Our key for an MXNet name, worked out apart from the converter."""
    key = wider_golden.our_key(name.partition(':')[2])
    key = key.replace('conv6a.', 'decode_head.convs.0.conv.')
    return re.sub(r'^classifier\.', 'decode_head.conv_seg.' if segments else 'head.fc.', key)


def psa_key(key):
    """The name of one of our keys in the psa project, worked out apart from the converter."""
    key = key.removeprefix('backbone.').replace('conv1.', 'conv1a.') if key.startswith('backbone.conv1.') else key
    for ours, theirs in (
        (r'backbone\.level(\d)\.0\.', r'b\1.'),
        (r'backbone\.level(\d)\.(\d)\.', r'b\1_\2.'),
        (r'\.(bn|conv)1\.', r'.\1_branch2a.'),
        (r'\.(bn|conv)2\.', r'.\1_branch2b1.'),
        (r'\.(bn|conv)3\.', r'.\1_branch2b2.'),
        (r'\.shortcut\.', '.conv_branch1.'),
        (r'^backbone\.bn7', 'bn7'),
        (r'^head\.fc\.', 'fc8.'),
    ):
        key = re.sub(ours, theirs, key)
    return key


class Classifier(nn.Module):
    """A narrow network; no value is one that an initialisation would give."""

    def __init__(self, classes=5, width=WIDTH, **options):
        super().__init__()
        self.backbone = WiderResNet('A1', width=width, **options)
        self.head = nn.Module()
        self.head.fc = nn.Linear(self.backbone.feat_dim, classes)
        state = {
            key: value if key.endswith(COUNTER) else torch.rand(value.shape) + (0.5 if value.ndim == 1 else -0.5)
            for key, value in self.state_dict().items()
        }
        self.load_state_dict(state)
        self.eval()

    def forward(self, x):
        return self.head.fc(self.backbone(x)[-1].mean((2, 3)))


def classifier(**options):
    """{MXNet name: array} of a narrow classifier."""
    torch.manual_seed(1)
    state = Classifier(**options).state_dict()
    names = {our_key(name): name for name in listed('a1_cls1000_s32_even')}
    return {names[key].replace('1000', '5'): state[key].numpy() for key in state if not key.endswith(COUNTER)}


def segmentor(classes=4, hidden=8):
    """{MXNet name: array} of a narrow segmentation network."""
    found = {key: value for key, value in classifier().items() if 'linear' not in key}
    torch.manual_seed(2)
    shapes = {'conv6a': (hidden, CHANNELS, 3, 3), f'linear{classes}': (classes, hidden, 3, 3)}
    for name, shape in shapes.items():
        found |= {f'arg:{name}_weight': torch.rand(shape).numpy(), f'arg:{name}_bias': torch.rand(shape[0]).numpy()}
    return found


GOLDEN_CASES = golden.names('wider_resnet', 'a*') + golden.names('wider_resnet', 'fcn*')
