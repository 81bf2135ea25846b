"""Markdown tables of the benchmarks' JSON files, for docs/benchmarks/README.md and the terminal."""

import math

from involution_shapes import SHAPES

STEPS = {'forward': 'forward', 'forward_backward': 'forward and backward'}
OURS = 'mmext'
BASELINE = 'ResNet-50'
RED, RED_UNFOLD, LAST = 'RedNet-50', 'RedNet-50, unfold', ', channels_last'
IC, IC_PUBLISHED = 'IC-ResNet-50', 'IC-ResNet-50, published form'


def table(heading, rows):
    """Format a table; the first column is text, the others are figures."""
    lines = [heading, ['---', *['---:'] * (len(heading) - 1)], *rows]
    return ''.join(f'| {" | ".join(str(cell) for cell in line)} |\n' for line in lines)


def milliseconds(value):
    """Format a time with three digits."""
    return f'{value:.{max(0, 2 - math.floor(math.log10(value)))}f}'


def times(value):
    """Format a ratio."""
    return f'{value:.2f}x' if value < 10 else f'{value:.1f}x'


def mebibytes(value):
    """Format bytes in MiB."""
    return '' if value is None else f'{value / 2**20:.1f}'


def setting(result):
    """Name machine and versions of a result in a sentence."""
    threads = f', {result["threads"]} threads' if result['device'] == 'cpu' else ''
    versions = ', '.join(f'{name} {version}' for name, version in result['versions'].items())
    return f'{result["device_name"]}{threads}; {versions}; median of {result["runs"]} samples.'


def progress(row):
    """Describe one row of an involution result in a line for each side."""
    lines = [f'{row["shape"]}, batch {row["batch"]}, {row["dtype"]}']
    for side, entry in row['sides'].items():
        if 'skipped' in entry:
            lines.append(f'  {side:<22} not run: {entry["skipped"]}')
            continue
        figures = [
            f'{title} {milliseconds(entry[step]["median_ms"]):>6} ms {times(entry[step]["ratio"]):>6}'
            + (f' {mebibytes(entry[step]["extra_bytes"]):>8} MiB' if entry[step]['extra_bytes'] is not None else '')
            for step, title in STEPS.items()
        ]
        share = f'{entry["forward"]["fraction_of_copy"]:.0%} of copy bandwidth'
        lines.append(f'  {side:<22} {"   ".join([*figures, share])}')
    return '\n'.join(lines)


def involution(result):
    """Format the tables of one file of involution.py.

    Args:
        result (dict): The file's content.

    Returns:
        str: Markdown: the setting, geometric means, then the shapes at the largest batch in the first dtype.
    """
    copies = f'{result["copy_bytes_per_second"] / 1e9:.1f} GB/s'
    parts = [f'{setting(result)} A copy moves {copies}. Timed: {result["timed"]}.\n']
    if result['summary']:
        parts.append(_means(result['summary']))
    rows = largest_batches(result['rows'])
    parts += [_shapes(rows, step, title) for step, title in STEPS.items()]
    return '\n'.join([*parts, *_skipped(result['rows'])])


def largest_batches(rows):
    """Return the rows of the first dtype, of each shape the one with the largest batch."""
    largest = {}
    for row in rows:
        if row['dtype'] == rows[0]['dtype'] and row['batch'] >= largest.get(row['shape'], row)['batch']:
            largest[row['shape']] = row
    return list(largest.values())


def _means(summary):
    heading = ['dtype', 'batch', 'side', 'shapes']
    heading += [f'time, {title}' for title in STEPS.values()]
    heading += [f"mmext's share of extra memory (worst shape), {title}" for title in STEPS.values()]
    rows = []
    for entry in summary:
        for side, figures in entry['sides'].items():
            shares = [figures[step].get('memory_of_mmext') for step in STEPS]
            rows.append(
                [
                    entry['dtype'],
                    entry['batch'],
                    side,
                    figures['shapes'],
                    *(times(figures[step]['over_mmext']) for step in STEPS),
                    *('' if share is None or side == OURS else _share(share) for share in shares),
                    f'{figures["fraction_of_copy"]["mean"]:.0%}',
                ]
            )
    text = 'Over the shapes of RedNet-50, geometric means; a time is how many times that of mmext it is:\n\n'
    text += table([*heading, 'of copy bandwidth, forward'], rows)
    for entry in summary:
        if speed := entry.get('speed_over_float32'):
            figures = ', '.join(f'{times(speed[step])} {title}' for step, title in STEPS.items())
            text += f'\nmmext in {entry["dtype"]} over mmext in float32, batch {entry["batch"]}: {figures}.\n'
    return text


def _share(share):
    return f'{share["all"]:.1%} ({share["worst"]:.1%})'


def _shapes(rows, step, title):
    sides = [side for side in rows[0]['sides'] if any(step in row['sides'].get(side, {}) for row in rows)]
    heading = ['shape', 'batch', 'x', 'groups', 'taps', 'stride', *(f'{side}, ms' for side in sides)]
    heading += [f'{side}, MiB' for side in sides]
    lines = []
    for row in rows:
        found = [row['sides'].get(side, {}).get(step) for side in sides]
        groups, *taps = row['weight'][1:4]
        cells = [row['shape'], row['batch'], _size(row['x'][1:]), groups, _size(taps), row['stride']]
        cells += ['' if entry is None else milliseconds(entry['median_ms']) for entry in found]
        lines.append(cells + ['' if entry is None else mebibytes(entry['extra_bytes']) for entry in found])
    what = f'{title.capitalize()}, {rows[0]["dtype"]}: time, and peak memory beside inputs and results.'
    return f'{what}\n\n{table(heading, lines)}'


def _size(lengths):
    return ' x '.join(map(str, lengths))


def _skipped(rows):
    reasons = {}
    for row in rows:
        for side, entry in row['sides'].items():
            if 'skipped' in entry:
                reasons.setdefault((side, entry['skipped']), []).append(row)
    return [
        f'{side} not run on {len(found)} of {len(rows)} rows: {reason}.\n' for (side, reason), found in reasons.items()
    ]


def networks(result):
    """Format the table of one file of networks.py.

    Args:
        result (dict): The file's content.

    Returns:
        str: Markdown.
    """
    heading = ['what', 'batch', 'network', 'ms', f'over {BASELINE}', 'images/s', 'extra memory, MiB']
    rows = []
    for row in result['rows']:
        for name, entry in row['networks'].items():
            if 'skipped' in entry:
                rows.append([kind(row), row['batch'], name, entry['skipped'], '', '', ''])
                continue
            median = entry['median_ms']
            cells = milliseconds(median), times(entry['ratio']), f'{row["batch"] / median * 1000:.1f}'
            rows.append([kind(row), row['batch'], name, *cells, mebibytes(entry['extra_bytes'])])
    return f'{setting(result)} Images of {result["size"]} x {result["size"]} pixels.\n\n{table(heading, rows)}'


def wider_resnet(result):
    """Format the tables of the file of wider_resnet.py.

    Args:
        result (dict): The file's content.

    Returns:
        str: Markdown.
    """
    heading = ['training step', 'tensors alive at once, MiB', 'process, MiB', 'ms']
    rows = [
        [side, mebibytes(entry['live_bytes']), mebibytes(entry.get('extra_bytes')), milliseconds(time['median_ms'])]
        for (side, entry), time in zip(result['training'].items(), result['times'].values())
    ]
    ratios = f'{result["live_ratio"]:.1%}', f'{result["extra_ratio"]:.1%}' if 'extra_ratio' in result else ''
    rows.append(['with_cp over plain', *ratios, times(result['time_ratio'])])
    crop = f'{result["batch"]} x 3 x {result["size"]} x {result["size"]}'
    differences = (
        f'Losses differ by {result["loss_difference"]:.1e}, gradients by {result["gradient_difference"]:.1e} of their '
        'largest value.'
    )
    parts = [f'{setting(result)} Images {crop}.\n', table(heading, rows), f'{differences}\n']
    rows = [[size, *map(mebibytes, entry.values())] for size, entry in result['inference_live_bytes'].items()]
    sides = next(iter(result['inference_live_bytes'].values()))
    parts.append(table(['inference on one image of', *(f'{side}, MiB' for side in sides)], rows))
    return '\n'.join(parts)


def kind(row):
    """Name what a row of networks.py measured."""
    return f'{row["mode"]}, {"autocast to bfloat16" if row["amp"] else "float32"}'


def targets(results):
    """Format the table of the figures that were to be reached, beside what the files have.

    Args:
        results (dict[str, dict]): Name of a JSON file, without its suffix -> content; files that are missing are left
            out.

    Returns:
        str: Markdown.
    """
    rows = []
    for name, what, sign, limit, find in TARGETS:
        found = find(results[name]) if name in results else {}
        reached = 'not measured'
        if found:
            reached = 'yes' if all(sign * value >= sign * limit for value in found.values()) else 'no'
        figures = ', '.join(f'batch {batch}: {value:.2f}' for batch, value in found.items())
        rows.append([what, f'{"at least" if sign > 0 else "at most"} {limit}', figures, reached])
    return table(['figure', 'wanted', 'measured', 'reached'], rows)


def _over(side, step, dtype='float32'):
    def find(result):
        entries = {e['batch']: e['sides'][side][step] for e in result['summary'] if _has(e, side, dtype)}
        return {batch: figures['over_mmext'] for batch, figures in entries.items()}

    return find


def _has(entry, side, dtype):
    """Whether a side was measured on all shapes of RedNet-50."""
    shapes = sum(shape.rednet50 for shape in SHAPES.values())
    return entry['dtype'] == dtype and entry['sides'].get(side, {}).get('shapes') == shapes


def _memory(result):
    found = {}
    for entry in result['summary']:
        if _has(entry, 'unfold', 'float32'):
            shares = [entry['sides']['unfold'][step].get('memory_of_mmext') for step in STEPS]
            if all(shares):
                found[entry['batch']] = max(share['worst'] for share in shares)
    return found


def _speed_over_float32(result):
    entries = [e for e in result['summary'] if _has(e, OURS, 'bfloat16') and 'speed_over_float32' in e]
    return {entry['batch']: min(entry['speed_over_float32'].values()) for entry in entries}


def _copy(result):
    entries = [entry for entry in result['summary'] if _has(entry, OURS, 'float32')]
    return {entry['batch']: entry['sides'][OURS]['fraction_of_copy']['mean'] for entry in entries}


def _best(networks, name):
    """The time of a network in the faster memory format, None if it could not run."""
    entries = (networks.get(name + suffix, {}) for suffix in ('', LAST))
    return min((entry['median_ms'] for entry in entries if 'median_ms' in entry), default=None)


def _network(ours, mode, amp, batches=None):
    def find(result):
        rows = [row for row in result['rows'] if (row['mode'], row['amp'], result['size']) == (mode, amp, 224)]
        rows = [row for row in rows if batches is None or row['batch'] in batches]
        best = {row['batch']: [_best(row['networks'], name) for name in (ours, BASELINE)] for row in rows}
        return {batch: ours / theirs for batch, (ours, theirs) in best.items() if ours and theirs}

    return find


THREADS = 'one thread per output'
# file, figure, 1 for "at least" or -1 for "at most", limit, how to find it: batch -> value
TARGETS = (
    ('involution_cpu', 'CPU: unfold over mmext, forward', 1, 6, _over('unfold', 'forward')),
    ('involution_cpu', 'CPU: unfold over mmext, forward and backward', 1, 4, _over('unfold', 'forward_backward')),
    ('involution_cpu', "CPU: mmext's extra memory over unfold's, worst shape", -1, 0.1, _memory),
    (
        'rednet_cpu',
        f'CPU: {RED} over {BASELINE}, inference, each in its faster memory format',
        -1,
        1.3,
        _network(RED, 'inference', False),
    ),
    (
        'ic_resnet_cpu',
        f'CPU: {IC} over {BASELINE}, inference, likewise',
        -1,
        1.15,
        _network(IC, 'inference', False, [8]),
    ),
    ('ic_resnet_cpu', f'CPU: {IC} over {BASELINE}, one image', -1, 1.3, _network(IC, 'inference', False, [1])),
    ('involution_cuda', f'GPU: {THREADS} over mmext, forward', 1, 2.5, _over(THREADS, 'forward')),
    ('involution_cuda', f'GPU: {THREADS} over mmext, forward and backward', 1, 3, _over(THREADS, 'forward_backward')),
    ('involution_cuda', 'GPU: speed of mmext, bfloat16 over float32', 1, 1.6, _speed_over_float32),
    ('involution_cuda', 'GPU: copy bandwidth that mmext reaches, forward', 1, 0.6, _copy),
    (
        'rednet_cuda',
        f'GPU: {RED} over {BASELINE}, training in bfloat16, likewise',
        -1,
        1.2,
        _network(RED, 'training', True),
    ),
    ('ic_resnet_cuda', f'GPU: {IC} over {BASELINE}, inference, likewise', -1, 1.3, _network(IC, 'inference', False)),
    ('ic_resnet_cuda', f'GPU: {IC} over {BASELINE}, training, likewise', -1, 1.4, _network(IC, 'training', False)),
)
