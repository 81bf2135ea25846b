#!/usr/bin/env python3
"""Time and memory of reading and converting an MXNet checkpoint, beside plain reading and copying of the file's bytes.

Without --file, a file of the size and layout of the published ImageNet classifiers is made (version 0, 436,873,620
bytes), with random values. Both sides run in turns in one process; memory is that of a fresh process for each.
"""

import argparse
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import RESULTS, machine, spread, write_whole

CLASSES = 1000
BLOCK = 2**20
# Memory of a process but for pages of files, which the system can drop and read again.
MEMORY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import mmext.models.wider_resnet
import mxnet_params
call = getattr(mxnet_params, sys.argv[2])(Path(sys.argv[3]), Path(sys.argv[4]))
print('ready', flush=True)
sys.stdin.readline()
call()
"""


def make(path):
    """Write a file like the published classifiers."""
    import torch

    from mmext.convert.ademxapp import original_name
    from mmext.models import WiderResNet

    with torch.device('meta'):
        shapes = {key: value.shape for key, value in WiderResNet('A1').state_dict().items()}
    shapes = {original_name(key): tuple(shape) for key, shape in shapes.items() if original_name(key)}
    shapes |= {f'arg:linear{CLASSES}_weight': (CLASSES, 4096), f'arg:linear{CLASSES}_bias': (CLASSES,)}
    values = np.random.default_rng(0).random(BLOCK, dtype='float32')
    with open(path, 'wb') as file:
        file.write(struct.pack('<3Q', 0x112, 0, len(shapes)))
        for shape in shapes.values():
            file.write(struct.pack(f'<I{len(shape)}I3i', len(shape), *shape, 1, 0, 0))
            file.write(np.resize(values, shape).tobytes())
        file.write(struct.pack('<Q', len(shapes)))
        for name in shapes:
            file.write(struct.pack('<Q', len(name)) + name.encode())
    return path


def plain_reading(path, _):
    """Return a call that reads all bytes into memory that is there."""
    target = np.ones(path.stat().st_size, 'uint8')

    def call():
        with open(path, 'rb', buffering=0) as file:
            done = 0
            while count := file.readinto(memoryview(target)[done:]):
                done += count

    return call


def reading(path, _):
    """Return a call that opens the file and copies every array into memory that is there."""
    from mmext.convert.mxnet_params import read_params

    target = np.ones(path.stat().st_size, 'uint8')

    def call():
        done = 0
        for array in read_params(path).values():
            np.copyto(target[done : done + array.nbytes], array.reshape(-1).view('uint8'))
            done += array.nbytes

    return call


def opening(path, _):
    """Return a call that checks and indexes the file."""
    from mmext.convert.mxnet_params import read_params

    return lambda: read_params(path)


def plain_copying(path, folder):
    """Return a call that copies the file and hashes the copy, as a conversion does without converting."""

    def call():
        copy = folder / 'copy.pth'
        shutil.copyfile(path, copy)
        digest = hashlib.sha256()
        with open(copy, 'rb') as file:
            while block := file.read(BLOCK):
                digest.update(block)
        copy.unlink()

    return call


def converting(path, folder):
    """Return a call that converts the file into one for mmengine."""
    from mmext.convert import convert
    from mmext.convert.writing import write_checkpoint

    return lambda: write_checkpoint(*convert(path, 'ademxapp'), folder / 'converted.pth').unlink()


def forget(path):
    """Let the system drop what it keeps of a file in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def in_turns(calls, runs, before=lambda: None):
    """Time calls, one of each per round; the first round does not count. Returns {name: median and quartiles}."""
    samples = {name: [] for name in calls}
    for turn in range(runs + 1):
        for name, call in calls.items():
            before()
            begin = time.perf_counter()
            call()
            if turn:
                samples[name].append(time.perf_counter() - begin)
    return {name: spread(values) for name, values in samples.items()}


def extra_memory(name, path, folder):
    """Return the bytes that a call takes beside pages of files, sampled every millisecond in a fresh process."""
    command = [sys.executable, '-W', 'ignore', '-c', MEMORY, str(Path(__file__).parent), name, str(path), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        before = peak = _anonymous(process.pid)
        process.stdin.write('\n')
        process.stdin.flush()
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(0.001)
    if process.returncode:
        raise RuntimeError(f'measuring the memory of {name} failed')
    return peak - before


def _anonymous(pid):
    try:
        lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    except ProcessLookupError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith('RssAnon:'))


def report(title, found, ours, theirs):
    """Print two sides and their ratio; returns the ratio of the medians."""
    ratio = found[ours]['median_ms'] / found[theirs]['median_ms']
    print(
        f'{title:<34} {found[theirs]["median_ms"]:9.1f} ms {found[ours]["median_ms"]:9.1f} ms    ratio {ratio:.2f}',
        flush=True,
    )
    return ratio


def main():
    """Measure, print both sides and their ratio, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--file', type=Path, help='a .params file to measure instead of the one made')
    parser.add_argument('--folder', type=Path, help='folder for files of the size; default: that for temporary files')
    parser.add_argument('--runs', type=int, default=9, help='rounds; the median counts')
    parser.add_argument('--out', type=Path, default=RESULTS / 'mxnet_params.json')
    args = parser.parse_args()
    if args.runs < 1:
        parser.error(f'--runs {args.runs}: at least 1 is needed')

    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        path = args.file or make(folder / 'made.params')
        result = dict(bytes=path.stat().st_size, arrays=len(opening(path, folder)()), runs=args.runs)
        print(f'{result["bytes"]} bytes, {result["arrays"]} arrays')
        print(f'{"":<34} {"plain":>9}    {"mmext":>9}')
        read = dict(plain_reading=plain_reading(path, folder), reading=reading(path, folder))
        opened = dict(opening=opening(path, folder))
        result['warm'] = in_turns(read | opened, args.runs)
        result['warm']['ratio'] = report('reading, file in memory', result['warm'], 'reading', 'plain_reading')
        if hasattr(os, 'posix_fadvise'):
            result['cold'] = in_turns(read | opened, args.runs, before=lambda: forget(path))
            result['cold']['ratio'] = report('reading, file on disk', result['cold'], 'reading', 'plain_reading')
        for kind in ('warm', 'cold'):
            if kind in result:
                print(f'opening, {kind}{"":<33} {result[kind]["opening"]["median_ms"]:9.1f} ms')
        written = dict(plain_copying=plain_copying(path, folder), converting=converting(path, folder))
        result['whole'] = in_turns(written, args.runs)
        result['whole']['ratio'] = report(
            'copying and hash, converting', result['whole'], 'converting', 'plain_copying'
        )
        if Path('/proc/self/status').exists():
            names = ('opening', 'reading', 'plain_reading', 'converting', 'plain_copying')
            result['extra_bytes'] = {name: extra_memory(name, path, folder) for name in names}
            for name, count in result['extra_bytes'].items():
                print(f'extra memory, {name:<20} {count / 1e6:9.1f} MB')
    result['made'] = args.file is None
    result['machine'] = machine('cpu')
    write_whole(args.out, json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
