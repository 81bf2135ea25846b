"""Markdown tables of the benchmarks' JSON files, for docs/benchmarks/README.md and the terminal."""

import math

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


def mxnet_params(result):
    """Format the table of the file of mxnet_params.py.

    Args:
        result (dict): The file's content.

    Returns:
        str: Markdown.
    """
    extra = result['extra_bytes']
    rows = []
    for what, part, ours, plain in (
        ('all values, file in memory', 'warm', 'reading', 'plain_reading'),
        ('all values, file on disk', 'cold', 'reading', 'plain_reading'),
        ('whole conversion, hash and writing', 'whole', 'converting', 'plain_copying'),
    ):
        times_of = [milliseconds(result[part][side]['median_ms']) for side in (ours, plain)]
        rows.append(
            [what, *times_of, times(result[part]['ratio']), *(mebibytes(extra[side]) for side in (ours, plain))]
        )
    opening = [milliseconds(result[part]['opening']['median_ms']) for part in ('warm', 'cold')]
    size = f'A file of {result["bytes"]:,} bytes, {result["arrays"]} arrays{", made" if result["made"] else ""}.'
    heading = ['what', 'mmext, ms', 'the bytes alone, ms', 'ratio', 'mmext, extra MiB', 'the bytes alone, extra MiB']
    where = setting({**result['machine'], 'runs': result['runs']})
    return (
        f'{where} {size} Opening and checking it takes {opening[0]} ms, {opening[1]} ms where nothing of it is in '
        f'memory.\n\n{table(heading, rows)}'
    )


def inflated(result):
    """Format the table of the file of inflated.py.

    Args:
        result (dict): The file's content.

    Returns:
        str: Markdown.
    """
    forms = list(dict.fromkeys(form for row in result['rows'] for form in row['forms']))
    heading = ['what', 'network', 'clips', *(f'{form}, ms' for form in forms)]
    heading += [*(f'{forms[0]} over {form}' for form in forms[1:]), 'published, ms']
    rows = []
    for row in result['rows']:
        found = [row['forms'].get(form) for form in forms]
        published = '' if row['published_seconds'] is None else f'{1000 * row["published_seconds"]:.0f}'
        what = f'{"training step" if row["training"] else "inference"}{", bfloat16" if row["amp"] else ""}'
        cells = [what, row['network'], row['batch']]
        cells += ['' if entry is None else milliseconds(entry['median_ms']) for entry in found]
        cells += ['' if entry is None else times(entry['ratio']) for entry in found[1:]]
        rows.append([*cells, published])
    clip = f'3 x {result["frames"]} x {result["size"]} x {result["size"]}'
    return f'{setting(result)} Clips of {clip}.\n\n{table(heading, rows)}'


def kind(row):
    """Name what a row of networks.py measured."""
    return f'{row["mode"]}, {"autocast to bfloat16" if row["amp"] else "float32"}'
