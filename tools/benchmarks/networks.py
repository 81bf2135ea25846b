#!/usr/bin/env python3
"""Time and memory of whole networks: those of a family beside ResNet-50 and beside themselves in the published form.

All but an unfolded RedNet run in both memory formats. Ratios are over ResNet-50 of the same run in PyTorch's usual one.
"""

import argparse
import itertools
import json
from pathlib import Path
from unittest import mock

import measuring
import tables
import torch
from involution_sides import unfold
from tables import BASELINE, IC, IC_PUBLISHED, LAST, RED, RED_UNFOLD
from torch import nn
from torch.nn import functional as F

# The baseline, ours, the published form, which may be left out.
FAMILIES = {
    'rednet': (BASELINE, BASELINE + LAST, RED, RED + LAST, RED_UNFOLD),
    'ic_resnet': (BASELINE, BASELINE + LAST, IC, IC + LAST, IC_PUBLISHED, IC_PUBLISHED + LAST),
}
PUBLISHED = RED_UNFOLD, IC_PUBLISHED, IC_PUBLISHED + LAST
CLASSES = 1000


class Classifier(nn.Module):
    """A backbone with global average pooling and a linear layer, as ResNet-50 has them."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x):
        """Images [N, 3, H, W] -> scores [N, classes]."""
        return self.fc(self.backbone(x)[0].mean((2, 3)))


def make_network(name):
    """Return one of the networks of ``FAMILIES`` with random weights."""
    from mmext.models import ICResNet, RedNet

    if name.startswith(BASELINE):
        from torchvision.models import resnet50

        return resnet50(weights=None, num_classes=CLASSES)
    if name.startswith(RED):
        return Classifier(RedNet(50, out_indices=(3,)))
    backend = 'reference' if name.startswith(IC_PUBLISHED) else None  # a convolution for each dilation
    return Classifier(ICResNet(50, 'detection_r50_k9', out_indices=(3,), inception_backend=backend))


def make_call(name, mode, amp, batch, size, device):
    """Return a callable that runs a network once.

    Args:
        name (str): One of the networks of ``FAMILIES``.
        mode (str): 'inference', or 'training' for forward, backward and a step of SGD.
        amp (bool): Whether under autocast to bfloat16.
        batch (int): Images.
        size (int): Their rows and columns.
        device (str): 'cpu' or 'cuda'.

    Returns:
        Callable: It returns a tuple of the scores or of the loss.
    """
    memory_format = torch.channels_last if name.endswith(LAST) else torch.contiguous_format
    network = make_network(name).to(device, memory_format=memory_format).train(mode == 'training')
    images = torch.randn(batch, 3, size, size, device=device).to(memory_format=memory_format)
    labels = torch.randint(CLASSES, (batch,), device=device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    autocast = torch.autocast(device, torch.bfloat16, enabled=amp)

    def infer():
        with torch.inference_mode(), autocast:
            return (network(images),)

    def train():
        optimizer.zero_grad()
        with autocast:
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return (loss.detach(),)

    call = train if mode == 'training' else infer
    if name != RED_UNFOLD:
        return call

    def call_unfolded():
        with mock.patch('mmext.layers.involution.involution', unfold):
            return call()

    return call_unfolded


def memory_calls(name, threads, *settings):
    """Return what the fresh process measures, see :func:`measuring.memory_in_fresh_process`."""
    torch.set_num_threads(threads)
    return {'call': make_call(name, *settings)}


def measure(mode, amp, batch, networks, args):
    """Measure the networks beside each other.

    Args:
        mode (str): 'inference' or 'training'.
        amp (bool): Whether under autocast to bfloat16.
        batch (int): Images.
        networks (list[str]): Some of a family, the baseline among them.
        args (argparse.Namespace): ``device``, ``runs``, ``size`` and ``memory``.

    Returns:
        dict: The row, as the JSON file has it.
    """
    settings = mode, amp, batch, args.size, args.device
    calls, entries = {}, {}
    for name in networks:
        call = make_call(name, *settings)
        try:
            call()
        except torch.OutOfMemoryError:
            entries[name] = {'skipped': 'the memory of the GPU is too small'}
        else:
            calls[name] = call
    found = measuring.time_in_turns(calls, args.device, args.runs)
    for name, entry in found.items():
        entry['ratio'] = entry['median_ms'] / found[BASELINE]['median_ms']
        entry['extra_bytes'] = None
        if args.memory and args.device == 'cpu':
            job = name, torch.get_num_threads(), *settings
            entry['extra_bytes'] = measuring.memory_in_fresh_process('networks', 'memory_calls', *job)['call']
        elif args.memory:
            entry['extra_bytes'] = measuring.extra_memory(calls[name], args.device)
    return dict(mode=mode, amp=amp, batch=batch, networks=entries | found)


def parse(argv):
    """Read the command line; a mistake ends in one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('family', choices=FAMILIES)
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: cuda where there is a GPU')
    parser.add_argument('--batch', type=int, nargs='+', help='default: 1 8 on the CPU, 128 on a GPU')
    parser.add_argument('--size', type=int, default=224, help='rows and columns of the images; default: %(default)s')
    parser.add_argument('--train', action='store_true', help='measure a training step, too')
    parser.add_argument('--amp', action='store_true', help='measure under autocast to bfloat16, too')
    parser.add_argument('--no-published', action='store_true', help='leave the published form out')
    parser.add_argument('--no-memory', dest='memory', action='store_false', help='measure times only')
    parser.add_argument('--runs', type=int, default=9, help='samples of each network; default: %(default)s')
    parser.add_argument('--out', type=Path, help='default: docs/benchmarks/FAMILY_DEVICE.json')
    args = parser.parse_args(argv)
    measuring.prepare(parser, args)
    args.batch = args.batch or ([128] if args.device == 'cuda' else [1, 8])
    if min(args.batch) < 1 or args.size < 32:
        parser.error(f'--batch {min(args.batch)} --size {args.size}: at least 1 and 32 are needed')
    args.out = args.out or measuring.RESULTS / f'{args.family}_{args.device}.json'
    return args


def main(argv=None):
    """Measure, print the networks and their ratios, write JSON."""
    args = parse(argv)
    no_memory = measuring.why_no_memory(args.device) if args.memory else 'not asked for'
    args.memory = no_memory is None
    result = {
        **measuring.machine(args.device),
        'runs': args.runs,
        'size': args.size,
        'memory_not_measured': no_memory,
        'rows': [],
    }
    networks = [name for name in FAMILIES[args.family] if not (args.no_published and name in PUBLISHED)]
    modes = ('inference', 'training') if args.train else ('inference',)
    for mode, amp, batch in itertools.product(modes, (False, True) if args.amp else (False,), args.batch):
        row = measure(mode, amp, batch, networks, args)
        result['rows'].append(row)
        for name, entry in row['networks'].items():
            figures = entry.get('skipped')
            if figures is None:
                figures = f'{tables.milliseconds(entry["median_ms"]):>7} ms {tables.times(entry["ratio"]):>6}'
            print(f'{tables.kind(row)}, batch {batch}: {name:<45} {figures}', flush=True)
    print(f'\n{tables.networks(result)}')
    measuring.write_whole(args.out, json.dumps(result, indent=2) + '\n')
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
