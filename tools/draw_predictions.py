#!/usr/bin/env python3
"""Draw predictions on held-out mini pictures beside the ground truth: the last step of ``make demo``."""

import argparse
from pathlib import Path

import cv2
import mmengine
import numpy as np
from mini_datasets import cityscapes, figures, kinetics400, scene, sheet
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from pycocotools import mask as coco_mask

SCALE = 2  # the mini pictures are small; labels need room
JOINT_SCORE = 0.3  # least score of a joint that is drawn: what mmpose draws
FRAMES = 6  # of a clip that are drawn
BUSY = 3  # pictures with at least so many objects are preferred, as they show more


def _pick(items, count):
    """Return ``count`` items at even distances, or all."""
    return [items[index] for index in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]


def _enlarge(picture):
    return cv2.resize(picture, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)


def _draw_objects(picture, boxes, labels, names, scores=None, masks=None):
    """Draw masks if given, boxes and names, with scores if given, into a copy of a picture."""
    tile = _enlarge(picture)
    colours = [sheet.COLOURS[int(label) % len(sheet.COLOURS)] for label in labels]
    for mask, colour in zip(() if masks is None else masks, colours):
        inside = sheet.enlarge(mask, SCALE) > 0
        tile[inside] = (0.5 * tile[inside] + 0.5 * np.array(colour)).astype(np.uint8)
    for number, (box, label, colour) in enumerate(zip(boxes, labels, colours)):
        left, top, right, bottom = (round(float(side) * SCALE) for side in box)
        cv2.rectangle(tile, (left, top), (right - 1, bottom - 1), colour, 2)
        text = names[int(label)] + ('' if scores is None else f' {100 * float(scores[number]):.0f}%')
        sheet.caption(tile, text, left + 2, top - 5 if top > 18 else bottom + 14, colour)
    return tile


def _decode(polygons, shape):
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *shape)))


def detection_tiles(held_out, predictions, pictures, score_thr):
    """Return pairs of ground truth (left) and detections (right) of pictures with three objects or more."""
    names = held_out.metainfo['classes']
    found = {sample['img_id']: sample['pred_instances'] for sample in mmengine.load(predictions)}
    infos = [held_out.get_data_info(index) for index in range(len(held_out))]
    tiles = []
    for info in _pick([info for info in infos if len(info['instances']) >= BUSY] or infos, pictures):
        picture = scene.read_picture(Path(info['img_path']))
        boxes, labels = zip(*((instance['bbox'], instance['bbox_label']) for instance in info['instances']))
        result = found[info['img_id']]
        kept = (result['scores'] >= score_thr).numpy()
        true_masks = found_masks = None
        if 'masks' in result:
            true_masks = [_decode(instance['mask'], picture.shape[:2]) for instance in info['instances']]
            found_masks = [coco_mask.decode(mask) for mask, keep in zip(result['masks'], kept) if keep]
        boxes_found, labels_found, scores = (result[key][kept] for key in ('bboxes', 'labels', 'scores'))
        left = _draw_objects(picture, boxes, labels, names, masks=true_masks)
        right = _draw_objects(picture, boxes_found, labels_found, names, scores, found_masks)
        tiles.append(np.concatenate([left, right], axis=1))
    return tiles


def segmentation_tiles(held_out, predictions, pictures):
    """Return triples of picture, true and predicted classes in the colours of Cityscapes."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(cityscapes.PALETTE)] = cityscapes.PALETTE
    tiles = []
    for info in _pick([held_out.get_data_info(index) for index in range(len(held_out))], pictures):
        true, found = (
            scene.read_picture(Path(path))[..., 0]
            for path in (info['seg_map_path'], predictions / Path(info['img_path']).name)
        )
        maps = [colours[labels] for labels in (true, found)]
        maps[1][true == cityscapes.IGNORED] = 0  # what the metric leaves out
        tiles.append(np.concatenate([scene.read_picture(Path(info['img_path'])), *maps], axis=1))
    return [sheet.enlarge(tile, SCALE) for tile in tiles]


def _draw_persons(picture, persons, colours, scores=None):
    """Draw skeletons, with scores if given, into a copy of a picture; joints [N, 17, 2] in pixels, nan: not drawn."""
    tile = _enlarge(picture)
    for number, (joints, colour) in enumerate(zip((persons + 0.5) * SCALE, colours)):
        drawn = ~np.isnan(joints).any(1)
        points = [tuple(np.round(np.nan_to_num(point)).astype(int).tolist()) for point in joints]
        for ink, wider in (((0, 0, 0), 2), (colour, 0)):  # a dark rim first
            for start, end in figures.SKELETON:  # from 1
                if drawn[start - 1] and drawn[end - 1]:
                    cv2.line(tile, points[start - 1], points[end - 1], ink, 2 + wider, cv2.LINE_AA)
            for joint in np.flatnonzero(drawn):
                cv2.circle(tile, points[joint], 3 + wider // 2, ink, -1, cv2.LINE_AA)
        if scores is not None and drawn.any():
            x, y = points[np.nanargmin(joints[:, 1])]  # over the topmost joint
            sheet.caption(tile, f'{100 * float(scores[number]):.0f}%', max(x - 15, 2), max(y - 10, 14), colour)
    return tile


def pose_tiles(held_out, predictions, pictures, score_thr):
    """Return pairs of labelled (left) and predicted (right) persons, in the colour of the nearest labelled one."""
    found = {sample['img_id']: sample['pred_instances'] for sample in mmengine.load(predictions)}
    infos = [held_out.get_data_info(index) for index in range(len(held_out))]
    tiles = []
    for info in _pick([info for info in infos if len(info['keypoints']) >= BUSY] or infos, pictures):
        picture = scene.read_picture(Path(info['img_path']))
        true = np.where(info['keypoints_visible'][..., None] > 0, info['keypoints'], np.nan)
        result = found[info['img_id']]
        kept = result['bbox_scores'] >= score_thr
        seen = result['keypoint_scores'][kept] >= JOINT_SCORE
        persons = np.where(seen[..., None], result['keypoints'][kept], np.nan)
        nearest = [np.nanmean(np.abs(true - person), (1, 2)).argmin() for person in result['keypoints'][kept]]
        colours = [sheet.COLOURS[number % len(sheet.COLOURS)] for number in range(len(true))]
        left = _draw_persons(picture, true, colours)
        right = _draw_persons(picture, persons, [colours[number] for number in nearest], result['bbox_scores'][kept])
        tiles.append(np.concatenate([left, right], axis=1))
    return tiles


def classification_tiles(held_out, predictions, pictures):
    """Return pictures with true and predicted class, wrong ones in red."""
    names = held_out.metainfo['classes']
    tiles = []
    for sample in _pick(mmengine.load(predictions), pictures):
        true, found = int(sample['gt_label']), int(sample['pred_label'])
        tile = _enlarge(scene.read_picture(Path(sample['img_path'])))
        colour = (90, 255, 90) if true == found else (255, 70, 70)
        sheet.caption(
            tile, f'{names[true]}: {names[found]} {100 * float(max(sample["pred_score"])):.0f}%', 4, 14, colour
        )
        tiles.append(tile)
    return tiles


def clip_tiles(held_out, predictions, clips):
    """Return clips as frames side by side, with true and found class, wrong ones in red."""
    names = held_out.metainfo['classes']
    found = mmengine.load(predictions)  # in the order of the data
    tiles = []
    for index in _pick(range(len(held_out)), clips):
        clip = kinetics400.read_clip(Path(held_out.get_data_info(index)['filename']))
        sample = found[index]
        true, label = int(sample['gt_label']), int(sample['pred_label'])
        frames = [_enlarge(frame) for frame in clip[np.linspace(0, min(len(clip), 16) - 1, FRAMES).astype(int)]]
        tile = np.concatenate([np.pad(frame, ((0, 0), (0, 3), (0, 0))) for frame in frames], axis=1)
        text = f'{names[true]}: {names[label]} {100 * float(sample["pred_score"].max()):.0f}%'
        sheet.caption(tile, text, 4, 14, (90, 255, 90) if true == label else (255, 70, 70))
        tiles.append(tile)
    return tiles


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', type=Path)
    parser.add_argument('predictions', type=Path, help="what the toolbox's tools/test.py wrote with --out or --dump")
    parser.add_argument('out', type=Path, help='PNG to write')
    parser.add_argument('--pictures', type=int, help='pictures to draw, evenly spread over the held-out ones')
    parser.add_argument('--score-thr', type=float, default=0.5, help='least score of an object that is drawn, 0..1')
    args = parser.parse_args()

    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.default_scope)
    held_out = DATASETS.build(cfg.test_dataloader.dataset)
    if cfg.default_scope == 'mmdet':
        tiles, columns = detection_tiles(held_out, args.predictions, args.pictures or 6, args.score_thr), 3
    elif cfg.default_scope == 'mmaction':
        tiles, columns = clip_tiles(held_out, args.predictions, args.pictures or 16), 2
    elif cfg.default_scope == 'mmpose':
        tiles, columns = pose_tiles(held_out, args.predictions, args.pictures or 6, args.score_thr), 2
    elif cfg.default_scope == 'mmseg':
        tiles, columns = segmentation_tiles(held_out, args.predictions, args.pictures or 4), 1
    else:
        tiles, columns = classification_tiles(held_out, args.predictions, args.pictures or 40), 10
    sheet.write_grid(args.out, tiles, columns)


if __name__ == '__main__':
    main()
