"""Count the parameters and multiply-adds of a config, by part and by kind, without weights and within seconds.

Multiply-adds are those of one picture, or of one clip. The own convention counts convolutions, aggregations
(involutions) and matrix products; the published one counts as the published tables of a family did.

    mmext complexity my_config.py --shape 512 1024                          a config, for pictures 512 pixels high
    mmext complexity rednet50_64xb32-130e_in1k --convention published       a row, counted as its table was
    mmext complexity --all                                                  all rows beside their published figures
"""

import json
from dataclasses import asdict

from .table import format_table

HELP = 'count the parameters and multiply-adds of a config'


def add_arguments(parser):
    """Declare the arguments."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('config', nargs='?', metavar='CONFIG', help='path of a config, or name of a published row')
    what.add_argument(
        '--all', action='store_true', help='compare every row with its published figures; exit 1 if one differs'
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='height and width of the picture in pixels (default: that behind the published figures)',
    )
    parser.add_argument(
        '--frames', type=int, metavar='T', help='frames of the clip, for models that take clips (default: 32)'
    )
    parser.add_argument('--convention', choices=('own', 'published'), help='what is counted (default: own)')
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(args):
    """Print the counts; return 1 if a published figure is not met."""
    if args.all:
        if args.shape or args.convention or args.frames is not None:
            raise ValueError(
                '--all counts by the published convention at the published shapes; leave out other options'
            )
        return _compare_all(args.json)
    from mmext.complexity import complexity

    found = complexity(args.config, args.shape, args.convention or 'own', frames=args.frames)
    if args.json:
        totals = dict(parameters=found.parameters, trainable=found.trainable, multiply_adds=found.multiply_adds)
        print(json.dumps({**asdict(found), **totals}, indent=2))
        return 0
    what = 'one picture' if found.frames is None else f'one clip of {found.frames} frames'
    print(f'{found.model}, {what} of {found.shape[0]} x {found.shape[1]} pixels, {_describe(found)}\n')
    rows = [
        (name, part.parameters, part.trainable, *part.three_kinds, part.total) for name, part in found.parts.items()
    ]
    rows.append(('total', *(sum(column) for column in list(zip(*rows))[1:])))
    header = ('part', 'parameters', 'trainable', 'convolution', 'aggregation', 'rest', 'multiply-adds')
    print(format_table(header, [[name, *(f'{count:,}' for count in counts)] for name, *counts in rows], 'l' + 6 * 'r'))
    counted = 'trainable' if found.counted_parameters != found.parameters else 'all'
    parameters = f'{found.counted_parameters / 1e6:.3f} M parameters ({counted})'
    print(f'\n{parameters}, {found.multiply_adds / 1e9:.3f} G multiply-adds')
    return 0


def _describe(found):
    if found.convention == 'own':
        return 'own convention'
    if found.row is None:
        return 'published convention (no published row: the plain convention, nothing particular to a row)'
    options = ', '.join(f'{name}={value}' for name, value in found.counting.items())
    return f'published convention of row {found.row}' + (f' ({options})' if options else '')


def _compare_all(as_json):
    from mmext.complexity.rows import compare, published_rows

    rows = {name: compare(name) for name in published_rows()}
    missed = [name for name, figures in rows.items() if not all(figure.equal for figure in figures)]
    if as_json:
        keys = ('parameters', 'multiply_adds')
        found = {name: dict(zip(keys, map(asdict, figures))) for name, figures in rows.items()}
        print(json.dumps(found, indent=2, default=float))
    else:
        header = ['row']
        for what in ('Params (M)', 'FLOPs (G)'):
            header += [what, 'reproduced', 'exact']
        table = []
        for name, figures in rows.items():
            cells = [cell for f in figures for cell in (f'{f.published}', f'{f.reproduced}', f'{f.exact:,}')]
            table.append([name, *cells, 'no' if name in missed else 'yes'])
        print(format_table([*header, 'equal'], table, 'l' + 7 * 'r'))
        print(f'\n{len(rows) - len(missed)} of {len(rows)} published rows reproduced')
    return 1 if missed else 0
