#!/usr/bin/env python3
"""Train, test and draw a detector of ours through mmdet's own installed scripts: what ``make demo`` runs.

Makes the mini COCO data, runs mmdet's ``tools/train.py`` and ``tools/test.py`` on the mini config, draws detections
beside ground truth on held-out pictures and ends with a table. Everything lands in ``work_dirs/demo``; the full output
of each script is kept there as a log.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / 'configs' / 'mini' / 'faster-rcnn_red26_fpn-inv-neck_inv-head_mini-coco.py'
WORK_DIR = ROOT / 'work_dirs' / 'demo'
PROGRESS = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].*?loss: ([\d.]+)')
# glibc hands the large blocks of every step back to the kernel; keeping them saves a third of the time on the CPU
KEEP_MEMORY = {'MALLOC_MMAP_THRESHOLD_': '4000000000', 'MALLOC_TRIM_THRESHOLD_': '4000000000'}
RESULT = re.compile(r'Epoch\(val\) \[(\d+)\].*coco/bbox_mAP_50: ([\d.]+)')


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
                print(f'  epoch {epoch}, step {step}/{steps}: loss {float(loss):.2f}  ({minutes:.1f} min)', flush=True)
            elif result := RESULT.search(line):
                print(f'  epoch {result[1]}: AP50 {float(result[2]):.3f} on held-out pictures', flush=True)
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
    parser.parse_args()

    scripts = Path(importlib.util.find_spec('mmdet').origin).parent / '.mim' / 'tools'
    shutil.rmtree(WORK_DIR, ignore_errors=True)
    WORK_DIR.mkdir(parents=True)
    start = time.time()
    run(
        'making the mini COCO data from real photographs and handwritten digits',
        ['tools/make_mini_datasets.py', 'coco', '--out', 'data/mini'],
        WORK_DIR / 'data.log',
    )
    train_minutes = run(
        "training with mmdet's tools/train.py, 5 to 7 minutes on two cores",
        [scripts / 'train.py', CONFIG, '--work-dir', WORK_DIR],
        WORK_DIR / 'train.log',
    )
    checkpoint = Path((WORK_DIR / 'last_checkpoint').read_text().strip())
    predictions = WORK_DIR / 'predictions.pkl'
    run(
        "testing the saved checkpoint with mmdet's tools/test.py",
        [scripts / 'test.py', CONFIG, checkpoint, '--work-dir', WORK_DIR / 'test', '--out', predictions],
        WORK_DIR / 'test.log',
    )
    picture = WORK_DIR / 'detections.png'
    run('drawing', ['tools/draw_detections.py', CONFIG, predictions, picture], WORK_DIR / 'draw.log')

    metrics = newest_metrics(WORK_DIR / 'test')
    counts = json.loads((ROOT / 'data/mini/coco/mini.json').read_text())['options']
    rows = [
        ('training pictures', counts['train']),
        ('held-out pictures', counts['val']),
        ('minutes, training', f'{train_minutes:.1f}'),
        ('minutes, all', f'{(time.time() - start) / 60:.1f}'),
        ('box AP', f'{metrics["coco/bbox_mAP"]:.3f}'),
        ('box AP50', f'{metrics["coco/bbox_mAP_50"]:.3f}'),
        ('detections drawn', picture.relative_to(ROOT)),
        ('checkpoint', checkpoint.relative_to(ROOT)),
    ]
    print('\n' + '\n'.join(f'  {name:<20}{value}' for name, value in rows))


if __name__ == '__main__':
    main()
