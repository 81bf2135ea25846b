#!/usr/bin/env python3
"""Plant one-line faults in mmext, one at a time, and see whether a test notices.

Each fault is planted in a private copy of the checkout, where the tests that belong to the file run until one fails. A
fault that no test notices is a survivor: either a test is missing, or the fault changes nothing, which then goes into
``equivalent_faults.json`` with the reason. The checkout is only read.

    python tools/checks/mutations.py --list
    python tools/checks/mutations.py --seed 1 --count 60 --json mutations.json
    python tools/checks/mutations.py --paths mmext/layers mmext/models/rednet.py --count 10
"""

import argparse
import contextlib
import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from faults import draw, plant

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name('equivalent_faults.json')
PATHS = ['mmext/ops', 'mmext/layers', 'mmext/models', 'mmext/convert', 'mmext/inflating', 'mmext/fusing']
COMPILED_SHARE = 0.25  # of files compiled by numba, whose faults take half a minute each

# Files -> their tests, quick ones first; the first line that fits counts. Names may be patterns.
TESTS = [
    ('mmext/ops/guard.py', 'tests/ops/test_call_conditions.py tests/cli/test_env.py'),
    ('mmext/ops/inception_conv/*', 'tests/ops/test_inception_conv*.py tests/layers/test_inception_conv_layer.py'),
    ('mmext/ops/inflate/*', 'tests/ops/test_inflate*.py tests/models/test_inflated*.py'),
    (
        'mmext/ops/involution/cuda/*',
        'tests/ops/cuda/test_cuda_launch.py tests/ops/cuda/test_cuda_compile.py tests/ops/cuda/test_cuda_numbers.py',
    ),
    ('mmext/ops/involution/flops.py', 'tests/complexity/test_flops.py tests/ops/test_involution.py'),
    (
        'mmext/ops/involution/cpu/*',
        'tests/ops/test_involution_cpu.py tests/ops/test_involution_cases.py tests/ops/test_involution_memory.py',
    ),
    ('mmext/ops/involution/backends.py', 'tests/ops/cuda/test_cuda_launch.py tests/ops/test_involution*.py'),
    ('mmext/ops/involution/*', 'tests/ops/test_involution*.py tests/test_export.py'),
    (
        'mmext/ops/compiled/*',
        'tests/ops/test_compiled_cache.py tests/ops/test_involution_cpu.py tests/ops/test_inception_conv*.py',
    ),
    ('mmext/layers/*inception*', 'tests/layers/test_inception_conv_layer.py tests/models/test_ic_resnet.py'),
    ('mmext/layers/*', 'tests/layers tests/models/test_rednet.py'),
    ('mmext/models/wider_resnet.py', 'tests/models/test_backbones.py tests/models/test_wider_resnet.py'),
    ('mmext/models/ic_resnet.py', 'tests/models/test_backbones.py tests/models/test_ic_resnet.py'),
    ('mmext/models/rednet.py', 'tests/models/test_backbones.py tests/models/test_rednet.py'),
    ('mmext/models/involution_fpn.py', 'tests/models/test_backbones.py tests/models/test_involution_fpn.py'),
    ('mmext/models/freezing.py', 'tests/models/test_backbones.py tests/models/test_rednet.py'),
    (
        'mmext/models/resnet_skeleton.py',
        'tests/models/test_backbones.py tests/models/test_rednet.py tests/models/test_ic_resnet.py',
    ),
    (
        'mmext/models/recompute.py',
        'tests/models/test_recompute.py tests/models/test_backbones.py tests/models/test_rednet.py',
    ),
    ('mmext/models/*', 'tests/models/test_backbones.py tests/models/test_inflated*.py'),
    ('mmext/convert/*mxnet*', 'tests/convert/test_mxnet*.py tests/convert/test_ademxapp.py'),
    ('mmext/convert/ademxapp.py', 'tests/convert/test_ademxapp.py'),
    ('mmext/convert/wider_resnet_parts.py', 'tests/convert/test_psa.py tests/convert/test_ademxapp.py'),
    ('mmext/convert/psa.py', 'tests/convert/test_psa.py'),
    ('mmext/convert/ic_conv.py', 'tests/convert/test_ic_conv.py'),
    ('mmext/convert/comparison.py', 'tests/convert/test_config_check.py tests/convert/test_ic_conv.py'),
    ('mmext/convert/involution*.py', 'tests/convert/test_conversion.py tests/convert/test_published_checkpoint.py'),
    (
        'mmext/convert/published_checkpoint.py',
        'tests/convert/test_published_checkpoint.py tests/convert/test_ic_conv.py',
    ),
    ('mmext/convert/addresses.py', 'tests/convert/test_addresses.py'),
    ('mmext/convert/archives.py', 'tests/convert/test_hostile_files.py'),
    ('mmext/convert/pickles.py', 'tests/convert/test_hostile_files.py tests/compat/test_safe_globals_opcodes.py'),
    ('mmext/convert/standins.py', 'tests/convert/test_hostile_files.py tests/compat/test_safe_globals_opcodes.py'),
    ('mmext/convert/meta.py', 'tests/convert/test_values.py tests/convert/test_conversion.py'),
    ('mmext/convert/values.py', 'tests/convert/test_values.py'),
    ('mmext/convert/shapes.py', 'tests/convert/test_index_bombs.py tests/convert/test_conversion.py'),
    (
        'mmext/convert/*',
        'tests/convert/test_writing.py tests/convert/test_reading*.py tests/convert/test_conversion.py '
        'tests/convert/test_config_check.py tests/convert/test_ic_conv.py tests/cli/test_convert.py',
    ),
    ('mmext/inflating/*', 'tests/inflating tests/cli/test_inflate_check.py'),
    ('mmext/fusing*', 'tests/test_fusing*.py tests/fusing tests/models/test_inflated*.py'),
    ('mmext/cls/*', 'tests/cls'),
    ('mmext/seg/*', 'tests/seg'),
    ('mmext/pose/*', 'tests/pose'),
    ('mmext/det/*', 'tests/det'),
    ('mmext/video/*', 'tests/video'),
    ('mmext/patterns/*', 'tests/patterns tests/cli/test_pattern.py'),
    ('mmext/complexity/*', 'tests/complexity'),
    ('mmext/cli/*', 'tests/cli'),
    ('mmext/compat/*', 'tests/compat'),
    ('mmext/resampling.py', 'tests/test_resampling.py tests/cls/test_crops.py'),
    ('mmext/*', 'tests/test_registry.py tests/test_zoo.py'),
]


def find_tests(path, root=ROOT):
    """Return the test files and folders of a file of the package, as far as they exist."""
    patterns = next((line[1].split() for line in TESTS if fnmatch.fnmatch(path, line[0])), [])
    found = [str(test.relative_to(root)) for pattern in patterns for test in sorted(root.glob(pattern))]
    if not found:
        raise SystemExit(f'{path} has no tests; add a line to TESTS in {Path(__file__).name}')
    return list(dict.fromkeys(found))


def read_sources(paths, root=ROOT):
    """Return {name: text} of all Python files at or below the paths."""
    sources = {}
    for path in paths:
        files = sorted((root / path).rglob('*.py')) if (root / path).is_dir() else [root / path]
        if not files or not files[0].is_file():
            raise SystemExit(f'--paths {path}: there is no such Python file or folder in {root}')
        sources |= {str(file.relative_to(root)): file.read_text() for file in files}
    return sources


def is_compiled(source):
    """Say whether numba compiles functions of a file."""
    return re.search(r'^\s*(import|from) (numba|llvmlite)|compiled_as', source, re.MULTILINE) is not None


def load_equivalent(path=EQUIVALENT):
    """Return the faults known to change nothing, as a set of (file, line without it, line with it)."""
    return {(entry['path'], entry['before'], entry['after']) for entry in json.loads(path.read_text())}


class Copy:
    """A private copy of the checkout in which tests run.

    Args:
        folder (Path): Where to put it; made here.
        root (Path): The checkout: what git does not ignore of it is copied.
    """

    def __init__(self, folder, root=ROOT):
        self.root = folder / 'checkout'
        self.cache = folder / 'numba'
        listed = subprocess.run(
            ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in filter(None, listed.stdout.split('\0')):
            if (root / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, self.root / name)
        self.confirmed = {}
        self.process = None
        self.interrupted = False

    def interrupt(self):
        """End the tests that run now, from another thread, and start no others."""
        self.interrupted = True
        self._end()

    def _end(self):  # also what a test has started
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def planted(self, fault):
        """Hold the fault in the copy."""
        file = self.root / fault.path
        source = file.read_text()
        file.write_text(plant(source, fault))
        try:
            yield
        finally:
            file.write_text(source)

    def run(self, tests, seconds, cache=None):
        """Run tests until one fails.

        Args:
            tests (Sequence[str]): What pytest takes.
            seconds (float): Time limit.
            cache (Path, optional): Of code compiled by numba. Default: None, that of the copy.

        Returns:
            str or None: What failed: a test, 'time limit' or pytest's exit status; None if all passed.
        """
        # without compiled Python files: a fault of the same length in the same second would not be seen
        env = {
            **os.environ,
            'PYTHONPATH': str(self.root),
            'PYTHONDONTWRITEBYTECODE': '1',
            'NUMBA_CACHE_DIR': str(cache or self.cache),
            'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', '1'),
        }
        options = ['-x', '-q', '-rfE', '--tb=no', '--disable-warnings', '-p', 'no:cacheprovider', '-o', 'addopts=']
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'pytest', *options, *tests],
            cwd=self.root,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output = self.process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            return 'time limit'
        finally:
            self._end()
            status = self.process.wait()
        if self.interrupted:
            raise InterruptedError('the tests were ended')
        if status == 0:
            return None
        failed = re.search(r'^(?:FAILED|ERROR) (\S+(?: .*?\])?)(?= - |$)', output, re.MULTILINE)
        return failed[1] if failed else f'pytest ended with {status}: {output.strip()[-300:]}'

    def check(self, fault, seconds):
        """Run a fault's tests with it; what fails has to pass without it.

        Returns:
            dict: The fault's place and lines, 'caught_by' (a test, or None for a survivor) and 'seconds'.
        """
        tests, start = find_tests(fault.path, self.root), time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.cache.parent) as fresh, self.planted(fault):
            # numba looks at the file of a function only, not at those of the functions that it calls
            compiled = is_compiled((self.root / fault.path).read_text())
            caught_by = self.run(tests, seconds, Path(fresh) if compiled else None)
        spent = time.monotonic() - start
        if caught_by is not None:
            again = [caught_by] if '::' in caught_by else tests
            if re.fullmatch(r'\S+\.py', caught_by):  # a file that could not be imported
                again = [caught_by, '--collect-only']
            key = tuple(again)
            if key not in self.confirmed:
                self.confirmed[key] = self.run(again, seconds)
            if self.confirmed[key] is not None:
                raise SystemExit(f'{caught_by} fails without a fault, too; the tests have to pass before this check')
        place = {name: getattr(fault, name) for name in ('path', 'line', 'kind', 'old', 'new', 'before', 'after')}
        return {**place, 'caught_by': caught_by, 'seconds': round(spent, 1)}


def describe(fault):
    """Return the fault's kind and what it exchanges, in one line."""
    return f'{fault.kind}: {fault.old} -> {fault.new or "(nothing)"}'


def check_all(faults, jobs, seconds):
    """Check every fault, print a line for each as it is done, and return the results in the order of the faults."""
    with tempfile.TemporaryDirectory(prefix='mmext-mutations-') as folder, ThreadPoolExecutor(jobs) as pool:
        copies = [Copy(Path(folder) / str(number)) for number in range(jobs)]
        free = SimpleQueue()
        for copy in copies:
            free.put(copy)

        def check(fault):
            copy = free.get()
            try:
                return copy.check(fault, seconds)
            finally:
                free.put(copy)

        results = []
        try:
            for fault, result in zip(faults, pool.map(check, faults)):
                outcome = f'caught by {result["caught_by"]}' if result['caught_by'] else 'SURVIVED'
                print(f'{fault.path}:{fault.line}  {describe(fault)}  {outcome}  {result["seconds"]:.0f} s', flush=True)
                results.append(result)
        except BaseException:  # an interrupt, too: tests run in sessions of their own, which the terminal does not end
            pool.shutdown(wait=False, cancel_futures=True)
            for copy in copies:
                copy.interrupt()
            raise
    return results


def main(arguments=None):
    """Run the command; returns the exit status: 0 if every fault was caught, 1 if some survived."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seed', type=int, default=0, help='same seed and sources, same faults (default: 0)')
    parser.add_argument('--count', type=int, default=60, help='how many faults (default: 60)')
    parser.add_argument('--jobs', type=int, default=1, help='how many at once, each in a copy of its own (default: 1)')
    parser.add_argument('--paths', nargs='+', default=PATHS, help=f'files and folders (default: {" ".join(PATHS)})')
    parser.add_argument('--limit', type=float, default=600, help='seconds for the tests of one fault (default: 600)')
    parser.add_argument('--list', action='store_true', help='only show the faults')
    parser.add_argument('--json', type=Path, help='also write the results to this file')
    options = parser.parse_args(arguments)
    sources = read_sources(options.paths)
    equivalent = load_equivalent()
    faults = draw(
        sources,
        options.count,
        options.seed,
        weight=lambda path: COMPILED_SHARE if is_compiled(sources[path]) else 1.0,
        known=lambda fault: (fault.path, fault.before, fault.after) in equivalent,
    )
    if options.list:
        for fault in faults:
            print(f'{fault.path}:{fault.line}  {describe(fault)}\n    {fault.after}')
        return 0
    results = check_all(faults, options.jobs, options.limit)
    survivors = [result for result in results if result['caught_by'] is None]
    print(f'caught {len(results) - len(survivors)} of {len(results)} planted')
    for result in survivors:
        print(f'survived: {result["path"]}:{result["line"]}\n  - {result["before"]}\n  + {result["after"]}')
    if options.json:
        options.json.write_text(
            json.dumps(dict(seed=options.seed, paths=options.paths, faults=results), indent=1) + '\n'
        )
    return 1 if survivors else 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an interrupt: what runs is ended
    sys.exit(main())
