"""Search the dilations of a network: train a supernet, let its kernels choose, train what was found.

Three commands and two trainings, each with the toolbox's own tools/train.py:

    mmext search supernet my_config.py --max-dilation 4 --out supernet.py
    python tools/train.py supernet.py
    mmext search pattern supernet.py work_dirs/supernet/epoch_12.pth --out pattern.json
    mmext search apply my_config.py pattern.json --out searched.py
    python tools/train.py searched.py

Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), section 3.
"""

import json
import math
import os
from pathlib import Path

from .table import format_table

HELP = 'search the dilations of a network'


def add_arguments(parser):
    """Declare the arguments of the command."""
    actions = parser.add_subparsers(dest='action', required=True, metavar='ACTION')
    supernet = actions.add_parser('supernet', help='write the config of a supernet')
    supernet.add_argument('config', metavar='CONFIG', help='config of any toolbox')
    supernet.add_argument('--max-dilation', type=int, required=True, metavar='D', help='largest dilation in pixels')
    supernet.add_argument(
        '--include',
        action='append',
        default=[],
        metavar='NAMES',
        help="names of convolutions to search, such as 'neck.*' (default: the blocks of the backbone)",
    )
    supernet.add_argument('--exclude', action='append', default=[], metavar='NAMES', help='names to leave out')
    supernet.add_argument('--checkpoint', metavar='FILE', help='weights of the plain model to start from')
    supernet.add_argument('--out', required=True, metavar='FILE', help='the new config')
    pattern = actions.add_parser('pattern', help='choose the dilation of every filter')
    pattern.add_argument('config', metavar='CONFIG', help='what `mmext search supernet` wrote')
    pattern.add_argument('checkpoint', metavar='CHECKPOINT', help='weights of the trained supernet')
    pattern.add_argument(
        '--criterion',
        choices=('l1', 'expectation', 'expectation-calibrated', 'response'),
        default='l1',
        help='default: l1, as published; the last two run on images',
    )
    pattern.add_argument('--images', type=int, default=16, metavar='N', help='images to run on (default: 16)')
    pattern.add_argument('--split', choices=('val', 'train'), default='val', help='whose data loader (default: val)')
    pattern.add_argument('--out', required=True, metavar='FILE', help='the new JSON file')
    pattern.add_argument('--counts', metavar='FILE', help='another one, in the published format')
    pattern.add_argument('--picture', metavar='FILE', help='draw the shares of the dilations')
    apply = actions.add_parser('apply', help='write the config of the network that was found')
    apply.add_argument('config', metavar='CONFIG', help='config of the plain model')
    apply.add_argument('pattern', metavar='PATTERN', help='what `mmext search pattern` wrote')
    apply.add_argument(
        '--reuse-weights',
        metavar='CHECKPOINT',
        help='start from the kept taps of the trained supernet, written beside the new config (default: from scratch)',
    )
    apply.add_argument('--out', required=True, metavar='FILE', help='the new config')


def run(args):
    """Write a supernet, a pattern or a config."""
    {'supernet': _supernet, 'pattern': _pattern, 'apply': _apply}[args.action](args)


def _supernet(args):
    from mmext.search.configs import write_supernet

    names = write_supernet(args.config, args.out, args.max_dilation, args.include, args.exclude, args.checkpoint)
    for name in names:
        print(name)
    print(f'{args.out}: {len(names)} convolutions are searched, dilations up to {args.max_dilation}')


def _pattern(args):
    from mmext.search.files import counts_of, write_search
    from mmext.search.solving import solve
    from mmext.utils.whole_files import write_whole

    for target in filter(None, (args.out, args.counts)):
        if os.path.lexists(target):
            raise FileExistsError(f'{target} exists and is left as it is; delete it or choose another file')
    found = solve(args.config, args.checkpoint, args.criterion, args.images, args.split)
    about = f'{args.criterion} search in {Path(args.config).name}, dilations up to {found.search["max_dilation"]}'
    rows = []
    for (name, choice), layer in zip(found.choices.items(), found.pattern):
        width = sum(run[2] for run in layer)
        undilated = sum(run[2] for run in layer if run[:2] == (1, 1)) / width
        mean = sum((run[0] + run[1]) / 2 * run[2] for run in layer) / width
        if math.isnan(choice.total):
            parts = '', f'{choice.lost / width:.3g}'  # in units of the outputs
        else:
            lost = choice.lost / choice.total if choice.total else 0
            parts = f'{1 - lost:.1%}', f'{lost:.1%}'
        rows.append((name, str(width), f'{undilated:.0%}', f'{mean:.2f}', *parts))
    header = ('layer', 'channels', 'undilated', 'mean dilation', 'kept', 'lost')
    print(format_table(header, rows, 'lrrrrr'))
    dead = sum(choice.dead for choice in found.choices.values())
    if dead:
        print(f'{dead} filters have no weight but zero and are undilated')
    write_search(args.out, found.pattern, found.choices, found.search, about)
    print(args.out)
    if args.counts:
        print(write_whole(args.counts, json.dumps(counts_of(found.pattern), indent=1) + '\n', overwrite=False))
    if args.picture:
        from .pattern import draw

        draw(found.pattern, about, args.picture)
        print(args.picture)


def _apply(args):
    from mmext.search.configs import write_searched

    kind, kept = write_searched(args.config, args.pattern, args.out, args.reuse_weights)
    print(f'{args.out}: backbone {kind}')
    if kept:
        print(
            'It is not known by tracing what consumes the channels of these, or it takes them in their order; their '
            f'filters stay where they are, in many runs: {", ".join(kept)}'
        )
