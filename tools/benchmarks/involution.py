#!/usr/bin/env python3
"""Time and memory of the involution operator, beside other ways to compute it, in one run.

The shapes are those of RedNet-50 at 224 x 224 pixels and of a detector at 800 x 1216. Every side is checked against the
reference before it is timed. Ratios are how many times what mmext takes a side takes.
"""

import argparse
import fnmatch
import json
import math
from pathlib import Path
from statistics import geometric_mean

import measuring
import tables
import torch
from involution_shapes import SHAPES
from involution_sides import SIDES
from tables import OURS, STEPS

DTYPES = {'float32': 1e-5, 'float16': 5e-3, 'bfloat16': 4e-2}  # largest error beside the largest value
DEFAULTS = {'cpu': ([1, 8], ['float32']), 'cuda': ([32, 128], ['float32', 'bfloat16', 'float16'])}


def make_inputs(shape, batch, dtype, device):
    """Return x and weight, which want gradients, and a gradient of the output."""
    tensors = [torch.randn(size, device=device).to(getattr(torch, dtype)) for size in shape.of(batch)]
    return *(tensor.requires_grad_() for tensor in tensors[:2]), tensors[2]


def calls(side, inputs, stride):
    """Return the steps of a side on a list of inputs, one after the other: name -> callable that returns its results.

    Args:
        side (str): A key of ``SIDES``.
        inputs (list): Of :func:`make_inputs`.
        stride (int): Step in pixels.

    Returns:
        dict[str, Callable]: With the keys of ``STEPS``.
    """
    function = SIDES[side].function

    def forward():
        with torch.no_grad():
            return [function(x, weight, stride) for x, weight, _ in inputs]

    def forward_backward():
        results = []
        for x, weight, grad_out in inputs:
            out = function(x, weight, stride)
            results += out.detach(), *torch.autograd.grad(out, (x, weight), grad_out)
        return results

    return {'forward': forward, 'forward_backward': forward_backward}


def memory_calls(side, name, batch, dtype, threads):
    """Return what the fresh process measures, see :func:`measuring.memory_in_fresh_process`."""
    torch.set_num_threads(threads)
    return calls(side, [make_inputs(SHAPES[name], batch, dtype, 'cpu')], SHAPES[name].stride)


def why_not(side, inputs, stride, dtype):
    """Say why a side cannot run: by its own account, by an error, or as its results are wrong; None if it can.

    The truth is the reference in float32, on the same numbers.
    """
    x, weight, grad_out = inputs
    if reason := SIDES[side].why_not(x, weight, stride):
        return reason
    try:
        results = calls(side, [inputs], stride)['forward_backward']()
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0].rstrip('.')
    truth = [x.detach().float().requires_grad_(), weight.detach().float().requires_grad_(), grad_out.float()]
    for what, found, wanted in zip(
        ('output', 'gradient of x', 'gradient of weight'),
        results,
        calls('reference', [truth], stride)['forward_backward'](),
    ):
        error = ((found.float() - wanted).abs().max() / wanted.abs().max()).item()
        if not error <= DTYPES[dtype]:
            return f'its {what} is wrong: off by {error:.1e} of the largest value, {DTYPES[dtype]:.0e} is allowed'
    return None


def measure(name, batch, dtype, sides, args):
    """Measure one row of the table.

    Args:
        name (str): A key of ``SHAPES``.
        batch (int): Images.
        dtype (str): A key of ``DTYPES``.
        sides (list[str]): Keys of ``SIDES``, ``OURS`` among them.
        args (argparse.Namespace): ``device``, ``runs``, ``eager`` and ``memory``.

    Returns:
        dict: The row, as the JSON file has it.
    """
    shape = SHAPES[name]
    moved = shape.bytes_moved(batch, dtype)
    count = 1
    if args.device == 'cuda':  # as many inputs as do not fit into the cache together
        count = max(1, min(64, math.ceil(2 * torch.cuda.get_device_properties(0).L2_cache_size / moved)))
    inputs = [make_inputs(shape, batch, dtype, args.device) for _ in range(count)]
    entries, steps = {}, {}
    for side in sides:
        if reason := why_not(side, inputs[0], shape.stride, dtype):
            entries[side] = {'skipped': reason}
            continue
        entries[side] = {'runs': SIDES[side].runs(*inputs[0][:2])}
        steps[side] = calls(side, inputs, shape.stride)
    if OURS not in steps:
        raise RuntimeError(f'{OURS} cannot run on {name}, batch {batch}, {dtype}: {entries[OURS]["skipped"]}')
    for step in STEPS:
        timed = {side: found[step] for side, found in steps.items()}
        if args.device == 'cuda' and not args.eager:
            timed = {side: measuring.captured(call) for side, call in timed.items()}
        for side, times in measuring.time_in_turns(timed, args.device, args.runs).items():
            entries[side][step] = {
                'median_ms': times['median_ms'] / count,
                'quartiles_ms': [quartile / count for quartile in times['quartiles_ms']],
            }
        del timed
    for side in steps:
        if args.memory and args.device == 'cpu':
            job = side, name, batch, dtype, torch.get_num_threads()
            extra = measuring.memory_in_fresh_process('involution', 'memory_calls', *job)
        elif args.memory:
            torch.cuda.empty_cache()
            one = calls(side, inputs[:1], shape.stride)
            extra = {step: measuring.extra_memory(call, args.device) for step, call in one.items()}
        for step in STEPS:
            entry = entries[side][step]
            entry['ratio'] = entry['median_ms'] / entries[OURS][step]['median_ms']
            entry['extra_bytes'] = extra[step] if args.memory else None
    x, weight, _ = shape.of(batch)
    return dict(
        shape=name,
        batch=batch,
        dtype=dtype,
        rednet50=shape.rednet50,
        x=x,
        weight=weight,
        stride=shape.stride,
        bytes_moved=moved,
        sides=entries,
    )


def summarise(rows):
    """Return one dict per batch and dtype over the RedNet-50 shapes: ratios, share of extra memory, of copy bandwidth.

    Args:
        rows (list[dict]): Of :func:`measure`, with ``fraction_of_copy`` in each side's forward step.

    Returns:
        list[dict]: ``over_mmext`` is the geometric mean of a side's times over mmext's, on the shapes it runs on;
        ``memory_of_mmext`` mmext's extra memory over the side's, of all shapes together and of the worst.
    """
    groups = {}
    for row in rows:
        if row['rednet50']:
            groups.setdefault((row['dtype'], row['batch']), []).append(row)
    summary = []
    for (dtype, batch), group in groups.items():
        sides = {}
        for side in group[0]['sides']:
            ran = [row['sides'] for row in group if 'forward' in row['sides'].get(side, {})]
            if ran:
                sides[side] = {'shapes': len(ran), **{step: _over(ran, side, step) for step in STEPS}}
                fractions = [entries[side]['forward']['fraction_of_copy'] for entries in ran]
                sides[side]['fraction_of_copy'] = {'mean': geometric_mean(fractions), 'least': min(fractions)}
        entry = {'dtype': dtype, 'batch': batch, 'sides': sides}
        if dtype != 'float32' and ('float32', batch) in groups:
            wide = {row['shape']: row['sides'][OURS] for row in groups['float32', batch]}
            entry['speed_over_float32'] = {
                step: geometric_mean(
                    wide[row['shape']][step]['median_ms'] / row['sides'][OURS][step]['median_ms'] for row in group
                )
                for step in STEPS
            }
        summary.append(entry)
    return summary


def _over(ran, side, step):
    result = {'over_mmext': geometric_mean(entries[side][step]['ratio'] for entries in ran)}
    extra = [(entries[OURS][step]['extra_bytes'], entries[side][step]['extra_bytes']) for entries in ran]
    if all(theirs for _, theirs in extra):
        ours, theirs = map(sum, zip(*extra))
        result['memory_of_mmext'] = {'all': ours / theirs, 'worst': max(a / b for a, b in extra)}
    return result


def parse(argv):
    """Read the command line; a mistake ends in one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', choices=DEFAULTS, help='default: cuda where there is a GPU')
    parser.add_argument('--batch', type=int, nargs='+', help='default: 1 8 on the CPU, 32 128 on a GPU')
    parser.add_argument('--dtype', nargs='+', choices=DTYPES, help='default: float32; on a GPU all')
    parser.add_argument('--shapes', nargs='+', default=['*'], help="names or patterns, such as 'stage*'; default: all")
    parser.add_argument('--sides', nargs='+', default=['*'], help='names or patterns; mmext always runs; default: all')
    parser.add_argument('--runs', type=int, default=9, help='samples of each side; default: %(default)s')
    parser.add_argument('--eager', action='store_true', help='on a GPU: with the launches from Python, no CUDA graphs')
    parser.add_argument('--no-memory', dest='memory', action='store_false', help='measure times only')
    parser.add_argument('--out', type=Path, help='default: docs/benchmarks/involution_DEVICE.json')
    args = parser.parse_args(argv)
    measuring.prepare(parser, args)
    for option, table in (('shapes', SHAPES), ('sides', SIDES)):
        patterns = getattr(args, option)
        for pattern in patterns:
            if not fnmatch.filter(table, pattern):
                parser.error(f'--{option} {pattern!r} matches none of: {"; ".join(table)}')
        setattr(args, option, [name for name in table if any(fnmatch.fnmatch(name, p) for p in patterns)])
    args.sides = list(dict.fromkeys([*args.sides, OURS]))
    batches, dtypes = DEFAULTS[args.device]
    args.batch, args.dtype = args.batch or batches, args.dtype or dtypes
    if min(args.batch) < 1:
        parser.error(f'--batch {min(args.batch)}: at least 1 is needed')
    args.out = args.out or measuring.RESULTS / f'involution_{args.device}.json'
    return args


def main(argv=None):
    """Measure, print both sides and their ratios, write JSON."""
    args = parse(argv)
    no_memory = measuring.why_no_memory(args.device) if args.memory else 'not asked for'
    args.memory = no_memory is None
    bandwidth = measuring.copy_bandwidth(args.device, args.runs)
    result = {
        **measuring.machine(args.device),
        'runs': args.runs,
        'timed': 'CUDA graphs' if args.device == 'cuda' and not args.eager else 'calls from Python',
        'memory_not_measured': no_memory,
        'copy_bytes_per_second': bandwidth,
        'rows': [],
    }
    print(f'{result["device_name"]}, {result["threads"]} threads, copies {bandwidth / 1e9:.1f} GB/s', flush=True)
    for dtype in args.dtype:
        for name in args.shapes:
            for batch in SHAPES[name].batches or args.batch:
                row = measure(name, batch, dtype, args.sides, args)
                for entry in row['sides'].values():
                    if 'forward' in entry:
                        speed = row['bytes_moved'] / entry['forward']['median_ms'] * 1000
                        entry['forward'] |= {'bytes_per_second': speed, 'fraction_of_copy': speed / bandwidth}
                result['rows'].append(row)
                print(tables.progress(row), flush=True)
    result['summary'] = summarise(result['rows'])
    print(f'\n{tables.involution(result)}')
    measuring.write_whole(args.out, json.dumps(result, indent=2) + '\n')
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
