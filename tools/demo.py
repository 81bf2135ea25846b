#!/usr/bin/env python3
"""Train, test and draw a network of ours through a toolbox's own installed scripts: what ``make demo`` runs.

Makes the mini data, runs the toolbox's ``tools/train.py`` and ``tools/test.py`` on the mini config of the task, draws
predictions beside ground truth on held-out pictures and ends with a table. It fails where a figure falls below half of
what was measured when the config was made. Everything lands in ``work_dirs/demo/TASK``; the full output of each script
is kept there as a log.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRESS = re.compile(r'(?:Epoch|Iter)\(train\)\s+(?:\[(\d+)\])?\[\s*(\d+)/(\d+)\].*?loss: ([\d.]+)')
# glibc hands the large blocks of every step back to the kernel; keeping them saves a third of the time on the CPU
KEEP_MEMORY = {'MALLOC_MMAP_THRESHOLD_': '4000000000', 'MALLOC_TRIM_THRESHOLD_': '4000000000'}


@dataclass(frozen=True)
class Task:
    """One demo.

    Attributes:
        title: What is trained.
        toolbox: Import name of the toolbox whose scripts run it.
        data: Dataset of make_mini_datasets.py.
        config: Mini config, in configs/mini.
        metrics: Metric of the toolbox -> (name in the table, figure measured with this config, on the scale of the
            metric).
        out: Name of what the test script writes with --out.
    """

    title: str
    toolbox: str
    data: str
    config: str
    metrics: dict
    out: str = 'predictions.pkl'


TASKS = {
    'cls': Task(
        'RedNet-26 classifier',
        'mmpretrain',
        'imagenet',
        'rednet26_mini-in1k.py',
        {'accuracy/top1': ('top-1 accuracy', 73.0)},
    ),
    'det': Task(
        'Faster R-CNN with involutions in backbone, neck and RPN head',
        'mmdet',
        'coco',
        'faster-rcnn_red26_fpn-inv-neck_inv-head_mini-coco.py',
        {'coco/bbox_mAP': ('box AP', 0.51), 'coco/bbox_mAP_50': ('box AP50', 0.84)},
    ),
    'ins': Task(
        'Mask R-CNN with involutions in backbone, neck, RPN and mask head',
        'mmdet',
        'coco',
        'mask-rcnn_red26_fpn-inv-neck_inv-head_mini-coco.py',
        {'coco/bbox_mAP_50': ('box AP50', 0.838), 'coco/segm_mAP_50': ('mask AP50', 0.314)},
    ),
    'seg': Task(
        'Semantic FPN with involutions in backbone and neck',
        'mmseg',
        'cityscapes',
        'fpn_red26_inv-neck_mini-cityscapes.py',
        {'mIoU': ('mIoU', 65.45), 'aAcc': ('pixel accuracy', 90.07)},
        out='predictions',
    ),
}


def run(what, command, log):
    """Run a Python script with its output in a log file, showing its progress; stop if it fails. Returns minutes."""
    print(f'demo: {what} ...', flush=True)
    begin = time.time()
    with (
        open(log, 'w') as file,
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **KEEP_MEMORY},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        for line in process.stdout:
            file.write(line)
            if progress := PROGRESS.search(line):
                epoch, step, steps, loss = progress.groups()
                minutes = (time.time() - begin) / 60
                where = f'epoch {epoch}, step' if epoch else 'step'
                print(f'  {where} {step}/{steps}: loss {float(loss):.2f}  ({minutes:.1f} min)', flush=True)
    if process.returncode:
        tail = Path(log).read_text().splitlines()[-15:]
        sys.exit('\n'.join(tail) + f'\ndemo: {what} failed (exit {process.returncode}); all it printed is in {log}')
    return (time.time() - begin) / 60


def newest_metrics(folder):
    """Return the metrics that mmengine wrote at the end of a test, from the newest run in a work directory."""
    logs = sorted(folder.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    return json.loads(logs[-1].read_text().splitlines()[-1])


def main():
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('task', nargs='?', default='det', choices=TASKS, help='default: %(default)s')
    name = parser.parse_args().task
    task = TASKS[name]

    work_dir = ROOT / 'work_dirs' / 'demo' / name
    config = ROOT / 'configs' / 'mini' / task.config
    scripts = Path(importlib.util.find_spec(task.toolbox).origin).parent / '.mim' / 'tools'
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    start = time.time()
    run(
        f'making the mini data for {task.toolbox}',
        ['tools/make_mini_datasets.py', task.data, '--out', 'data/mini'],
        work_dir / 'data.log',
    )
    train_minutes = run(
        f"training a {task.title} with {task.toolbox}'s tools/train.py",
        [scripts / 'train.py', config, '--work-dir', work_dir],
        work_dir / 'train.log',
    )
    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    predictions = work_dir / task.out
    run(
        f"testing the saved checkpoint with {task.toolbox}'s tools/test.py",
        [scripts / 'test.py', config, checkpoint, '--work-dir', work_dir / 'test', '--out', predictions],
        work_dir / 'test.log',
    )
    picture = work_dir / 'predictions.png'
    run('drawing', ['tools/draw_predictions.py', config, predictions, picture], work_dir / 'draw.log')

    counts = json.loads((ROOT / f'data/mini/{task.data}/mini.json').read_text())['options']
    found = newest_metrics(work_dir / 'test')
    rows = [
        ('training pictures', counts['train']),
        ('held-out pictures', counts['val']),
        ('minutes, training', f'{train_minutes:.1f}'),
        ('minutes, all', f'{(time.time() - start) / 60:.1f}'),
        *((title, f'{found[metric]:.3f}') for metric, (title, _) in task.metrics.items()),
        ('predictions drawn', picture.relative_to(ROOT)),
        ('checkpoint', checkpoint.relative_to(ROOT)),
    ]
    print('\n' + '\n'.join(f'  {title:<20}{value}' for title, value in rows))
    for metric, (title, measured) in task.metrics.items():
        if found[metric] < measured / 2:
            sys.exit(f'demo: {title} is {found[metric]:.3f}; {measured} was measured, and half of it is the least here')


if __name__ == '__main__':
    main()
