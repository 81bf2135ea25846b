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
from dataclasses import dataclass, field
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
        out: Name of the predictions that the test script writes.
        out_option: Option of the test script that takes this name.
        several: Options of the test script for a second test in several scales of each picture.
        several_metrics: As ``metrics``, of the second test.
        unit: What the samples of the data are.
    """

    title: str
    toolbox: str
    data: str
    config: str
    metrics: dict
    out: str = 'predictions.pkl'
    out_option: str = '--out'
    several: tuple = ()
    several_metrics: dict = field(default_factory=dict)
    unit: str = 'pictures'


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
    'ic': Task(
        'Faster R-CNN with inception convolutions in the backbone',
        'mmdet',
        'coco',
        'faster-rcnn_ic-r18_fpn_mini-coco.py',
        {'coco/bbox_mAP': ('box AP', 0.5), 'coco/bbox_mAP_50': ('box AP50', 0.8)},
    ),
    'seg': Task(
        'Semantic FPN with involutions in backbone and neck',
        'mmseg',
        'cityscapes',
        'fpn_red26_inv-neck_mini-cityscapes.py',
        {'mIoU': ('mIoU', 65.45), 'aAcc': ('pixel accuracy', 90.07)},
        out='predictions',
    ),
    'wide': Task(
        'Wider-ResNet A1, FCN, semantic segmentation',
        'mmseg',
        'cityscapes',
        'fcn_wider-resnet38-a1-d8_mini-cityscapes.py',
        {'mIoU': ('mIoU', 53.23), 'aAcc': ('pixel accuracy', 86.7)},
        out='predictions',
        several=('--tta',),
        several_metrics={'mIoU': ('mIoU, several scales', 54.54)},
    ),
    'pose': Task(
        'bottom-up pose estimator (associative embedding)',
        'mmpose',
        'coco_keypoints',
        'ae_res18_mini-coco-keypoints.py',
        {'coco/AP': ('AP', 0.73), 'coco/AP .5': ('AP50', 1.0)},
        out_option='--dump',
        several=(
            '--cfg-options',
            'model.test_cfg.multiscale_test=True',
            'test_dataloader.dataset.pipeline.1.aug_scales=[2,0.5]',
        ),
        several_metrics={'coco/AP': ('AP, scales 2, 1, 0.5', 0.78)},
    ),
    'video': Task(
        'inflated ResNet-18, classes told by motion alone',
        'mmaction',
        'kinetics400',
        'inflated-resnet18_mini-kinetics.py',
        {'acc/top1': ('top-1 accuracy', 0.875)},
        out_option='--dump',
        unit='clips',
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
                print(f'  {where} {step}/{steps}: loss {float(loss):.3g}  ({minutes:.1f} min)', flush=True)
            elif 'mmext env --compile' in line:  # why nothing else is heard of for a minute
                print(f'  {line.strip()}', flush=True)
    if process.returncode:
        tail = Path(log).read_text().splitlines()[-15:]
        sys.exit('\n'.join(tail) + f'\ndemo: {what} failed (exit {process.returncode}); all it printed is in {log}')
    return (time.time() - begin) / 60


def measured(metrics, folder):
    """Return (name in the table, figure, expected figure) of each metric that mmengine wrote at the end of a test."""
    log = max(folder.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    found = json.loads(log.read_text().splitlines()[-1])
    return [(title, found[metric], expected) for metric, (title, expected) in metrics.items()]


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
        [scripts / 'test.py', config, checkpoint, '--work-dir', work_dir / 'test', task.out_option, predictions],
        work_dir / 'test.log',
    )
    results = measured(task.metrics, work_dir / 'test')
    if task.several:
        run(
            'testing it in several scales',
            [scripts / 'test.py', config, checkpoint, '--work-dir', work_dir / 'test_several', *task.several],
            work_dir / 'test_several.log',
        )
        results += measured(task.several_metrics, work_dir / 'test_several')
    picture = work_dir / 'predictions.png'
    run('drawing', ['tools/draw_predictions.py', config, predictions, picture], work_dir / 'draw.log')

    counts = json.loads((ROOT / f'data/mini/{task.data}/mini.json').read_text())['options']
    rows = [
        (f'training {task.unit}', counts['train']),
        (f'held-out {task.unit}', counts['val']),
        ('minutes, training', f'{train_minutes:.1f}'),
        ('minutes, all', f'{(time.time() - start) / 60:.1f}'),
        *((title, f'{found:.3f}') for title, found, _ in results),
        ('predictions drawn', picture.relative_to(ROOT)),
        ('checkpoint', checkpoint.relative_to(ROOT)),
    ]
    print('\n' + '\n'.join(f'  {title:<22}{value}' for title, value in rows))
    for title, found, expected in results:
        if found < expected / 2:
            sys.exit(f'demo: {title} is {found:.3f}; {expected} was measured, and half of it is the least here')


if __name__ == '__main__':
    main()
