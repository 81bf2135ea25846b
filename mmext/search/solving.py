"""The search itself: the dilations that a trained supernet's kernels choose."""

import hashlib
from dataclasses import dataclass

import torch
from mmengine.registry import init_default_scope

from mmext.convert.reading import read_checkpoint
from mmext.convert.report import name_keys
from mmext.layers import SupernetConv2d
from mmext.patterns import Pattern
from mmext.utils.configs import build_model, load_config
from mmext.version import __version__

from .calibration import ChannelMeans, OutputErrors, run_on_images
from .choice import choose

__all__ = ['CRITERIA', 'Found', 'solve']

CRITERIA = 'l1', 'expectation', 'expectation-calibrated', 'response'
WATCHES = {'expectation-calibrated': ChannelMeans, 'response': OutputErrors}


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        pattern: The layers.
        choices: Name of each layer in the model -> :class:`~mmext.search.Choice`.
        search: Where it is from, as the file keeps it.
    """

    pattern: Pattern
    choices: dict
    search: dict


def solve(config, checkpoint, criterion='l1', images=16, split='val'):
    """Search the dilations of every filter of every layer, one layer after the other.

    Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), section 3.

    Args:
        config (str or Path): What ``mmext search supernet`` wrote.
        checkpoint (str or Path): Weights of the trained supernet.
        criterion (str): 'l1' or 'expectation', see :func:`mmext.search.errors`. 'expectation-calibrated' is the latter
            with the means of the input channels over images of the config's data loader. 'response' is the mean
            absolute difference of the outputs on these images. Default: 'l1'.
        images (int): How many of them, at least 1. Default: 16.
        split (str): 'val' or 'train', the data loader. Default: 'val'.

    Returns:
        Found: The pattern and how it came about.

    Raises:
        ValueError: If the config or the checkpoint is none of a supernet, or of another one, or a layer has NaN or
            infinite weights; the message names the layer.
        OSError: If a file cannot be read.
    """
    cfg = load_config(config)
    try:
        with torch.device('meta'):  # its weights are not needed, which for large kernels are gigabytes
            model = build_model(cfg)
    except ValueError:  # some models compute with values when they are built
        model = build_model(cfg)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, SupernetConv2d)}
    layers = {name: layer for name, layer in layers.items() if layer.plain_kernel_size > 1}
    if not layers:
        raise ValueError(f'{config} is the config of no supernet; make one: mmext search supernet {config} --out ...')
    if criterion not in CRITERIA:
        raise ValueError(f'criterion={criterion!r} is unknown; choose one of {", ".join(CRITERIA)}')
    weights = read_checkpoint(checkpoint)
    kernels = {name: _weight(weights, name, layer, checkpoint, config) for name, layer in layers.items()}
    seen, used = {}, {}
    if criterion in WATCHES:
        seen, count = _watched(cfg, weights, list(layers), WATCHES[criterion], images, split, checkpoint)
        used = dict(images=count, split=split)
    choices = {}
    for name, layer in layers.items():
        options = {}
        if criterion in WATCHES:
            options['channel_means' if criterion == 'expectation-calibrated' else 'error'] = seen[name]
        rule = 'l1' if criterion == 'response' else criterion.partition('-')[0]
        try:
            choices[name] = choose(kernels[name], layer.max_dilation, rule, layer.groups, **options)
        except ValueError as error:
            raise ValueError(f'{name} of {checkpoint}: {error}') from error
    search = dict(
        config=str(config),
        checkpoint_sha256=_digest(checkpoint),
        max_dilation=max(layer.max_dilation for layer in layers.values()),
        criterion=criterion,
        **used,
        mmext=__version__,
    )
    return Found(Pattern(choice.runs for choice in choices.values()), choices, search)


def _watched(cfg, weights, names, watch, images, split, checkpoint):
    """Run the supernet on images; return what was seen of each layer, and how many images there were."""
    model = build_model(cfg)
    missing, _ = model.load_state_dict(weights, strict=False)
    if missing:
        raise ValueError(f'{checkpoint} lacks {name_keys(missing)}; give a checkpoint of the whole model')
    layers = {name: model.get_submodule(name) for name in names}
    watches = {name: watch(layer) for name, layer in layers.items()}
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    count = run_on_images(model, cfg, split, images, {layers[name]: seen for name, seen in watches.items()})
    unseen = [name for name, seen in watches.items() if not seen.pixels]
    if unseen:
        raise ValueError(f'{name_keys(unseen)} do not run on an image; exclude them from the supernet')
    return {name: seen.result() for name, seen in watches.items()}, count


def _weight(weights, name, layer, checkpoint, config):
    weight = weights.get(f'{name}.weight')
    if weight is None:
        raise ValueError(
            f'{checkpoint} has no {name}.weight, it is the checkpoint of another model; give one that was trained with '
            f'{config}'
        )
    if weight.shape == layer.weight.shape:
        return weight
    size, plain = weight.shape[-1] if weight.ndim == 4 else 0, layer.plain_kernel_size
    if size == plain:
        raise ValueError(
            f'{name}.weight of {checkpoint} is {list(weight.shape)}, that of the plain network, no supernet; train '
            f'{config} first and give its checkpoint'
        )
    other, rest = divmod(size - 1, plain - 1)
    if size > plain and not rest and weight.shape[:2] == layer.weight.shape[:2]:
        raise ValueError(
            f'{name}.weight of {checkpoint} is {list(weight.shape)}: max_dilation={other}, but {config} has '
            f'max_dilation={layer.max_dilation}; give the config that the checkpoint was trained with'
        )
    raise ValueError(
        f'{name}.weight of {checkpoint} is {list(weight.shape)}, {config} has {list(layer.weight.shape)}; give the '
        'config that the checkpoint was trained with'
    )


def _digest(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
