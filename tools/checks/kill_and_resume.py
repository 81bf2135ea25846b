#!/usr/bin/env python3
"""Kill trainings while they save, resume each, and print a table; exits with 1 if one does not end well.

Each training is a few steps of a mini config through the toolbox's own installed tools/train.py. It is sent SIGKILL at
a seeded moment around one of its saves, then started again with --resume, which must go on from a whole checkpoint (if
one had been saved) and end. Every second one keeps a single checkpoint, the others as many as the config says.

    python tools/checks/kill_and_resume.py --kills 10
"""

import argparse
import importlib.util
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SAVES = 3  # of each training
SAVING = re.compile(r'Saving checkpoint at (\d+)')
RESUMED = re.compile(r'Auto resumed from the latest checkpoint (\S+?)\.?$', re.M)
LONGEST = 1.0  # seconds between the line that announces a save and the kill
MINUTES = 10  # in which a training must end


@dataclass(frozen=True)
class Toolbox:
    """How a toolbox is tried.

    Attributes:
        data: Dataset of make_mini_datasets.py.
        config: Mini config, in configs/mini.
        options: What makes a training of ``SAVES`` saves and a few steps of it.
    """

    data: str
    config: str
    options: tuple


SHORT = tuple(
    f'{split}_dataloader.{option}'
    for split in ('train', 'val')
    for option in ('num_workers=0', 'persistent_workers=False')
)
TOOLBOXES = {
    'mmpretrain': Toolbox(
        'imagenet',
        'rednet26_mini-in1k.py',
        (f'train_cfg.max_epochs={SAVES}', f'train_cfg.val_interval={SAVES}', 'train_dataloader.batch_size=10', *SHORT),
    ),
    'mmseg': Toolbox(
        'cityscapes',
        'fpn_red26_inv-neck_mini-cityscapes.py',
        (
            f'train_cfg.max_iters={2 * SAVES}',
            f'train_cfg.val_interval={2 * SAVES}',
            'default_hooks.checkpoint.interval=2',
            'train_dataloader.batch_size=2',
            *SHORT,
        ),
    ),
}


def start(name, work_dir, data, keep, resume):
    """Start a training in a process group of its own; its output is in .stdout."""
    toolbox = TOOLBOXES[name]
    script = Path(importlib.util.find_spec(name).origin).parent / '.mim' / 'tools' / 'train.py'
    options = [f'{split}_dataloader.dataset.data_root={data}/{toolbox.data}/' for split in ('train', 'val')]
    options += toolbox.options
    if keep:
        options.append(f'default_hooks.checkpoint.max_keep_ckpts={keep}')
    command = [script, ROOT / 'configs/mini' / toolbox.config, '--work-dir', work_dir, *['--resume'] * resume]
    return subprocess.Popen(
        [sys.executable, *map(str, command), '--cfg-options', *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill(process, save, delay):
    """Send SIGKILL to a training some seconds after it announces a save; return its output."""
    lines = []
    saves = 0
    timer = threading.Timer(delay, os.killpg, (process.pid, signal.SIGKILL))
    for line in process.stdout:
        lines.append(line)
        if SAVING.search(line):
            saves += 1
            if saves == save:
                timer.start()
    process.wait()
    timer.cancel()
    return ''.join(lines)


def state(work_dir):
    """Say which checkpoints are there, which of them are damaged, and what last_checkpoint names."""
    found = []
    for path in sorted(work_dir.glob('*.pth'), key=lambda path: path.stat().st_mtime):
        found.append(path.stem if zipfile.is_zipfile(path) else f'{path.stem} (damaged)')
    last = work_dir / 'last_checkpoint'
    named = (Path(last.read_text().strip()).stem or 'nothing') if last.exists() else 'no file'
    return ', '.join(found) or 'none', named


def trial(name, seed, data, folder):
    """Kill and resume one training; return a row of the table, whose last entry is 'ended' where all went well."""
    generator = random.Random(f'{name} {seed}')
    save, delay, keep = generator.randint(1, SAVES), generator.uniform(0, LONGEST), 1 if seed % 2 else None
    work_dir = folder / f'{name}-{seed}'
    output = kill(start(name, work_dir, data, keep, resume=False), save, delay)
    if not SAVING.search(output):
        sys.exit(f'{output[-3000:]}\n{name} did not come to a save')
    files, named = state(work_dir)
    process = start(name, work_dir, data, keep, resume=True)
    try:
        output = process.communicate(timeout=60 * MINUTES)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
    found = RESUMED.search(output)
    resumed = Path(found[1]).stem if found else 'unknown'
    after, last = state(work_dir)
    left = [path.name for path in work_dir.iterdir() if path.name.startswith('.')]
    if process.returncode:
        verdict = 'FAILED: ' + output.strip().splitlines()[-1][:80]
    elif '(damaged)' in after or last not in after.split(', ') or left:
        verdict = f'FAILED: it left {after}, {last}, {left}'
    elif resumed == 'None' and save > 1:
        verdict = 'FAILED: began anew'
    else:
        verdict = 'ended'
    if verdict == 'ended':
        shutil.rmtree(work_dir)
    kept = str(keep or 2)
    return name, str(seed), kept, f'{save}, {1000 * delay:.0f} ms', files, named, resumed, verdict


def main():
    """Run the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=10, help='of each toolbox (default: %(default)s)')
    parser.add_argument('--toolboxes', nargs='+', choices=TOOLBOXES, default=list(TOOLBOXES), metavar='NAME')
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix='kill_and_resume-'))
    data = folder / 'data'
    names = [TOOLBOXES[name].data for name in args.toolboxes]
    subprocess.run(
        [sys.executable, 'tools/make_mini_datasets.py', *names, '--out', data, '--train', '20', '--val', '10'],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    head = 'toolbox', 'seed', 'keeps', 'killed at save, after', 'checkpoints then', 'last_checkpoint', 'resumed from'
    print(' | '.join((*head, 'result')), flush=True)
    failed = 0
    for seed in range(args.kills):
        for name in args.toolboxes:
            row = trial(name, seed, data, folder)
            print(' | '.join(row), flush=True)
            failed += row[-1] != 'ended'
    print(f'{args.kills * len(args.toolboxes) - failed} of {args.kills * len(args.toolboxes)} resumed and ended')
    if failed:
        sys.exit(f'what they left is in {folder}')
    shutil.rmtree(folder)


if __name__ == '__main__':
    main()
