"""The figures that were to be reached, and the table that sets what the benchmarks' JSON files have beside them."""

from involution_shapes import SHAPES
from tables import BASELINE, IC, LAST, OURS, RED, STEPS, table


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


def _inflated(network, form, training, over=None):
    """The ratio of a form to the straightforward one, or that of two forms."""

    def find(result):
        size = result['frames'], result['size']
        settings = network, training, False
        rows = [row for row in result['rows'] if (row['network'], row['training'], row['amp']) == settings]
        rows = [row['forms'] for row in rows if row['batch'] == 1 and size == (16, 224)]
        row = next((row for row in rows if form in row and (over is None or over in row)), None)
        return {} if row is None else {1: row[form]['ratio'] / (1 if over is None else row[over]['ratio'])}

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
    (
        'wider_resnet_cpu',
        'Wider-ResNet A1 at stride 8, training step: activation memory with `with_cp` over without',
        -1,
        0.45,
        lambda result: {result['batch']: result['live_ratio']},
    ),
    (
        'inflated_cpu',
        'CPU: inflated ResNet-50, straightforward form over mmext, fused, inference',
        1,
        1.6,
        _inflated('R50', 'mmext, fused', False),
    ),
    (
        'inflated_cpu',
        'CPU: inflated DenseNet-121, likewise',
        1,
        1.3,
        _inflated('D121', 'mmext, fused', False),
    ),
    (
        'inflated_cpu',
        "CPU: mmaction2's ResNet3d-50 over inflated ResNet-50, equal multiply-adds, inference, not fused",
        1,
        1.0,
        _inflated('R50', 'mmext', False, 'mmaction2'),
    ),
    ('inflated_cpu', 'CPU: likewise, training step', 1, 1.0, _inflated('R50', 'mmext', True, 'mmaction2')),
    (
        'inflated_cuda',
        "GPU: mmaction2's ResNet3d-50 over inflated ResNet-50, equal multiply-adds, inference",
        1,
        1.0,
        _inflated('R50', 'mmext', False, 'mmaction2'),
    ),
    ('inflated_cuda', 'GPU: likewise, training step', 1, 1.0, _inflated('R50', 'mmext', True, 'mmaction2')),
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
