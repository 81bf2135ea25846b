#!/usr/bin/env python3
"""Draw the benchmarks' JSON files and write their tables into ``docs/benchmarks/README.md``.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``, where NAME is that of a JSON file without its suffix,
or ``targets``. Everything else on the page is left as it is. A file that does not exist is not drawn, nor one of memory
alone.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import measuring
import tables
import targets

BLOCK = re.compile(r'(<!-- (\w+) -->\n).*?(<!-- /\2 -->)', re.S)
FORMATS = {
    'involution_cpu': tables.involution,
    'involution_cuda': tables.involution,
    'rednet_cpu': tables.networks,
    'rednet_cuda': tables.networks,
    'ic_resnet_cpu': tables.networks,
    'ic_resnet_cuda': tables.networks,
    'wider_resnet_cpu': tables.wider_resnet,
    'mxnet_params': tables.mxnet_params,
    'inflated_cpu': tables.inflated,
    'inflated_cuda': tables.inflated,
}
MARKS = {  # colours that also differ to the colour-blind
    'unfold': ('o', '#d55e00'),
    'reference': ('s', '#cc79a7'),
    'one thread per output': ('^', '#0072b2'),
    'CARAFE': ('v', '#e69f00'),
    tables.OURS: ('D', '#009e73'),
}

COLUMNS = 4  # of a plot of networks
COLORS = {tables.IC_PUBLISHED: '#d55e00', tables.RED_UNFOLD: '#d55e00', tables.BASELINE: '0.6', '': '#009e73'}


def load(folder):
    """Return the results in a folder: name without suffix -> content, files that are missing left out."""
    paths = {name: folder / f'{name}.json' for name in FORMATS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def generate(text, results):
    """Make the tables of a page anew.

    Args:
        text (str): The page.
        results (dict[str, dict]): Of :func:`load`.

    Returns:
        str: The page with its tables; 'Not measured.' where there is no result.

    Raises:
        ValueError: If a marker names no table.
    """

    def fill(match):
        begin, name, end = match.groups()
        if name == 'targets':
            content = targets.targets(results)
        elif name not in FORMATS:
            raise ValueError(f'<!-- {name} --> is no table; there are: {", ".join([*FORMATS, "targets"])}')
        else:
            content = FORMATS[name](results[name]) if name in results else 'Not measured.\n'
            if name in results and FORMATS[name] in DRAWN:
                content = f'![{DRAWN[FORMATS[name]][0]}]({name}.png)\n\n{content}'
        return f'{begin}\n{content}\n{end}'

    return BLOCK.sub(fill, text)


def draw(result, path):
    """Draw one file of involution.py: the time of every side on each shape, a column per step.

    Args:
        result (dict): The file's content.
        path (Path): PNG to write.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    rows = tables.largest_batches(result['rows'])
    figure, axes = pyplot.subplots(
        1, len(tables.STEPS), figsize=(11, 1.4 + 0.36 * len(rows)), sharey=True, layout='constrained'
    )
    for axis, (step, title) in zip(axes, tables.STEPS.items()):
        for y, row in enumerate(rows):
            found = [entry[step]['median_ms'] for entry in row['sides'].values() if step in entry]
            axis.plot([min(found), max(found)], [y, y], color='0.85', linewidth=2, zorder=1)
        for side, (marker, color) in MARKS.items():
            points = [
                (row['sides'][side][step]['median_ms'], y)
                for y, row in enumerate(rows)
                if step in row['sides'].get(side, {})
            ]
            if points:
                axis.scatter(*zip(*points), marker=marker, color=color, s=36, label=side, zorder=2)
        axis.set(xscale='log', xlabel='milliseconds (left is faster)', title=title, ylim=(len(rows) - 0.5, -0.5))
        axis.xaxis.set_major_formatter('{x:g}')
        axis.grid(axis='x', color='0.9', zorder=0)
        axis.spines[['top', 'right', 'left']].set_visible(False)
        axis.tick_params(axis='y', length=0)
    axes[0].set_yticks(range(len(rows)), [f'{row["shape"]}, batch {row["batch"]}' for row in rows])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=len(labels), frameon=False)
    threads = f', {result["threads"]} threads' if result['device'] == 'cpu' else ''
    figure.suptitle(f'Involution in {rows[0]["dtype"]} on {result["device_name"]}{threads}')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={'Software': None})
    pyplot.close(figure)


def draw_networks(result, path):
    """Draw one file of networks.py: the time of every network, an axis for each row of the file.

    Args:
        result (dict): The file's content.
        path (Path): PNG to write.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    rows = result['rows']
    names = list(rows[0]['networks'])
    lines, columns = -(-len(rows) // COLUMNS), min(len(rows), COLUMNS)
    size = 4 + 2.4 * columns, 0.8 + lines * (0.7 + 0.34 * len(names))
    figure, axes = pyplot.subplots(lines, columns, figsize=size, sharey=True, squeeze=False, layout='constrained')
    for axis in axes.flat[len(rows) :]:
        axis.remove()
    for axis, row in zip(axes.flat, rows):
        found = {name: entry for name, entry in row['networks'].items() if 'median_ms' in entry}
        for name, entry in found.items():
            y, median = names.index(name), entry['median_ms']
            axis.barh(y, median, color=next(color for start, color in COLORS.items() if name.startswith(start)))
            text = f' {tables.milliseconds(median)} ms, {tables.times(entry["ratio"])}'
            axis.text(median, y, text, va='center', fontsize=8)
        axis.set_title(f'{tables.kind(row)}, batch {row["batch"]}', fontsize=9)
        axis.set(ylim=(len(names) - 0.4, -0.6))
        axis.set_xlim(0, 1.75 * max(entry['median_ms'] for entry in found.values()))
        axis.spines[['top', 'right', 'left']].set_visible(False)
        axis.tick_params(axis='y', length=0)
    axes[0, 0].set_yticks(range(len(names)), names)
    figure.supxlabel('milliseconds (shorter is faster)', fontsize=9)
    threads = f', {result["threads"]} threads' if result['device'] == 'cpu' else ''
    figure.suptitle(f'Images of {result["size"]} x {result["size"]} on {result["device_name"]}{threads}', fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={'Software': None})
    pyplot.close(figure)


DRAWN = {
    tables.involution: ('Time of each side on each shape', draw),
    tables.networks: ('Time of each network', draw_networks),
}


def main(argv=None):
    """Draw and write, or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='write nothing; exit with 1 if the page differs')
    parser.add_argument('--folder', type=Path, default=measuring.RESULTS, help='of JSON files, plots and README.md')
    args = parser.parse_args(argv)
    results = load(args.folder)
    page = args.folder / 'README.md'
    text = generate(page.read_text(), results)
    if args.check:
        if text == page.read_text():
            return 0
        print(f'{page} differs from the JSON files; run: python tools/benchmarks/plot.py', file=sys.stderr)
        return 1
    for name, result in results.items():
        if FORMATS[name] not in DRAWN:
            continue
        DRAWN[FORMATS[name]][1](result, args.folder / f'{name}.png')
        print(f'written: {args.folder / name}.png')
    if text != page.read_text():
        measuring.write_whole(page, text)
        print(f'written: {page}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
