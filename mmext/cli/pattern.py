"""Look at dilation patterns of inception convolutions, and make one for a network of your own.

A pattern is the name of a published one, or the path or URL of a JSON file in the published format or in ours.

Examples:
  mmext pattern list
  mmext pattern show detection_r50_k9 --out pattern.png
  mmext pattern make proportional 64x4 128x4 256x4 512x4 --out resnet18.json
"""

import argparse
import io
import math
import os
import re
from pathlib import Path

from mmext.utils.whole_files import write_whole

from .table import format_table

HELP = 'list, show or make dilation patterns'
DPI = 150
MAX_SIDE = 8000  # pixels of a picture
MAX_SQUARES = 2**15  # in all layers of a picture; each one costs matplotlib time


def add_arguments(parser):
    """Declare the arguments of the command."""
    actions = parser.add_subparsers(dest='action', required=True, metavar='ACTION')
    actions.add_parser('list', help='list the published patterns')
    show = actions.add_parser('show', help='print the layers of a pattern, or draw them')
    show.add_argument('pattern', metavar='PATTERN', help='name, path or URL')
    show.add_argument('--out', metavar='PICTURE', help='draw the shares of the dilations into this file (.png, .pdf)')
    make = actions.add_parser('make', help='make a pattern by a rule, for the widths of any network')
    make.add_argument('rule', choices=('uniform', 'proportional'), help='how the dilated channels are spread')
    make.add_argument(
        'widths',
        nargs='+',
        metavar='WIDTH',
        type=_repeated,
        help='channels of each 3x3 convolution; 64x4 is 64 64 64 64',
    )
    make.add_argument('--max-dilation', type=int, default=4, metavar='N', help='largest dilation (default: 4)')
    make.add_argument(
        '--undilated', type=float, default=0.5, metavar='SHARE', help='share of channels with dilation 1 (default: 0.5)'
    )
    make.add_argument('--out', required=True, metavar='FILE', help='the new JSON file')


def _repeated(text):
    from mmext.patterns.pattern import MAX_LAYERS

    match = re.fullmatch(r'([0-9]{1,9})(?:x([0-9]{1,9}))?', text)
    if match is None:
        raise argparse.ArgumentTypeError(f'{text!r} is no width; give channels, such as 64, or 64x4 for four in a row')
    count = int(match[2] or 1)
    if count > MAX_LAYERS:
        raise argparse.ArgumentTypeError(f'{text!r} are {count} layers; a pattern has up to {MAX_LAYERS}')
    return [int(match[1])] * count


def run(args):
    """List, show, draw or make patterns."""
    {'list': _list, 'show': _show, 'make': _make}[args.action](args)


def _list(args):
    from mmext.patterns import PUBLISHED, load_pattern
    from mmext.patterns.files import describe

    rows = []
    for name in PUBLISHED:
        pattern = load_pattern(name)
        rows.append(
            (
                name,
                str(len(pattern)),
                str(sum(map(len, pattern))),
                str(pattern.max_dilation),
                f'{pattern.share(1, 1):.0%}',
                describe(name),
            )
        )
    print(format_table(('name', 'layers', 'branches', 'max dilation', 'undilated', ''), rows, 'lrrrrl'))


def _show(args):
    from mmext.patterns import load_pattern

    pattern = load_pattern(args.pattern)
    if args.out:
        draw(pattern, args.pattern, args.out)
        print(args.out)
        return
    rows = []
    for index, (layer, width) in enumerate(zip(pattern, pattern.widths)):
        undilated = sum(run[2] for run in layer if run[:2] == (1, 1)) / width
        runs = ' '.join(f'{h}x{w}:{channels}' for h, w, channels in layer)
        rows.append((str(index), str(width), f'{undilated:.0%}', runs))
    print(format_table(('layer', 'channels', 'undilated', 'dilation (rows x columns):channels'), rows, 'rrrl'))


def _make(args):
    from mmext.patterns import make_pattern, save_pattern

    target = Path(args.out)
    if os.path.lexists(target):
        raise FileExistsError(f'{target} exists and is left as it is; delete it or choose another file')
    widths = [width for group in args.widths for width in group]
    pattern = make_pattern(args.rule, widths, args.max_dilation, args.undilated)
    about = f'{args.rule}, {args.undilated:.0%} undilated, dilations up to {args.max_dilation}'
    print(save_pattern(pattern, target, about, overwrite=False))


def draw(pattern, title, path):
    """Draw a pattern: a square for every layer, in it the share of each pair of dilations in percent.

    Args:
        pattern (Pattern): What to draw.
        title (str): The heading.
        path (str or Path): The picture, of any format that matplotlib writes. One that exists is replaced.

    Raises:
        ValueError: If the name has no suffix, matplotlib does not know the format, or the pattern is too large for a
            picture.
        OSError: If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    kind = Path(path).suffix[1:]
    if not kind:
        raise ValueError(f'{path} has no suffix, which says the format; give a name such as {path}.png')
    size = max(pattern.max_dilation, 4)
    if len(pattern) * size**2 > MAX_SQUARES:
        raise ValueError(
            f'{len(pattern)} layers of {size} x {size} dilations are {len(pattern) * size**2} squares; a picture has '
            f'up to {MAX_SQUARES}; leave --out out to print the pattern'
        )
    columns = math.isqrt(len(pattern) - 1) + 1
    rows = -(-len(pattern) // columns)
    side, gap, heading = 0.34 * size, 0.15, 0.3  # inches: of a square, between two, above one
    left, right, top, bottom = 0.5, 0.6, 0.65, 0.4
    width = max(left + columns * (side + gap) - gap + right, 5)
    height = top + rows * (side + heading) - heading + bottom
    figure = Figure(figsize=(width, height), dpi=min(DPI, MAX_SIDE / max(width, height)))
    FigureCanvasAgg(figure)

    def add_axes(x, y, w, h):  # inches from the top left
        return figure.add_axes([x / width, 1 - (y + h) / height, w / width, h / height])

    norm = PowerNorm(0.45, 0, 100)  # most shares are a few percent
    for index, layer in enumerate(pattern):
        row, column = divmod(index, columns)
        axis = add_axes(left + column * (side + gap), top + row * (side + heading), side, side)
        image = _draw_layer(axis, layer, size, norm)
        axis.set_title(f'layer {index}: {pattern.widths[index]} channels', fontsize=7, pad=3)
        _label_axes(axis, size, left=column == 0, below=index + columns >= len(pattern))
    bar = add_axes(left + columns * (side + gap) - gap + 0.12, top, 0.1, min(rows * (side + heading) - heading, 3.5))
    figure.colorbar(image, cax=bar, ticks=[0, 1, 5, 10, 25, 50, 100])
    bar.tick_params(labelsize=6, length=2, pad=2)
    bar.set_title('%', fontsize=7, pad=4)
    figure.text(left / width, 1 - 0.2 / height, title, fontsize=10, va='center', parse_math=False)
    figure.text(
        left / width, 1 - 0.37 / height, 'share of the output channels with each dilation', fontsize=7, va='center'
    )
    picture = io.BytesIO()
    figure.savefig(picture, format=kind)
    write_whole(path, picture.getvalue())


def _draw_layer(axis, layer, size, norm):
    import numpy as np

    shares = np.zeros((size, size))
    for dilation_h, dilation_w, channels in layer:
        shares[dilation_h - 1, dilation_w - 1] += channels
    shares *= 100 / shares.sum()
    image = axis.imshow(np.ma.masked_equal(shares, 0), norm=norm, cmap='YlGnBu')
    axis.set_facecolor('#f2f2f2')
    for (row, column), share in np.ndenumerate(shares):
        if share:
            text = f'{share:.0f}' if share >= 0.95 else f'.{share * 10:.0f}'
            color = 'white' if norm(share) > 0.55 else '#333333'
            axis.text(column, row, text, ha='center', va='center', fontsize=6, color=color)
    axis.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axis.grid(which='minor', color='white', linewidth=0.8)
    axis.spines[:].set_visible(False)
    axis.tick_params(which='both', length=0, labelsize=6, pad=1)
    return image


def _label_axes(axis, size, left, below):
    labels = range(1, size + 1)
    axis.set_xticks(range(size), labels if below else [])
    axis.set_yticks(range(size), labels if left else [])
    if left:
        axis.set_ylabel('dilation of rows', fontsize=6, labelpad=1)
    if below:
        axis.set_xlabel('dilation of columns', fontsize=6, labelpad=1)
