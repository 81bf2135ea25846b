"""Checkpoints of the inception convolution project: ImageNet classifiers, mmpose 0.x bottom-up pose estimators.

Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021) and the weights published with it. There an
inception convolution is a list of convolutions, one for each run of output channels (``conv2.conv_list.0.weight``);
ours is one convolution, whose weight is those of the list, one after the other. The rest are names::

    conv1.weight, layer1.0...., stem.0....   backbone.*    of a classifier or a backbone alone
    fc.*                                     head.fc.*     of a classifier
    backbone.*                               backbone.*    of a pose estimator
    keypoint_head.*                          head.*        of a pose estimator

A checkpoint tells how many channels each run has, not their dilations: two networks whose patterns differ have tensors
of the same shapes, and the weights of one load into the other. So the channels of the runs are kept, as the setting
``runs`` of the report and in the ``meta`` of a converted file, where the runs themselves are no longer seen.
``init_cfg=dict(type='mmext.PublishedCheckpoint', ...)`` and ``mmext convert --config`` compare them with the network's
pattern. Neither ``style`` nor the dilations or strides of stages can be told from a checkpoint.
"""

import re

import torch

from .report import ConversionError, ConversionReport, name_keys
from .shapes import Shapes, conv, norm, under

__all__ = ['KEEPS_RUNS', 'plan']

KEEPS_RUNS = True
BACKBONE = 'backbone.'
PART = re.compile(r'(.+)\.conv_list\.(0|[1-9][0-9]{0,8})\.(weight|bias)', re.DOTALL)
UNPUBLISHED = 'not a published one: give the pattern file it was trained with'
STEP = 3  # a deconvolution, its norm and a ReLU

# What a checkpoint without inception convolutions is, told by a key.
LOOKS_LIKE = (
    (
        r'(^|\.)layer1\.0\.conv2\.weight$',
        'a ResNet with ordinary convolutions, or an IC-ResNet saved by this package: neither needs a conversion, load '
        "it with init_cfg=dict(type='Pretrained', checkpoint=...) or load_from",
    ),
    (r'(^|\.)layer1\.0\.conv2\.conv2\.conv\.weight$', "a RedNet: choose the source 'involution'"),
)


def plan(state_dict, runs=None):
    """Map the keys of a checkpoint of the inception convolution project.

    Args:
        state_dict (Mapping[str, Tensor]): The checkpoint, as published or converted.
        runs (Mapping[str, Sequence[int]], optional): Of a converted checkpoint, the channels of the runs of each
            inception convolution, which ``meta`` has. Default: None, read off the keys.

    Returns:
        tuple[ConversionReport, dict[str, tuple]]: The report, with nothing in ``missing``, and the shape of every key
        of the network that the checkpoint describes. The parts of an inception convolution are mapped to one key, in
        the order in which they follow each other. ``architecture['runs']`` has the channels of its runs.

    Raises:
        ConversionError: If it is a checkpoint of another architecture, lacks a key that a setting is read off, or the
            parts of an inception convolution have a gap.
    """
    names = _our_names(state_dict)
    parts = _parts(names)
    ours = {name: state_dict[key] for key, name in names.items()}
    if parts:
        weights = {key.removesuffix('.weight'): found for key, found in parts.items() if key.endswith('.weight')}
        runs = {layer: tuple(_channels(state_dict[key]) for key in found) for layer, found in weights.items()}
    else:
        runs = {layer: tuple(counts) for layer, counts in (runs or {}).items() if f'{layer}.weight' in ours}
        _check_runs(runs, ours)
    if not runs:
        _refuse_others(state_dict)

    shapes = Shapes(ours, BACKBONE)
    settings = _backbone_settings(shapes, runs)
    backbone, layers = _backbone(settings)
    expected = under('backbone', backbone)
    layers = [f'{BACKBONE}{layer}' for layer in layers]
    runs = {layer: runs[layer] for layer in layers if layer in runs}
    pattern = _published(layers, runs)
    report = ConversionReport('ic-conv', {'depth': settings['depth'], 'pattern': pattern, **settings})
    widest = settings['base_channels'] * 8 * (1 if settings['depth'] in (18, 34) else 4)
    expected |= _head_keys(Shapes(ours, 'head.'), report.architecture, widest)
    report.architecture['runs'] = runs

    filled = set()
    for key, name in names.items():
        part = PART.fullmatch(name)
        if part:
            target = f'{part[1]}.{part[3]}'
            if part[1] in layers and target in expected:
                report.mapped |= dict.fromkeys(parts[target], target)
        elif name in expected and name not in filled:
            layer = name.removesuffix('.weight')
            if layer in layers and name in parts:
                continue  # both in one and as a list: one of the two is unknown
            if layer in layers and layer not in runs:
                raise ConversionError(
                    f'{key} is one convolution, where others of its kind are lists of them ({layer}.conv_list.*); give '
                    'the checkpoint as published'
                )
            report.mapped[key] = name
            filled.add(name)
    return report, expected


def _our_names(state_dict):
    """Return {key: our key}, but for the lists of convolutions."""
    if any(key.startswith(BACKBONE) for key in state_dict):
        return {key: re.sub(r'^keypoint_head\.', 'head.', key) for key in state_dict}
    return {key: f'head.{key}' if key.startswith('fc.') else f'{BACKBONE}{key}' for key in state_dict}


def _parts(names):
    """Return {our key: keys of its parts}, in the order of their numbers."""
    found = {}
    for key, name in names.items():
        part = PART.fullmatch(name)
        if part:
            found.setdefault(f'{part[1]}.{part[3]}', {})[int(part[2])] = key
    for numbered in found.values():
        gap = next((number for number in range(len(numbered)) if number not in numbered), None)
        if gap is not None:
            after = numbered[min(number for number in numbered if number > gap)]
            lost = re.sub(r'(.*\.conv_list)\.[0-9]+\.', rf'\1.{gap}.', after)
            raise ConversionError(f'{lost} is missing, though {after} is there; give the whole checkpoint')
    return {name: [numbered[number] for number in sorted(numbered)] for name, numbered in found.items()}


def _channels(tensor):
    return tensor.shape[0] if tensor.ndim else 0


def _check_runs(runs, ours):
    for layer, counts in runs.items():
        found = _channels(ours[f'{layer}.weight'])
        if sum(counts) != found:
            raise ConversionError(
                f'{layer}.weight has {found} channels, its runs in the meta of the checkpoint add up to {sum(counts)}; '
                'convert the published checkpoint again'
            )


def _refuse_others(state_dict):
    for pattern, name in LOOKS_LIKE:
        matches = [key for key in state_dict if re.search(pattern, key)]
        if matches:
            raise ConversionError(
                f'this is no published checkpoint of the inception convolution project, as no key has .conv_list.; it '
                f'has {matches[0]}, like {name}'
            )
    raise ConversionError(
        f'this is no checkpoint of the inception convolution project: it has {name_keys(state_dict)}, where an '
        'IC-ResNet has layer1.0.conv2.conv_list.0.weight; give an IC-ResNet checkpoint, or the source that fits'
    )


def _backbone_settings(shapes, runs):
    from mmext.models import ICResNet
    from mmext.models.ic_resnet import BASIC

    blocks = tuple(shapes.count(f'layer{stage}') for stage in (1, 2, 3, 4))
    basic = not any(re.match(r'layer\d+\.\d+\.conv3\.', key) for key in shapes.shapes)
    depths = {depth: sizes for depth, sizes in ICResNet.arch_settings.items() if (depth in BASIC) == basic}
    # of a checkpoint that lacks blocks: the smallest network that holds all others
    fitting = [depth for depth, sizes in depths.items() if all(a <= b for a, b in zip(blocks, sizes))]
    if not fitting:
        known = ', '.join(f'IC-ResNet-{depth} {sizes}' for depth, sizes in depths.items())
        kind = 'two convolutions' if basic else 'three convolutions'
        raise ConversionError(
            f'the stages have {blocks} blocks of {kind}, which no IC-ResNet has ({known}); give one of these'
        )
    settings = dict(depth=fitting[0])
    if basic:
        last = {layer.rpartition('.')[2] for layer in runs}
        settings['inception_convs'] = tuple(name for name in ('conv1', 'conv2') if name in last) or ('conv2',)
    deep = shapes.has('stem.')
    first, last = ('stem.0.conv.weight', 'stem.2.conv.weight') if deep else ('conv1.weight', 'conv1.weight')
    return settings | dict(
        deep_stem=deep,
        in_channels=shapes.size(first, 1),
        stem_channels=shapes.size(last, 0),
        base_channels=shapes.size('layer1.0.bn1.weight', 0),
        avg_down=shapes.has('layer2.0.downsample.2.'),
    )


def _backbone(settings):
    """Return the keys and shapes of a backbone, and the names of its inception convolutions in order."""
    from mmext.layers import InceptionConv2d
    from mmext.models import ICResNet

    try:
        with torch.device('meta'):
            backbone = ICResNet(pattern='uniform', **settings)  # no shape depends on the pattern
    except ValueError as error:
        raise ConversionError(f'the widths in the checkpoint make no IC-ResNet: {error}') from None
    keys = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    return keys, [name for name, module in backbone.named_modules() if isinstance(module, InceptionConv2d)]


def _published(layers, runs):
    """Return the names of the published patterns that have these runs, as far as they are there."""
    from mmext.patterns import PUBLISHED, load_pattern

    def fits(pattern):
        counts = [tuple(run[2] for run in layer) for layer in pattern]
        return (
            runs
            and len(counts) == len(layers)
            and all(runs.get(layer, own) == own for layer, own in zip(layers, counts))
        )

    return ' or '.join(name for name in PUBLISHED if fits(load_pattern(name))) or UNPUBLISHED


def _head_keys(shapes, settings, widest):
    """Return the keys and shapes of what stands on the backbone, and note its settings."""
    if not shapes.shapes:
        settings['part'] = 'backbone alone'
        return {}
    if shapes.has('fc.'):
        settings['head'] = 'LinearClsHead'
        classes = settings['num_classes'] = shapes.size('fc.weight', 0)
        return under('head.fc', conv(classes, widest, None))
    settings['head'] = 'AssociativeEmbeddingHead'
    outputs = settings['out_channels'] = shapes.size('final_layer.weight', 0)
    steps = settings['deconv_layers'] = -(-shapes.count('deconv_layers') // STEP)
    keys, into = {}, widest
    for step in range(steps):
        name = f'deconv_layers.{STEP * step}'
        out, size = shapes.size(f'{name}.weight', 1), shapes.size(f'{name}.weight', 2)
        keys[f'{name}.weight'] = (into, out, size, size)
        keys |= under(f'deconv_layers.{STEP * step + 1}', norm(out))
        into = out
    keys |= under('final_layer', conv(outputs, into, shapes.size('final_layer.weight', 2)))
    return under('head', keys)
