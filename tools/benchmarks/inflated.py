#!/usr/bin/env python3
"""Time of the inflated networks, as the original's table has it, beside the straightforward form of the same networks.

The straightforward form is ``nn.Conv3d`` in PyTorch's usual layout. Both have the same weights; their outputs are
compared before anything is timed. The original's times are those of its README, on a GTX TITAN Black.
"""

import argparse
import json
import sys
from pathlib import Path

import measuring
import torch
from torch import nn

import mmext
from mmext.models import InflatedDenseNet, InflatedResNet

STRAIGHT, OURS, FUSED = 'straightforward', 'mmext', 'mmext, fused'
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


def build(name, training, narrow):
    """Return the network's forms by name, all with the same weights."""
    torch.manual_seed(0)
    options = {}
    if narrow:
        options = dict(stem_channels=8, base_channels=8) if name.startswith('R') else dict(growth=4, stem_channels=8)
    make = NETWORKS[name]
    straight, ours = make(channels_last=False, **options), make(channels_last=True, **options)
    for module in straight.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.weight.data.fill_(0.5)  # also the last of a block, zero at first
    ours.load_state_dict(straight.state_dict())
    ours.to(memory_format=torch.channels_last_3d)
    forms = {STRAIGHT: straight.train(training), OURS: ours.train(training)}
    if not training:
        forms[FUSED] = mmext.fuse(ours)
    return forms


def make_call(network, clips, training):
    """Return a callable that runs a network once: a pass, or forward, backward and a step of SGD."""
    if not training:

        def infer():
            with torch.no_grad():
                return (network(clips),)

        return infer
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9, momentum=0.9)

    def train():
        optimizer.zero_grad()
        loss = network(clips).square().mean()
        loss.backward()
        optimizer.step()
        return (loss.detach(),)

    return train


def measure(name, batch, training, args):
    """Return one row of the JSON file."""
    forms = build(name, training, args.narrow)
    clips = torch.rand(batch, 3, args.frames, args.size, args.size)
    calls = {form: make_call(network, clips, training) for form, network in forms.items()}
    (expected,) = calls[STRAIGHT]()
    difference = max(
        ((call()[0] - expected).abs().max() / expected.abs().max()).item()
        for form, call in calls.items()
        if form != STRAIGHT
    )
    if not difference < CLOSE:
        raise SystemExit(f'{name}: results differ by {difference:.1e} of the largest value')
    found = measuring.time_in_turns(calls, 'cpu', args.runs)
    for entry in found.values():
        entry['ratio'] = found[STRAIGHT]['median_ms'] / entry['median_ms']
    row = dict(network=name, batch=batch, training=training, difference=difference, forms=found)
    published = None if training else PUBLISHED.get(batch, {}).get(name)
    return {**row, 'published_seconds': published}


def main(argv=None):
    """Measure, print the forms and their ratios, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS), metavar='NAME')
    parser.add_argument('--batch', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--frames', type=int, default=16)
    parser.add_argument('--size', type=int, default=224, help='rows and columns of a frame')
    parser.add_argument('--train', nargs='*', choices=NETWORKS, default=['R50'], help='networks to train a step of')
    parser.add_argument('--narrow', action='store_true', help='few channels, to try the script')
    parser.add_argument('--runs', type=int, default=5, help='samples of each form')
    parser.add_argument('--out', type=Path, default=measuring.RESULTS / 'inflated_cpu.json')
    args = parser.parse_args(argv)
    args.device = 'cpu'
    measuring.prepare(parser, args)
    result = {**measuring.machine('cpu'), 'runs': args.runs, 'frames': args.frames, 'size': args.size, 'rows': []}
    jobs = [(name, batch, False) for batch in args.batch for name in args.networks]
    jobs += [(name, args.batch[0], True) for name in args.train]
    for name, batch, training in jobs:
        row = measure(name, batch, training, args)
        result['rows'].append(row)
        figures = '   '.join(
            f'{form} {entry["median_ms"]:.0f} ms ({entry["ratio"]:.2f})' for form, entry in row['forms'].items()
        )
        print(f'{name:<5} batch {batch} {"training " if training else "inference"} {figures}', flush=True)
    measuring.write_whole(args.out, json.dumps(result, indent=1) + '\n')
    print(f'written: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
