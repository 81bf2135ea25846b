"""What the benchmarks share: timing in turns, extra memory, copy bandwidth, a description of the machine, files.

Run as a script, this file is the fresh process in which the extra memory of a call on the CPU is measured.
"""

import gc
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / 'docs' / 'benchmarks'
COPIED_BYTES = 2**30  # more than caches hold
SAMPLE_SECONDS = 0.02  # the least that one sample takes: calls are repeated within it
MEMORY_SECONDS = 2.0  # measurements of one call's memory are repeated for so long, 5 times at most
# glibc keeps freed blocks for later, and what it keeps cannot be told from what is in use; large ones go back at once
GIVE_MEMORY_BACK = {'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_TRIM_THRESHOLD_': '0'}
DISTRIBUTIONS = (
    *('torch', 'torchvision', 'mmext', 'numpy', 'numba', 'mmcv', 'mmcv-lite'),
    *('cupy', 'cupy-cuda11x', 'cupy-cuda12x', 'cupy-cuda13x'),
)
SETTINGS = 'OMP_', 'GOMP_', 'KMP_', 'MKL_', 'NUMBA_', 'MALLOC_', 'MMEXT_', 'CUDA_'  # environment variables that matter


def _seconds(call, count, device):
    """Return the seconds of one of ``count`` calls in a row."""
    if device == 'cuda':
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000 / count
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count


def time_in_turns(calls, device, runs):
    """Time several calls side by side, one sample of each per round, so that a disturbance meets all of them.

    Args:
        calls (dict[str, Callable]): What to time; each has been called before.
        device (str): 'cpu' or 'cuda'.
        runs (int): Rounds that count; one before them does not.

    Returns:
        dict[str, dict]: Name -> ``median_ms`` and ``quartiles_ms`` (first and third) of one call.
    """
    counts = {}
    for name, call in calls.items():
        counts[name] = 1
        while counts[name] * _seconds(call, counts[name], device) < SAMPLE_SECONDS:
            counts[name] *= 2
    samples = {name: [] for name in calls}
    for turn in range(runs + 1):
        for name, call in calls.items():
            seconds = _seconds(call, counts[name], device)
            if turn:
                samples[name].append(seconds)
    return {name: spread(values) for name, values in samples.items()}


def spread(seconds):
    """Return the median and the quartiles of samples, in milliseconds, as the JSON files have them."""
    first, median, third = (float(value) * 1000 for value in np.percentile(seconds, (25, 50, 75)))
    return {'median_ms': median, 'quartiles_ms': [first, third]}


def captured(call):
    """Record what a call does on the GPU in a CUDA graph; returns a callable that does it again, without Python.

    Small maps take microseconds on a GPU, less than a call from Python does. A call that takes so much memory that it
    cannot be recorded is returned itself; there Python hardly counts.
    """
    torch.cuda.empty_cache()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            call()  # the graph keeps the memory of the results
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return call
    return graph.replay


def copy_bandwidth(device, runs):
    """Measure the bytes that copying a tensor, larger than any cache, reads and writes per second."""
    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    milliseconds = time_in_turns({'copy': lambda: target.copy_(source)}, device, runs)['copy']['median_ms']
    return 2 * source.nbytes / milliseconds * 1000


def extra_memory(call, device):
    """Return the peak of the memory that a call takes beside its inputs and its results, in bytes.

    On the CPU that is right only in a process of its own, see :func:`memory_in_fresh_process`.

    Args:
        call (Callable): Returns a tuple of tensors, its results.
        device (str): 'cpu' or 'cuda'.

    Returns:
        int: Bytes; on the CPU the median of several measurements.
    """
    call()
    found = []
    begin = time.perf_counter()
    while not found or (device == 'cpu' and len(found) < 5 and time.perf_counter() - begin < MEMORY_SECONDS):
        gc.collect()
        before = _start_peak(device)
        results = call()
        found.append(_peak(device) - before - sum(tensor.nbytes for tensor in results))
        del results
    return max(0, int(np.median(found)))


def _start_peak(device):
    """Forget the peak so far; returns the bytes in use."""
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path('/proc/self/clear_refs').write_text('5')
    return _peak(device)


def _peak(device):
    if device == 'cuda':
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmHWM:'):
            return 1024 * int(line.split()[1])
    raise OSError('/proc/self/status has no VmHWM')


def why_no_memory(device):
    """Say why extra memory cannot be measured here; None if it can."""
    try:
        _start_peak(device)
    except OSError as error:
        return f'this system does not let a process reset its memory peak ({error})'
    return None


def memory_in_fresh_process(module, function, *arguments):
    """Measure the extra memory of calls on the CPU, in a process that does nothing else.

    Args:
        module (str): Name of a module beside this one.
        function (str): Function in it that returns the calls as a dict name -> callable.
        *arguments: What it is called with, as JSON knows it.

    Returns:
        dict[str, int]: Name -> bytes.

    Raises:
        RuntimeError: If the process fails.
    """
    command = [sys.executable, '-W', 'ignore', __file__, module, function, json.dumps(arguments)]
    environment = {**os.environ, **GIVE_MEMORY_BACK}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise RuntimeError(f'measuring memory of {function}{arguments} failed:\n{result.stderr[-3000:]}')
    return json.loads(result.stdout.splitlines()[-1])


def threads_available():
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def prepare(parser, args):
    """Check ``--device``, fill it in where it is not given, and set threads or pick the GPU's fastest convolutions.

    Args:
        parser (argparse.ArgumentParser): For the error.
        args (argparse.Namespace): With ``device`` and ``runs``; ``device`` may be None.
    """
    if args.runs < 1:
        parser.error(f'--runs {args.runs}: at least 1 is needed')
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: PyTorch finds no GPU here; use --device cpu')
    torch.set_num_threads(threads_available())
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    if args.device == 'cpu' and os.getloadavg()[0] > 0.5:
        print(f'other processes disturb this: the load is {os.getloadavg()[0]:.1f}, not 0', file=sys.stderr)


def machine(device):
    """Describe device, threads and versions, for the JSON files."""
    versions = {'python': platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    name = torch.cuda.get_device_name() if device == 'cuda' else _cpu_name()
    return {
        'device': device,
        'device_name': name,
        'threads': torch.get_num_threads(),
        'versions': versions,
        'environment': {key: value for key, value in sorted(os.environ.items()) if key.startswith(SETTINGS)},
    }


def _cpu_name():
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def write_whole(path, text):
    """Write a text file so that no reader sees half of it; makes the folder where it is missing."""
    from mmext.utils import whole_files

    path.parent.mkdir(parents=True, exist_ok=True)
    whole_files.write_whole(path, text)


def _fresh_process(module, function, arguments):
    sys.path.insert(0, str(HERE))
    calls = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    print(json.dumps({name: extra_memory(call, 'cpu') for name, call in calls.items()}))


if __name__ == '__main__':
    _fresh_process(*sys.argv[1:])
