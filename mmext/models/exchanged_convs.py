"""Any network of a toolbox with other convolutions in named places, as configs write it."""

import difflib

from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn

from mmext.patterns import load_pattern
from mmext.registry import MODELS

__all__ = ['ExchangedConvs', 'exchange_convolutions']


@MODELS.register_module()
def ExchangedConvs(network, convs, conv_cfg, pattern=None, **options):  # noqa: N802  a type in configs
    """Build a network and put other convolutions in the place of some of its own.

    What is built is the network itself: its class, its attributes and the keys of its state dict are those of the
    config ``network``.

    Args:
        network (dict): Config of a backbone, neck, head or whole model of the running toolbox.
        convs (Sequence[str]): Names of the convolutions, as in ``named_modules`` of the network.
        conv_cfg (dict): Type of the new convolutions and what they take beyond ``nn.Conv2d``.
        pattern (str, Path, Pattern or list, optional): Dilation pattern with a layer for each of ``convs`` in their
            order, see :func:`mmext.patterns.load_pattern`. Default: None.
        **options: Take the place of those of ``network``, as ``--cfg-options`` and toolboxes set them, such as
            ``init_cfg``.

    Returns:
        nn.Module: The network.

    Raises:
        ValueError: If a name is none of a convolution, or the pattern does not fit; the message names the place.
    """
    built = ROOT_MODELS.build({**network, **options})
    exchange_convolutions(built, convs, conv_cfg, pattern)
    return built


def exchange_convolutions(network, convs, conv_cfg, pattern=None):
    """Put other convolutions of the same settings in named places of a network, in place.

    Args:
        network (nn.Module): The network.
        convs (Sequence[str]): See :func:`ExchangedConvs`.
        conv_cfg (dict): See :func:`ExchangedConvs`.
        pattern (str, Path, Pattern or list, optional): See :func:`ExchangedConvs`.

    Raises:
        ValueError: See :func:`ExchangedConvs`.
    """
    found = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    unknown = next((name for name in convs if name not in found), None)
    if unknown is not None:
        close = ', '.join(difflib.get_close_matches(unknown, found, n=3) or list(found)[:3])
        raise ValueError(
            f'{type(network).__name__} has no convolution {unknown!r}; some that it has: {close or "none"}'
        )
    layers = [None] * len(convs)
    if pattern is not None:
        layers = load_pattern(pattern)
        layers.check_widths([found[name].out_channels for name in convs], 'the pattern', list(convs))
    for name, layer in zip(convs, layers):
        old = found[name]
        options = dict(conv_cfg) if layer is None else dict(conv_cfg, pattern=layer)
        settings = dict(
            in_channels=old.in_channels,
            out_channels=old.out_channels,
            kernel_size=old.kernel_size,
            stride=old.stride,
            padding=old.padding,
            dilation=old.dilation,
            groups=old.groups,
            bias=old.bias is not None,
        )
        new = MODELS.get(options.pop('type'))(**settings, **options)
        new.train(old.training)
        for own, other in zip(new.parameters(), old.parameters()):
            own.requires_grad_(other.requires_grad)  # of frozen stages
        parent, _, child = name.rpartition('.')
        setattr(network.get_submodule(parent), child, new)
