#!/usr/bin/env python3
"""Train, test and draw a detector of ours through mmdet's own installed scripts: what ``make demo`` runs.

Makes the mini COCO data, runs mmdet's ``tools/train.py`` and ``tools/test.py`` on the mini config, draws detections
beside ground truth on held-out pictures and ends with a table. Everything lands in ``work_dirs/demo``; the full output
of each script is kept there as a log.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / 'configs' / 'mini' / 'faster-rcnn_red26_fpn-inv-neck_inv-head_mini-coco.py'
PROGRESS = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].*?loss: ([\d.]+)')
RESULT = re.compile(r'Epoch\(val\) \[(\d+)\].*coco/bbox_mAP_50: ([\d.]+)')


def run(what, command, log):
    """Run a command with its output in a log file, showing each epoch's end on one line; stop if it fails."""
    print(f'demo: {what} ...', flush=True)
    begin = time.time()
    with (
        open(log, 'w') as file,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
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
    parser.add_argument('--config', type=Path, default=CONFIG, help='config of a detector on the mini COCO data')
    parser.add_argument(
        '--work-dir', type=Path, default=ROOT / 'work_dirs' / 'demo', help='removed first, then made anew'
    )
    parser.add_argument('--pictures', type=int, default=8, help='held-out pictures to draw')
    args = parser.parse_args()

    import mmdet
    from drawing import draw_detections  # tools/drawing.py

    scripts = Path(mmdet.__file__).parent / '.mim' / 'tools'
    shutil.rmtree(args.work_dir, ignore_errors=True)
    args.work_dir.mkdir(parents=True)
    start = time.time()
    run(
        'making the mini COCO data (real photographs and handwritten digits)',
        [sys.executable, 'tools/make_mini_datasets.py', 'coco', '--out', 'data/mini'],
        args.work_dir / 'data.log',
    )
    train_minutes = run(
        f"training with mmdet's {scripts.name}/train.py, about 6 minutes on two cores",
        [sys.executable, scripts / 'train.py', args.config, '--work-dir', args.work_dir],
        args.work_dir / 'train.log',
    )
    checkpoint = (args.work_dir / 'last_checkpoint').read_text().strip()
    predictions = args.work_dir / 'predictions.pkl'
    test = [scripts / 'test.py', args.config, checkpoint, '--work-dir', args.work_dir / 'test', '--out', predictions]
    run(
        f"testing the saved checkpoint with mmdet's {scripts.name}/test.py",
        [sys.executable, *test],
        args.work_dir / 'test.log',
    )
    metrics = newest_metrics(args.work_dir / 'test')
    picture = args.work_dir / 'detections.png'
    counts = draw_detections(args.config, predictions, picture, args.pictures)

    rows = [
        ('training pictures', counts['train']),
        ('held-out pictures', counts['val']),
        ('minutes, training', f'{train_minutes:.1f}'),
        ('minutes, all', f'{(time.time() - start) / 60:.1f}'),
        ('box AP', f'{metrics["coco/bbox_mAP"]:.3f}'),
        ('box AP50', f'{metrics["coco/bbox_mAP_50"]:.3f}'),
        ('detections drawn', picture.relative_to(ROOT) if picture.is_relative_to(ROOT) else picture),
        ('checkpoint', Path(checkpoint).name),
    ]
    print('\n' + '\n'.join(f'  {name:<20}{value}' for name, value in rows))


if __name__ == '__main__':
    main()
