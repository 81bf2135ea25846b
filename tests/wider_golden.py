"""Reading of Wider-ResNet's golden cases: parameters under MXNet's names, arrays whole or as statistics and samples."""

import functools
import re

import golden
import numpy as np
import torch
from torch import nn

from mmext.models import WiderResNet

POOLING = {None: 'pad', 'caffe': 'floor', 'full': 'ceil'}
STATISTICS = {'gamma': 'weight', 'beta': 'bias', 'moving_mean': 'running_mean', 'moving_var': 'running_var'}


def our_key(name):
    """Return our key for a parameter's MXNet name, worked out here apart from the converter."""
    if name == 'conv1a_weight':
        return 'backbone.conv1.weight'
    if name.startswith('bn7_'):
        return f'backbone.bn7.{STATISTICS[name[4:]]}'
    block = re.fullmatch(r'(bn|res)(\d)(a|b\d)_branch(1|2a|2b\d)_(\w+)', name)
    if block:
        kind, level, place, branch, what = block.groups()
        number = 0 if place == 'a' else int(place[1:])
        prefix = f'backbone.level{level}.{number}.'
        if branch == '1':
            return f'{prefix}shortcut.weight'
        index = 1 if branch == '2a' else 1 + int(branch[2:])
        return f'{prefix}{"bn" if kind == "bn" else "conv"}{index}.{STATISTICS.get(what, what)}'
    layer, _, what = name.rpartition('_')
    return f'conv6a.{what}' if layer == 'conv6a' else f'classifier.{what}'


class Network(nn.Module):
    """A backbone, and what a case has on it: pooling and a linear layer, the two convolutions, or nothing."""

    def __init__(self, model, fcn, classes=None, feat_stride=32, **options):
        super().__init__()
        self.backbone = WiderResNet(
            model.rpartition('_')[2].upper(),
            output_stride=feat_stride,
            out_indices=range(7),
            dropout=(0.3, 0.5) if fcn and not options.get('is_train') else (0.0, 0.0),
            pooling=POOLING[options.get('pool_top_infer_style')],
            norm_eval=options.get('bn_use_global_stats', False),
        )
        self.conv6a = nn.Conv2d(4096, 512, 3, padding=12, dilation=12) if fcn else None
        self.classifier = None
        if fcn:
            self.classifier = nn.Conv2d(512, classes, 3, padding=12, dilation=12)
        elif classes:
            self.classifier = nn.Linear(4096, classes)

    def forward(self, x):
        """Return {key of the case: tensor}."""
        found = {}
        hooks = [
            block.register_forward_hook(lambda _, args, out, index=index: found.update({f'block{index}': out}))
            for index, block in enumerate(block for k in range(2, 8) for block in getattr(self.backbone, f'level{k}'))
        ] + [
            pool.register_forward_hook(lambda _, args, out, index=index: found.update({f'pool{index}': out}))
            for index, pool in ((int(level) - 1, pool) for level, pool in self.backbone.pools.items())
        ]
        outs = self.backbone(x)
        for hook in hooks:
            hook.remove()
        found |= {f'level{index}': out for index, out in enumerate(outs, 1)}
        found |= {'level7': found['block16'], 'relu7': outs[6]}
        if self.conv6a is not None:
            found['conv6a'] = self.conv6a(outs[6])
            found['conv6a_relu'] = found['conv6a'].relu()
            found['scores'] = self.classifier(found['conv6a_relu'])
        elif self.classifier is not None:
            found['pool7'] = outs[6].mean((2, 3), keepdim=True)
            found['scores'] = self.classifier(found['pool7'].flatten(1))
            found['softmax'] = found['scores'].softmax(1)
        return found


@functools.cache
def filled(name, shape, seed):
    """Weights that most cases share; drawing 105 million numbers takes longer than using them."""
    return golden.fill.fill_param(name, shape, seed)


class Case(golden.Case):
    """One golden case of the family, with MXNet's lists of arguments and auxiliary states."""

    def __init__(self, name):
        super().__init__('wider_resnet', name)

    def checkpoint(self):
        """Return {MXNet name: array} of all arguments and auxiliary states; the arrays are not to be changed."""
        seed = self['weights_seed']
        return {name: filled(name, tuple(shape), seed) for name, shape in [*self['args'], *self['auxs']]}

    def image(self):
        """Return the input."""
        given = self['input']
        return torch.from_numpy(golden.fill.fill_input(given['name'], given['shape'], given['seed']))

    def network(self):
        """Return the case's network with its weights, in evaluation mode."""
        with torch.device('meta'):
            network = Network(fcn=self['symbol'].startswith('FCN'), **self['options'])
        # of the small ones copies: training moves the statistics
        state = {
            our_key(name): torch.tensor(value) if value.ndim == 1 else torch.from_numpy(value)
            for name, value in self.checkpoint().items()
        }
        missing, unexpected = network.load_state_dict(state, strict=False, assign=True)
        assert not unexpected
        assert all(key.endswith('num_batches_tracked') for key in missing)
        for module in network.modules():  # the only ones without a value of their own
            if isinstance(module, nn.BatchNorm2d):
                module.num_batches_tracked = torch.zeros((), dtype=torch.long)
        return network.eval().requires_grad_()

    def errors(self, outputs):
        """Return {array of the case: largest difference relative to the array's largest value}."""
        nodes = {node['key']: node for node in self['output_nodes']}
        found = {}
        for name, expected in self.arrays.items():
            key, _, what = name.rpartition('/')
            if what not in ('mean', 'std', 'sub'):
                key, what = name, None
            value = outputs[key].detach().numpy()
            if what in ('mean', 'std'):
                value = getattr(value.astype(np.float64), what)((2, 3))[:, :: nodes[key].get('stats_channel_stride', 1)]
            elif what == 'sub':
                channels, space = nodes[key]['sub']['channel_stride'], nodes[key]['sub']['spatial_stride']
                value = value[:, ::channels, ::space, ::space]
            assert value.shape == expected.shape, name
            found[name] = np.abs(value - expected).max() / np.abs(expected).max()
        return found
