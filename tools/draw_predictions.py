#!/usr/bin/env python3
"""Draw what a detector found on mini COCO pictures beside the ground truth: the last step of ``make demo``."""

import argparse
from pathlib import Path

import cv2
import mmengine
import numpy as np
from mini_datasets import scene, sheet
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config

SCALE = 2  # the mini pictures are small; labels need room
COLUMNS = 3  # pairs a row
BUSY = 3  # pictures with at least so many objects are preferred, as they show more


def _draw(picture, boxes, labels, names, scores=None):
    """Draw boxes with their names, and scores if given, into a copy of a picture."""
    tile = cv2.resize(picture, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
    for number, (box, label) in enumerate(zip(boxes, labels)):
        left, top, right, bottom = (round(float(side) * SCALE) for side in box)
        colour = sheet.COLOURS[int(label) % len(sheet.COLOURS)]
        cv2.rectangle(tile, (left, top), (right - 1, bottom - 1), colour, 2)
        text = names[int(label)] + ('' if scores is None else f' {100 * float(scores[number]):.0f}%')
        sheet.caption(tile, text, left + 2, top - 5 if top > 18 else bottom + 14, colour)
    return tile


def draw_detections(config, predictions, out, pictures, score_thr):
    """Draw ground truth (left) and detections (right) of held-out pictures into one PNG.

    Args:
        config (Path): Config the detector was tested with.
        predictions (Path): What mmdet's test script wrote with ``--out``.
        out (Path): PNG to write.
        pictures (int): Pictures to draw, at least 1: evenly spread over the held-out ones with three objects or more.
        score_thr (float): Least score of a detection that is drawn, in 0..1.
    """
    register_all_modules()
    held_out = DATASETS.build(Config.fromfile(config).test_dataloader.dataset)
    names = held_out.metainfo['classes']
    found = {sample['img_id']: sample['pred_instances'] for sample in mmengine.load(predictions)}
    infos = [held_out.get_data_info(index) for index in range(len(held_out))]
    busy = [info for info in infos if len(info['instances']) >= BUSY] or infos
    tiles = []
    for index in np.linspace(0, len(busy) - 1, min(pictures, len(busy))).astype(int):
        info = busy[index]
        picture = scene.read_picture(Path(info['img_path']))
        boxes, labels = zip(*((instance['bbox'], instance['bbox_label']) for instance in info['instances']))
        result = found[info['img_id']]
        kept = result['scores'] >= score_thr
        detections = _draw(picture, *(result[key][kept] for key in ('bboxes', 'labels')), names, result['scores'][kept])
        tiles.append(np.concatenate([_draw(picture, boxes, labels, names), detections], axis=1))
    sheet.write_grid(out, tiles, COLUMNS)


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', type=Path)
    parser.add_argument('predictions', type=Path, help="what mmdet's tools/test.py wrote with --out")
    parser.add_argument('out', type=Path, help='PNG to write')
    parser.add_argument('--pictures', type=int, default=6)
    parser.add_argument('--score-thr', type=float, default=0.5)
    args = parser.parse_args()
    draw_detections(args.config, args.predictions, args.out, args.pictures, args.score_thr)


if __name__ == '__main__':
    main()
