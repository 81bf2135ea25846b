"""Checkpoints of the ademxapp project: Wider-ResNets for ImageNet classification and segmentation, by MXNet.

Source: "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Pattern Recognition 2019) and the six
``.params`` files published with it. Block B of level L is 2a, 2b1, 2b2, 3a, ...; ours are level2.0, level2.1, ...::

    arg:conv1a_weight                            backbone.conv1.weight
    arg:bnB_branch2a_gamma, _beta                backbone.levelL.i.bn1.weight, .bias
    aux:bnB_branch2a_moving_mean, _moving_var    backbone.levelL.i.bn1.running_mean, .running_var
    arg:resB_branch2a_weight                     backbone.levelL.i.conv1.weight
    ..._branch2b1_..., ..._branch2b2_...         the same of bn2, conv2, and of bn3, conv3 (levels 6 and 7)
    arg:resB_branch1_weight                      backbone.levelL.0.shortcut.weight
    arg:bn7_gamma, ...                           backbone.bn7.weight, ...
    arg:linearC_weight, _bias of 2 dimensions    head.fc.weight, .bias                      of a classifier
    arg:conv6a_weight, _bias                     decode_head.convs.0.conv.weight, .bias     of a segmentation network
    arg:linearC_weight, _bias of 4 dimensions    decode_head.conv_seg.weight, .bias         of a segmentation network

Models A, A1 and A2 have the same names and shapes: which of them the weights were trained for cannot be told from a
checkpoint, nor can strides, dilations, pooling or dropout. The width is read off the shapes.
"""

import re
from collections.abc import Mapping

import numpy as np
import torch

from .files import existing_file
from .mxnet_params import is_params_file, read_params
from .reading import is_pytorch_file, load_content
from .report import ConversionError, ConversionReport
from .shapes import conv, legal_size, under
from .wider_resnet_parts import PREFIX, Backbone, count_batches, refuse_others, saved_here

__all__ = ['PUBLISHED_MD5', 'load', 'original_name', 'plan']

PUBLISHED_MD5 = {
    'ilsvrc-cls_rna-a_cls1000_ep-0001.params': '2421c1945b6797cecd3f89db14ca73f6',
    'ilsvrc-cls_rna-a1_cls1000_ep-0001.params': 'ff21f45d6bf03284100dcbec571edfad',
    'voc_rna-a1_cls21_s8_ep-0001.params': 'a34628a63d5f62dcb98c29c4e281f332',
    'voc_rna-a1_cls21_s8_coco_ep-0001.params': '328c0eca0c45b6345ada2f95edce68d4',
    'cityscapes_rna-a1_cls19_s8_ep-0001.params': '226b3e861a6be7d0dc84e537f4eab154',
    'ade20k_rna-a1_cls150_s8_ep-0001.params': '1faf29850bfa194678f0b8e1cbbffa98',
}
NAMES = {
    'weight': ('arg', 'gamma'),
    'bias': ('arg', 'beta'),
    'running_mean': ('aux', 'moving_mean'),
    'running_var': ('aux', 'moving_var'),
}
BRANCHES = {'1': '2a', '2': '2b1', '3': '2b2'}
LINEAR, HIDDEN, SCORES = 'head.fc', 'decode_head.convs.0.conv', 'decode_head.conv_seg'
CLASSIFIER = re.compile(r'arg:linear([1-9][0-9]{0,8})_(weight|bias)')
# What a checkpoint of something else is, told by a key.
LOOKS_LIKE = (
    (r'conv1a\.weight|b2\.conv_branch1\.weight', "it has the names of the psa project; choose the source 'psa'"),
    (
        r'conv1a_weight|res2a_branch1_weight',
        'names start with arg: or aux: in a checkpoint; give the file as published',
    ),
    (r'layer1\.0\..*|backbone\.layer1\.0\..*', 'it is of another network; choose the source that fits'),
)
NO_COUNTER = 'MXNet does not count batches, and a BatchNorm with a momentum does not read the count'


def load(path_or_mapping):
    """Read a ``.params`` file, or a file that ``mmext convert`` made of one.

    Args:
        path_or_mapping (str, Path or Mapping): The file, or a mapping of names to numpy arrays or tensors.

    Returns:
        tuple[Mapping, str]: What it holds, arrays as tensors, and its name for messages. The tensors of a file are
        views of a private map of it, so that they take no memory of their own.

    Raises:
        ConversionError: If the file is damaged or of another format, or arrays are of a type that PyTorch lacks.
        OSError: If there is no such file.
    """
    if isinstance(path_or_mapping, Mapping):
        return {key: _tensor(key, value) for key, value in path_or_mapping.items()}, 'the mapping'
    path = existing_file(path_or_mapping)
    if is_params_file(path) or not is_pytorch_file(path):
        return {key: _tensor(key, value) for key, value in read_params(path).items()}, str(path)
    content, name = load_content(path)
    state_dict = content.get('state_dict') if isinstance(content, Mapping) else None
    if not isinstance(state_dict, Mapping) or not saved_here(state_dict):
        raise ConversionError(
            f'{name} is a PyTorch checkpoint, and those of this project are MXNet .params files; give such a file, or '
            "choose the source that fits, which for a Wider-ResNet of the psa project is 'psa'"
        )
    return content, name


def _tensor(key, value):
    if not isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value, value.dtype.newbyteorder('='), order='C')
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except TypeError as error:
        raise ConversionError(f'{key} is an array of {value.dtype}, which PyTorch does not have ({error})') from None


def plan(state_dict):
    """Map the keys of a checkpoint of the ademxapp project.

    Args:
        state_dict (Mapping[str, Tensor]): The checkpoint, as published or converted.

    Returns:
        tuple[ConversionReport, dict[str, tuple]]: The report, with nothing in ``missing``, and the shape of every key
        of the network that the checkpoint describes. The counters of the norms, which MXNet has not, are ``filled``.

    Raises:
        ConversionError: If it is a checkpoint of another architecture.
    """
    converted = saved_here(state_dict)
    backbone = Backbone(state_dict, None if converted else original_name)
    if not converted:
        refuse_others(state_dict, backbone.names, 'ademxapp', 'arg:conv1a_weight', LOOKS_LIKE)
    report = ConversionReport('ademxapp', backbone.settings)
    names, head = _head(state_dict, report.architecture, backbone.channels, converted)
    expected = backbone.keys | head
    names |= backbone.names
    report.mapped |= {key: names[key] for key in state_dict if names.get(key) in expected}
    count_batches(report, expected, NO_COUNTER)
    return report, expected


def original_name(key):
    """Return the name that a tensor of our backbone has in a published checkpoint.

    Args:
        key (str): Our key without ``backbone.``, such as ``'level2.1.bn1.weight'``.

    Returns:
        str: For example ``'arg:bn2b1_branch2a_gamma'``; None for ``num_batches_tracked``, which MXNet does not have.
    """
    layer, _, what = key.rpartition('.')
    if layer == 'conv1':
        return 'arg:conv1a_weight'
    if what not in NAMES:
        return None
    kind, name = NAMES[what]
    if layer == 'bn7':
        return f'{kind}:bn7_{name}'
    level, number, layer = layer.removeprefix('level').split('.')
    block = f'{level}{f"b{number}" if int(number) else "a"}'
    if layer == 'shortcut':
        return f'arg:res{block}_branch1_weight'
    branch = f'{block}_branch{BRANCHES[layer[-1]]}'
    return f'{kind}:bn{branch}_{name}' if layer.startswith('bn') else f'arg:res{branch}_weight'


def _head(state_dict, settings, channels, converted):
    """Return {key of the checkpoint: our key} and {our key: shape} of what stands on the backbone; note what it is."""
    if converted:
        names = {key: key for key in state_dict if not key.startswith(PREFIX)}
        segments = any(key.startswith('decode_head.') for key in names)
    else:
        found = [match for match in map(CLASSIFIER.fullmatch, state_dict) if match]
        segments = any(key.startswith('arg:conv6a_') for key in state_dict) or any(
            state_dict[match[0]].ndim == 4 for match in found
        )
        # of several classifiers all but the first are unknown
        names = {match[0]: f'{SCORES if segments else LINEAR}.{match[2]}' for match in found if match[1] == found[0][1]}
        if segments:
            names |= {f'arg:conv6a_{what}': f'{HIDDEN}.{what}' for what in ('weight', 'bias')}
    if not names:
        settings['part'] = 'backbone alone'
        return {}, {}
    shapes = {names[key]: tuple(value.shape) for key, value in state_dict.items() if key in names}
    settings['decode_head' if segments else 'head'] = 'DilatedFCNHead' if segments else 'LinearClsHead'
    classes = _size(shapes, SCORES if segments else LINEAR, 1) if converted or not found else int(found[0][1])
    settings['num_classes'] = classes
    if not segments:
        return names, under(LINEAR, conv(classes, channels, None))
    hidden = settings['channels'] = _size(shapes, HIDDEN, 512)
    return names, under(HIDDEN, conv(hidden, channels, 3)) | under(SCORES, conv(classes, hidden, 3))


def _size(shapes, layer, default):
    """Return the output channels of a layer, told by its weight or else its bias; ``default`` where both are gone."""
    for name in (f'{layer}.weight', f'{layer}.bias'):
        if shapes.get(name):
            return legal_size(name, shapes[name], 0) or default
    return default
