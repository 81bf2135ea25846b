"""One small network of each family, for what every family has to do."""

import torch

from mmext.models import ICResNet, InflatedDenseNet, InflatedResNet, RedNet, WiderResNet

NARROW = dict(base_channels=16, stem_channels=16)
# name -> how to make it with more options, and the shape of its input
FAMILIES = {
    'RedNet': (lambda **kw: RedNet(26, **{**NARROW, 'stem_channels': 32, 'out_indices': (0, 1), **kw}), (2, 3, 32, 48)),
    'ICResNet': (lambda **kw: ICResNet(18, 'uniform', **{**NARROW, 'out_indices': (0, 1), **kw}), (2, 3, 32, 48)),
    'WiderResNet': (lambda **kw: WiderResNet('A', width=1 / 32, **{'out_indices': (1, 2), **kw}), (2, 3, 32, 48)),
    'InflatedResNet': (lambda **kw: InflatedResNet(18, **{**NARROW, 'out_indices': (0, 1), **kw}), (2, 3, 8, 32, 48)),
    'InflatedDenseNet': (
        lambda **kw: InflatedDenseNet(121, growth=4, stem_channels=8, **{'out_indices': (0,), **kw}),
        (2, 3, 8, 32, 48),
    ),
}
# of the axes, for the first dimension, time (where there is one), height and width
OTHER_SIZES = ((1, 16, 48, 32), (3, 11, 45, 39))


def make(name, **options):
    """Return a network with statistics that are not those of a new norm, and an input."""
    build, shape = FAMILIES[name]
    torch.manual_seed(0)
    network = build(**options)
    with torch.no_grad():
        for buffer_name, value in network.named_buffers():
            if buffer_name.endswith('running_mean'):
                value.uniform_(-0.1, 0.1)
            elif buffer_name.endswith('running_var'):
                value.uniform_(0.5, 1.5)
    return network.eval(), torch.rand(shape)


def other_inputs(name):
    """Return inputs of other sizes in every dimension but channels."""
    clips = len(FAMILIES[name][1]) == 5
    return [torch.rand(n, 3, *([t] if clips else []), h, w) for n, t, h, w in OTHER_SIZES]


def listed(outs):
    """Return the outputs of a network as a list."""
    return [outs] if isinstance(outs, torch.Tensor) else list(outs)
