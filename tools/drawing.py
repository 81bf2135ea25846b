"""Pictures of what a detector found, beside the ground truth."""

from pathlib import Path

import cv2
import mmengine
import numpy as np
from mini_datasets import scene, sheet
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config

__all__ = ['draw_detections']

SCALE = 2  # the mini pictures are small; labels need room
COLUMNS = 2  # pairs a row
BUSY = 3  # pictures with at least so many objects are preferred, as they show more
COLOURS = ((255, 80, 80), (80, 220, 80), (90, 150, 255), (255, 220, 60), (255, 120, 255), (80, 235, 235))


def _draw(picture, boxes, labels, names, scores=None):
    """Draw boxes with their names, and scores if given, into a copy of a picture."""
    tile = cv2.resize(picture, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
    for number, (box, label) in enumerate(zip(boxes, labels)):
        left, top, right, bottom = (round(float(side) * SCALE) for side in box)
        colour = COLOURS[int(label) % len(COLOURS)]
        cv2.rectangle(tile, (left, top), (right - 1, bottom - 1), colour, 2)
        text = names[int(label)] + ('' if scores is None else f' {100 * float(scores[number]):.0f}%')
        sheet.caption(tile, text, left + 2, top - 5 if top > 18 else bottom + 14, colour)
    return tile


def draw_detections(config, predictions, out, pictures, score_thr=0.4):
    """Draw ground truth (left) and detections (right) of held-out pictures into one PNG.

    Args:
        config (str or Path): Config the detector was tested with.
        predictions (str or Path): What mmdet's test script wrote with ``--out``.
        out (Path): PNG to write.
        pictures (int): Pictures to draw, at least 1: evenly spread over the held-out ones with three objects or more.
        score_thr (float): Least score of a detection that is drawn, in 0..1. Default: 0.4.

    Returns:
        dict[str, int]: Numbers of pictures in the data: 'train' and 'val'.
    """
    register_all_modules()
    cfg = Config.fromfile(config)
    held_out = DATASETS.build(cfg.test_dataloader.dataset)
    names = held_out.metainfo['classes']
    found = {sample['img_id']: sample['pred_instances'] for sample in mmengine.load(predictions)}
    tiles = []
    infos = [held_out.get_data_info(index) for index in range(len(held_out))]
    busy = [info for info in infos if len(info['instances']) >= BUSY] or infos
    for index in np.linspace(0, len(busy) - 1, min(pictures, len(busy))).astype(int):
        info = busy[index]
        picture = scene.read_picture(Path(info['img_path']))
        boxes, labels = zip(*((instance['bbox'], instance['bbox_label']) for instance in info['instances']))
        result = found[info['img_id']]
        kept = result['scores'] >= score_thr
        shown = {key: result[key][kept].numpy() for key in ('bboxes', 'labels', 'scores')}
        pair = (
            _draw(picture, boxes, labels, names),
            _draw(picture, shown['bboxes'], shown['labels'], names, shown['scores']),
        )
        tiles.append(np.concatenate(pair, axis=1))
    sheet.write_grid(out, tiles, COLUMNS)
    return {'train': len(DATASETS.build(cfg.train_dataloader.dataset)), 'val': len(held_out)}
