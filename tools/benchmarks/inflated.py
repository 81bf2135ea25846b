#!/usr/bin/env python3
"""Time of the inflated networks, as the original's table has it, beside the straightforward form of the same networks.

The straightforward form is ``nn.Conv3d`` in PyTorch's usual layout, one module after the other. ResNet-50 also runs as
mmaction2 has it, with the kernels and strides of the published inflated one. All have the same weights; their outputs
are compared before anything is timed. The original's times are those of its README, on a GTX TITAN Black.
"""

import argparse
import importlib.util
import itertools
import json
import re
import sys
from pathlib import Path

import measuring
import torch
import torch.nn.functional as F
from torch import nn

import mmext
from mmext.models import InflatedDenseNet, InflatedResNet
from mmext.ops.inflate import InflatedConv3d

STRAIGHT, OURS, OURS_LAST, FUSED = 'straightforward', 'mmext', 'mmext, channels_last_3d', 'mmext, fused'
PACKED = 'mmext, packed'
THEIRS = 'mmaction2'
NETWORKS = {
    'R50': lambda **options: InflatedResNet(50, **options),
    'R101': lambda **options: InflatedResNet(101, **options),
    'R152': lambda **options: InflatedResNet(152, **options),
    'D121': lambda **options: InflatedDenseNet(121, **options),
    'D161': lambda **options: InflatedDenseNet(161, **options),
    'D169': lambda **options: InflatedDenseNet(169, **options),
    'D201': lambda **options: InflatedDenseNet(201, **options),
}
# seconds of a forward pass, by the original's README: batch -> network
PUBLISHED = {
    1: {'R50': 0.1, 'R101': 0.3, 'R152': 0.5, 'D121': 1.3, 'D161': 1.8, 'D169': 1.5, 'D201': 1.7},
    2: {'R50': 0.6, 'R101': 0.8, 'R152': 1.1, 'D121': 2.6},
}
CLOSE = 1e-4  # of the largest value: the order of sums differs


# names of mmaction2's ResNet3d for ours
NAMES = (
    (r'downsample\.0\.', 'downsample.conv.'),
    (r'downsample\.1\.', 'downsample.bn.'),
    (r'\bconv(\d)\.', r'conv\1.conv.'),
    (r'\bbn(\d)\.', r'conv\1.bn.'),
)


def mmaction_resnet(state_dict, width):
    """Return mmaction2's ResNet3d-50 with kernels, strides and weights of ours."""
    from mmaction.models.backbones import ResNet3d

    network = ResNet3d(
        depth=50,
        pretrained=None,
        base_channels=width,
        conv1_kernel=(3, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=2,
        temporal_strides=(1, 2, 2, 2),
        inflate_style='3x3x3',
        with_pool2=False,
    )
    network.maxpool = nn.MaxPool3d(3, 2, 1)  # its own pools over pictures alone
    renamed = {}
    for key, value in state_dict.items():
        for pattern, name in NAMES:
            key = re.sub(pattern, name, key)
        renamed[key] = value
    network.load_state_dict(renamed)
    return network


class PlainConv3d(nn.Conv3d):
    """``nn.Conv3d``, the first and last frame repeated where the published DenseNets do so."""

    repeats = False

    def forward(self, x):
        """[N, C, T, H, W] -> [N, C', T', H', W']."""
        if not self.repeats:
            return super().forward(x)
        frames, *padding = self.padding
        x = F.pad(x, (0, 0, 0, 0, frames, frames), mode='replicate')
        return F.conv3d(x, self.weight, self.bias, self.stride, (0, *padding), self.dilation, self.groups)


def straightforward(network):
    """Put ``nn.Conv3d`` in the place of every convolution of a network."""
    for parent in list(network.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, InflatedConv3d):
                sizes = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.bias is not None
                plain = PlainConv3d(conv.in_channels, conv.out_channels, *sizes)
                plain.repeats = conv.temporal_padding_mode == 'replicate'
                setattr(parent, name, plain)
    return network


def build(name, training, args):
    """Return the network's forms by name, all with the same weights."""
    torch.manual_seed(0)
    options = {}
    if args.narrow:
        options = dict(stem_channels=8, base_channels=8) if name.startswith('R') else dict(growth=4, stem_channels=8)
    make = NETWORKS[name]
    straight = straightforward(make(channels_last=False, **options))
    for module in straight.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.weight.data.fill_(0.5)  # also the last of a block, zero at first
    forms = {STRAIGHT: straight, OURS: make(**options)}
    if args.device == 'cuda':
        forms[OURS_LAST] = make(channels_last=True, **options)
    for network in list(forms.values())[1:]:
        network.load_state_dict(straight.state_dict())
    if name == 'R50' and importlib.util.find_spec('mmaction') is not None:
        forms[THEIRS] = mmaction_resnet(straight.state_dict(), options.get('base_channels', 64))
    for network in forms.values():
        network.to(args.device)
        network.train(training)  # mmaction2's returns nothing
    if args.device == 'cuda':
        forms[OURS_LAST].to(memory_format=torch.channels_last_3d)
    if not training:
        forms[FUSED] = mmext.fuse(forms[OURS])
        if args.device == 'cpu' and name.startswith('R'):
            forms[PACKED] = mmext.fuse(forms[OURS], pack=True)
    return forms


def make_call(network, clips, training, amp):
    """Return a callable that runs a network once: a pass, or forward, backward and a step of SGD."""
    autocast = torch.autocast(clips.device.type, torch.bfloat16, enabled=amp)
    if not training:

        def infer():
            with torch.no_grad(), autocast:
                return (network(clips),)

        return infer
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9, momentum=0.9)

    def train():
        optimizer.zero_grad()
        with autocast:
            loss = network(clips).float().square().mean()
        loss.backward()
        optimizer.step()
        return (loss.detach(),)

    return train


def measure(name, batch, training, amp, args):
    """Return one row of the JSON file."""
    forms = build(name, training, args)
    clips = torch.rand(batch, 3, args.frames, args.size, args.size, device=args.device)
    calls = {form: make_call(network, clips, training, amp) for form, network in forms.items()}
    difference = None
    if not amp:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            expected, *others = (call()[0] for call in calls.values())
        difference = max(((other - expected).abs().max() / expected.abs().max()).item() for other in others)
        if not difference < CLOSE:
            raise SystemExit(f'{name}: results differ by {difference:.1e} of the largest value')
    for call in calls.values():
        call()
    found = measuring.time_in_turns(calls, args.device, args.runs)
    for entry in found.values():
        entry['ratio'] = found[STRAIGHT]['median_ms'] / entry['median_ms']
    row = dict(network=name, batch=batch, training=training, amp=amp, difference=difference, forms=found)
    published = None if training or amp else PUBLISHED.get(batch, {}).get(name)
    return {**row, 'published_seconds': published}


def main(argv=None):
    """Measure, print the forms and their ratios, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: cuda where there is a GPU')
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS), metavar='NAME')
    parser.add_argument('--batch', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--frames', type=int, default=16)
    parser.add_argument('--size', type=int, default=224, help='rows and columns of a frame')
    parser.add_argument('--train', nargs='*', choices=NETWORKS, default=['R50'], help='networks to train a step of')
    parser.add_argument('--narrow', action='store_true', help='few channels, to try the script')
    parser.add_argument('--amp', action='store_true', help='measure under autocast to bfloat16, too')
    parser.add_argument('--runs', type=int, default=7, help='samples of each form')
    parser.add_argument('--out', type=Path, help='default: docs/benchmarks/inflated_DEVICE.json')
    args = parser.parse_args(argv)
    measuring.prepare(parser, args)
    args.out = args.out or measuring.RESULTS / f'inflated_{args.device}.json'
    machine = measuring.machine(args.device)
    result = {**machine, 'runs': args.runs, 'frames': args.frames, 'size': args.size, 'rows': []}
    jobs = [(name, args.batch[0], True) for name in args.train]
    jobs += [(name, batch, False) for batch in args.batch for name in args.networks]
    for (name, batch, training), amp in itertools.product(jobs, (False, True) if args.amp else (False,)):
        row = measure(name, batch, training, amp, args)
        result['rows'].append(row)
        figures = '   '.join(
            f'{form} {entry["median_ms"]:.0f} ms ({entry["ratio"]:.2f})' for form, entry in row['forms'].items()
        )
        print(
            f'{name:<5} batch {batch} {"training " if training else "inference"}{" bfloat16" if amp else ""} {figures}',
            flush=True,
        )
    measuring.write_whole(args.out, json.dumps(result, indent=1) + '\n')
    print(f'written: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
