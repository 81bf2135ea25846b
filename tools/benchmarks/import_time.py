#!/usr/bin/env python3
"""Time that ``import mmext`` adds to ``import torch, mmengine``, in fresh interpreters."""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

CODE = """
import time
start = time.perf_counter()
import torch, mmengine
base = time.perf_counter()
import mmext
print(base - start, time.perf_counter() - base)
"""


def seconds():
    """Return (seconds of the base imports, seconds that mmext adds) of one fresh interpreter."""
    command = [sys.executable, '-W', 'ignore', '-c', CODE]
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def main():
    """Measure, print both sides and their ratio, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--runs', type=int, default=9, help='fresh interpreters; the median counts')
    parser.add_argument('--out', type=Path, default=Path('docs/benchmarks/import_time.json'))
    args = parser.parse_args()

    runs = [seconds() for _ in range(args.runs + 1)][1:]  # the first one warms the disk cache
    base, added = (statistics.median(side) for side in zip(*runs))
    print(f'import torch, mmengine  {base:.3f} s')
    print(f'import mmext, on top    {added:.3f} s    ratio {added / base:.3f}')
    result = dict(
        torch_and_mmengine_s=base,
        mmext_on_top_s=added,
        ratio=added / base,
        runs=args.runs,
        python=platform.python_version(),
        machine=platform.machine(),
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
