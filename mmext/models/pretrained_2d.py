"""Weights of a 2D network for its inflated form, from a checkpoint of torchvision or of a toolbox."""

import re

from torch import nn

from mmext.ops.inflate.weights import inflate_weight

__all__ = ['inflate_state_dict', 'load_pretrained']

SHOWN = 5
CLASSIFIERS = re.compile(r'(fc|classifier|head|neck)\.')


def inflate_state_dict(state_dict, module, modes=None):
    """Turn the state dict of a 2D backbone into that of its inflated form.

    A classifier's keys (``fc.``, ``classifier.``, ``head.``, ``neck.``) are left out, as a backbone has none.

    Args:
        state_dict (Mapping[str, Tensor]): Of the 2D network, under the names of ``module``.
        module (nn.Module): The inflated network. Of its 5D weights the temporal kernel is read off.
        modes (dict[str, str], optional): Name of a convolution -> 'center' or 'average'. Default: None, 'center'.

    Returns:
        dict[str, Tensor]: One entry for every key of ``module``.

    Raises:
        ValueError: If keys are missing, are too many or have other shapes; the message names them.
    """
    wanted = module.state_dict()
    found, wrong = {}, []
    source = {key: value for key, value in state_dict.items() if not CLASSIFIERS.match(key)}
    for key, value in wanted.items():
        if key not in source:
            if key.endswith('num_batches_tracked'):  # checkpoints of old versions have none
                found[key] = value.new_zeros(()) if value.device.type != 'meta' else value
            continue
        given = source[key]
        if value.ndim == 5 and given.ndim == 4:
            mode = (modes or {}).get(key.removesuffix('.weight'), 'center')
            given = inflate_weight(given, value.shape[2], mode)
        found[key] = given
        if given.shape != value.shape:
            wrong.append(f'{key} ({list(source[key].shape)} for {list(value.shape)})')
    faults = []
    for words, keys in (
        ('it lacks', [key for key in wanted if key not in found]),
        ('there is no place for', [key for key in source if key not in wanted]),
        ('shapes do not fit:', wrong),
    ):
        if keys:
            more = ', ...' if len(keys) > SHOWN else ''
            faults.append(f'{words} {len(keys)} keys: {", ".join(keys[:SHOWN])}{more}')
    if faults:
        raise ValueError('; '.join(faults))
    return found


def load_pretrained(module, checkpoint, from_2d=True, names=(), modes=None):
    """Load a checkpoint into an inflated backbone; every key must find its counterpart.

    Args:
        module (nn.Module): The backbone.
        checkpoint (str or Path): A path, a URL, or ``torchvision://resnet50``; see
            :func:`mmext.convert.read_checkpoint`. A ``state_dict`` within it, and ``module.`` and ``backbone.`` before
            the names, are taken off.
        from_2d (bool): Whether it is of the 2D network, to be inflated. Default: True.
        names (Sequence[tuple[str, str]]): Patterns and what replaces them, for other names of the same network.
            Default: ().
        modes (dict[str, str], optional): See :func:`inflate_state_dict`. Default: None.

    Raises:
        ValueError: If the checkpoint cannot be read in safety or does not fit; the message names the keys and says what
            to set.
        OSError: If there is no such file.
    """
    from mmext.convert import read_checkpoint

    state_dict = {key.removeprefix('module.'): value for key, value in read_checkpoint(checkpoint).items()}
    if any(key.startswith('backbone.') for key in state_dict):
        start = len('backbone.')
        state_dict = {key[start:]: value for key, value in state_dict.items() if key.startswith('backbone.')}
    for pattern, replacement in names:
        state_dict = {re.sub(pattern, replacement, key): value for key, value in state_dict.items()}
    flat = [key for key, value in state_dict.items() if key.endswith('.weight') and value.ndim == 4]
    if from_2d and not flat:
        raise ValueError(
            f'{checkpoint} has no 2D convolution, though pretrained2d=True says that it is of a 2D network; set '
            'pretrained2d=False for a checkpoint of the inflated one'
        )
    if not from_2d and flat:
        raise ValueError(
            f'{checkpoint} is of a 2D network ({flat[0]} has 4 dimensions); set pretrained2d=True to inflate it'
        )
    try:
        module.load_state_dict(inflate_state_dict(state_dict, module, modes))
    except ValueError as error:
        raise ValueError(
            f'{checkpoint} does not fit {type(module).__name__}: {error}; give the checkpoint of this very network, or '
            'set depth (and num_stages) to that of the checkpoint'
        ) from None


def mark_initialised(module):
    """Keep mmengine from initialising the children of a module, which would overwrite what was loaded."""
    for child in module.modules():
        if isinstance(child, nn.Module) and hasattr(child, 'init_weights'):
            child.is_init = True
