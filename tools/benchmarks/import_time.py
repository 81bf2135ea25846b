#!/usr/bin/env python3
"""Time of ``import mmext`` over that of ``import torch, mmengine``, each in fresh interpreters, in one run."""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

BASE = 'import torch, mmengine'
SIDES = {BASE: BASE, f'{BASE}, mmext': f'{BASE}, mmext'}
TIMED = 'import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)'


def seconds(code):
    """Return the seconds that a fresh interpreter needs for some code."""
    command = [sys.executable, '-W', 'ignore', '-c', TIMED.format(code=code)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    """Measure, print both sides and their difference, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--runs', type=int, default=9, help='interpreters per side, interleaved; the median counts')
    parser.add_argument('--out', type=Path, default=Path('docs/benchmarks/import_time.json'))
    args = parser.parse_args()

    runs = [{name: seconds(code) for name, code in SIDES.items()} for _ in range(args.runs + 1)][1:]  # first: warm-up
    medians = {name: statistics.median(run[name] for run in runs) for name in SIDES}
    without, with_mmext = medians.values()
    for name, value in medians.items():
        print(f'{name:<32}{value:.3f} s')
    print(f'{"difference":<32}{with_mmext - without:.3f} s    ratio {with_mmext / without:.2f}')
    result = dict(
        seconds=medians,
        difference_s=with_mmext - without,
        ratio=with_mmext / without,
        runs=args.runs,
        python=platform.python_version(),
        machine=platform.machine(),
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
