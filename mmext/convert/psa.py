"""Checkpoints of the psa project and its descendants: Wider-ResNets (Model A1) for weak supervision, by PyTorch.

Source: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised Semantic
Segmentation" (CVPR 2018), https://github.com/jiwoon-ahn/psa, and projects that share its network. Their state dicts
name the first block of level L bL and the others bL_1, bL_2, ...::

    conv1a.weight                              backbone.conv1.weight
    b4.bn_branch2a.*, b4.conv_branch2a.*       backbone.level4.0.bn1.*, conv1.*
    ..._branch2b1.*, ..._branch2b2.*           the same of bn2, conv2, and of bn3, conv3 (levels 6 and 7)
    b4.conv_branch1.weight                     backbone.level4.0.shortcut.weight
    bn7.*                                      backbone.bn7.*
    fc8.weight [classes, channels, 1, 1]       head.fc.weight [classes, channels]
    f8_3, f8_4, f8_5, f9                       dropped: affinity and attention

The classifier has no bias: ours gets zeros, which leaves its outputs as they are. As in
:mod:`mmext.convert.ademxapp`, strides, dilations and dropout cannot be told from a checkpoint.
"""

import re

from .report import ConversionReport
from .shapes import conv, legal_size, under
from .wider_resnet_parts import PREFIX, Backbone, count_batches, refuse_others, saved_here

__all__ = ['plan']

LAYERS = {
    'bn1': 'bn_branch2a',
    'conv1': 'conv_branch2a',
    'bn2': 'bn_branch2b1',
    'conv2': 'conv_branch2b1',
    'bn3': 'bn_branch2b2',
    'conv3': 'conv_branch2b2',
    'shortcut': 'conv_branch1',
}
LINEAR, FC8 = 'head.fc', 'fc8.weight'
AFFINITY = re.compile(r'(f8_3|f8_4|f8_5|f9)\..+')
# What a checkpoint of something else is, told by a key.
LOOKS_LIKE = (
    (r'arg:conv1a_weight|arg:bn7_gamma', "it has the names of the ademxapp project; choose the source 'ademxapp'"),
    (r'(backbone\.)?layer1\.0\..*', 'it is of another network; choose the source that fits'),
)
NO_COUNTER = 'state dicts from before PyTorch 0.4.1 lack it, and a BatchNorm with a momentum does not read it'


def plan(state_dict):
    """Map the keys of a checkpoint of the psa project or a descendant.

    Args:
        state_dict (Mapping[str, Tensor]): The checkpoint, as published or converted.

    Returns:
        tuple[ConversionReport, dict[str, tuple]]: The report, with nothing in ``missing``, and the shape of every key
        of the network that the checkpoint describes. The bias of the classifier is ``filled``, and so are the counters
        of the norms where there are none.

    Raises:
        ConversionError: If it is a checkpoint of another architecture.
    """
    converted = saved_here(state_dict)
    backbone = Backbone(state_dict, None if converted else _their_name)
    if not converted:
        refuse_others(state_dict, backbone.names, 'psa', 'conv1a.weight', LOOKS_LIKE)
    report = ConversionReport('psa', backbone.settings)
    expected, names = dict(backbone.keys), backbone.names
    weight = f'{LINEAR}.weight'
    if converted and any(not key.startswith(PREFIX) for key in state_dict):
        names |= {weight: weight, f'{LINEAR}.bias': f'{LINEAR}.bias'}
    elif FC8 in state_dict:
        names[FC8] = weight
        report.reshaped[weight] = 'a 1x1 convolution after pooling is a linear layer'
        report.filled[f'{LINEAR}.bias'] = 'the classifier of the original has no bias'
    reason = 'affinity and attention, no part of this network'
    report.dropped |= {key: reason for key in state_dict if AFFINITY.fullmatch(key)}
    if weight in names.values():
        shape = next((value.shape for key, value in state_dict.items() if names.get(key) == weight), ())
        classes = legal_size('the weight of the classifier', shape, 0) if len(shape) else 1
        report.architecture |= dict(head='LinearClsHead', num_classes=classes)
        expected |= under(LINEAR, conv(classes, backbone.channels, None))
    else:
        report.architecture['part'] = 'backbone alone'
    report.mapped |= {key: names[key] for key in state_dict if names.get(key) in expected}
    count_batches(report, expected, NO_COUNTER)
    return report, expected


def _their_name(key):
    """Return the name that a tensor of our backbone has in the checkpoint."""
    layer, _, what = key.rpartition('.')
    if layer == 'conv1':
        return f'conv1a.{what}'
    if layer == 'bn7':
        return key
    level, number, layer = layer.removeprefix('level').split('.')
    block = f'b{level}_{number}' if int(number) else f'b{level}'
    return f'{block}.{LAYERS[layer]}.{what}'
