#!/usr/bin/env python3
"""Memory of Wider-ResNet: a training step with and without ``with_cp``, and inference.

The network is Model A1 at stride 8 with the two-convolution head, statistics frozen, as segmentation trains it. Counted
is what is alive at once beside weights, their gradients and statistics. The step is also run, each side in a process of
its own for its memory, then both in turns for their time, losses and gradients.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from live_memory import LiveMemory
from measuring import RESULTS, machine, memory_in_fresh_process, prepare, time_in_turns, why_no_memory, write_whole
from torch import nn

from mmext.models import WiderResNet

CLASSES = 21
SIDES = {'plain': False, 'with_cp': True}


class Network(nn.Module):
    """Backbone and head, as in the segmentation configs, without their toolbox."""

    def __init__(self, width=1.0, **options):
        super().__init__()
        self.backbone = WiderResNet('A1', 8, width=width, norm_eval=True, **options)
        self.conv = nn.Conv2d(self.backbone.feat_dim, 512, 3, padding=12, dilation=12)
        self.classifier = nn.Conv2d(512, CLASSES, 3, padding=12, dilation=12)

    def forward(self, x):
        """Return the scores of every cell."""
        return self.classifier(self.conv(self.backbone(x)[-1]).relu_())


def build(size, batch, device, with_cp, width=1.0):
    """Return a network in training mode with gradients in place, images and labels of their cells."""
    torch.manual_seed(0)
    with torch.device(device):
        network = Network(width, with_cp=with_cp, dropout=(0.3, 0.5)).train()
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        cells = -(-size // 8)
        images = torch.rand(batch, 3, size, size)
        labels = torch.randint(CLASSES, (batch, cells, cells))
    return network, images, labels


def step(network, images, labels):
    """Run forward and backward; returns the loss."""
    torch.manual_seed(1)  # of the dropout
    loss = F.cross_entropy(network(images), labels)
    loss.backward()
    return loss.detach()


def training_bytes(size, batch, with_cp, width=1.0):
    """Count the bytes alive at the peak of a training step, on meta tensors."""
    network, *data = build(size, batch, 'meta', with_cp, width)
    parts = list(network.parameters())
    with LiveMemory([*parts, *(part.grad for part in parts), *network.buffers()]) as memory:
        step(network, *data)
    return memory.peak


def inference_bytes(height, width, out_indices):
    """Count the bytes alive at the peak of inference on one image, on meta tensors."""
    with torch.device('meta'):
        network = WiderResNet('A1', 8, out_indices=out_indices).eval()
        image = torch.empty(1, 3, height, width)
    parts = [*network.parameters(), *network.buffers(), image]
    with torch.no_grad(), LiveMemory(parts) as memory:
        network(image)
    return memory.peak


def training_calls(size, batch, with_cp, width):
    """Return the step as a call, for measuring.memory_in_fresh_process."""
    network, *data = build(size, batch, 'cpu', with_cp, width)
    return {'step': lambda: (step(network, *data),)}


def compare(size, batch, width, runs):
    """Run both sides' steps: the differences of losses and gradients, and the times."""
    sides = {name: build(size, batch, 'cpu', with_cp, width) for name, with_cp in SIDES.items()}
    losses = {name: step(*side).item() for name, side in sides.items()}
    plain, saving = ([p.grad.clone() for p in network.parameters()] for network, *_ in sides.values())
    difference = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(plain, saving))
    times = time_in_turns({name: lambda side=side: step(*side) for name, side in sides.items()}, 'cpu', runs)
    return {
        'loss_difference': abs(losses['plain'] - losses['with_cp']),
        'gradient_difference': difference,
        'times': times,
        'time_ratio': times['with_cp']['median_ms'] / times['plain']['median_ms'],
    }


def measure(size, batch, width, runs):
    """Return the content of the JSON file."""
    training = {name: {'live_bytes': training_bytes(size, batch, cp, width)} for name, cp in SIDES.items()}
    if why_no_memory('cpu') is None:
        for name, with_cp in SIDES.items():
            found = memory_in_fresh_process('wider_resnet', 'training_calls', size, batch, with_cp, width)
            training[name]['extra_bytes'] = found['step']
    inference = {}
    for height, wide in ((size, size), (1024, 2048)):
        inference[f'{height} x {wide}'] = {
            'all levels kept': inference_bytes(height, wide, range(7)),
            'freed as it goes': inference_bytes(height, wide, (6,)),
        }
    result = {
        'size': size,
        'batch': batch,
        'runs': runs,
        **machine('cpu'),
        'training': training,
        'live_ratio': training['with_cp']['live_bytes'] / training['plain']['live_bytes'],
        'inference_live_bytes': inference,
        **compare(size, batch, width, runs),
    }
    if 'extra_bytes' in training['plain']:
        result['extra_ratio'] = training['with_cp']['extra_bytes'] / training['plain']['extra_bytes']
    return result


def main(argv=None):
    """Measure, print both sides and their ratios, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', type=int, default=504, help='side of the training crop in pixels')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--width', type=float, default=1.0, help='factor on all channels; 1 is the published network')
    parser.add_argument('--runs', type=int, default=3, help='training steps timed of each side')
    parser.add_argument('--out', type=Path, default=RESULTS / 'wider_resnet_cpu.json')
    args = parser.parse_args(argv)
    args.device = 'cpu'
    prepare(parser, args)
    result = measure(args.size, args.batch, args.width, args.runs)
    from tables import wider_resnet

    print(wider_resnet(result))
    write_whole(args.out, json.dumps(result, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
