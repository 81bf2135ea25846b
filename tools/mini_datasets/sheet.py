"""Contact sheets: a grid of pictures with their annotations drawn, read back from the files of the dataset."""

import json
from pathlib import Path

import cv2
import numpy as np

from . import scene

NAME = 'contact_sheet.png'
_GAP = 4
COLOURS = ((255, 80, 80), (80, 220, 80), (90, 150, 255), (255, 220, 60), (255, 120, 255), (80, 235, 235))


def enlarge(picture: np.ndarray, factor: int) -> np.ndarray:
    """Returns the picture or label map scaled up by a whole factor, each pixel a square."""
    return np.repeat(np.repeat(picture, factor, 0), factor, 1)


def caption(picture: np.ndarray, text: str, x: int, y: int, colour: tuple[int, int, int] = (255, 255, 255)) -> None:
    """Writes text with a dark rim into the picture, in place; (x, y) is the left end of its base line in pixels."""
    for ink, thickness in (((0, 0, 0), 3), (colour, 1)):
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, thickness, cv2.LINE_AA)


def write_grid(path: Path, tiles: list[np.ndarray], columns: int) -> None:
    """Writes tiles of equal size as one picture, `columns` a row, to the file `path`."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    grid = np.full((rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), 40, np.uint8)
    for position, tile in enumerate(tiles):
        top = _GAP + position // columns * (height + _GAP)
        left = _GAP + position % columns * (width + _GAP)
        grid[top : top + height, left : left + width] = tile
    scene.write_picture(path, grid)


def _draw_object(tile: np.ndarray, entry: dict, name: str, colour: tuple[int, int, int], factor: int) -> None:
    polygons = [np.array(points).reshape(-1, 2) * factor for points in entry['segmentation']]
    filled = np.zeros(tile.shape[:2], np.uint8)
    for polygon in polygons:
        cv2.fillPoly(filled, [polygon], 1)
    tile[filled > 0] = (0.75 * tile[filled > 0] + 0.25 * np.array(colour)).astype(np.uint8)
    cv2.polylines(tile, polygons, True, colour, 1)
    x, y, width, height = (value * factor for value in entry['bbox'])
    cv2.rectangle(tile, (x, y), (x + width - 1, y + height - 1), colour, 1)
    caption(tile, name, x + 2, y - 3 if y > 14 else y + 14, colour)


def _draw_skeleton(tile: np.ndarray, entry: dict, skeleton: list[list[int]], factor: int) -> None:
    joints = np.array(entry['keypoints']).reshape(-1, 3)
    points = (joints[:, :2] + 0.5) * factor
    for start, end in skeleton:
        if joints[start - 1, 2] and joints[end - 1, 2]:
            ends = [tuple(np.round(points[joint - 1]).astype(int).tolist()) for joint in (start, end)]
            cv2.line(tile, *ends, (255, 255, 255), 1, cv2.LINE_AA)
    for number, (joint, point) in enumerate(zip(joints, points)):
        if joint[2]:
            # COCO numbers the person's left joints odd and the right ones even; the nose is 0.
            colour = (255, 255, 255) if number == 0 else (60, 255, 60) if number % 2 else (255, 160, 40)
            centre = tuple(np.round(point).astype(int).tolist())
            cv2.circle(tile, centre, 3, colour, -1 if joint[2] == 2 else 1, cv2.LINE_AA)


def draw_coco(folder: Path, kind: str, tiles: int = 24, columns: int = 6, factor: int = 1) -> None:
    """Draws the sheet of a dataset in COCO format: boxes, masks and names, and skeletons where there are keypoints.

    In skeletons green is the person's left side, orange the right one; a hollow joint is occluded.

    Args:
        folder: The dataset.
        kind: Stem of the annotation files, such as 'instances'.
        tiles: Number of pictures shown, the last third from validation.
        columns: Pictures per row.
        factor: Whole factor of enlargement.
    """
    drawn = []
    for split, wanted in (('train', tiles - tiles // 3), ('val', tiles // 3)):
        content = json.loads((folder / 'annotations' / f'{kind}_{split}2017.json').read_text())
        categories = {record['id']: record for record in content['categories']}
        for image in content['images'][:wanted]:
            tile = enlarge(scene.read_picture(folder / f'{split}2017' / image['file_name']), factor)
            entries = [entry for entry in content['annotations'] if entry['image_id'] == image['id']]
            for entry in entries:
                category = categories[entry['category_id']]
                colour = COLOURS[entry['id'] % len(COLOURS)]
                _draw_object(tile, entry, category['name'], colour, factor)
                if 'keypoints' in entry:
                    _draw_skeleton(tile, entry, category['skeleton'], factor)
            caption(tile, split, 3, tile.shape[0] - 5)
            drawn.append(tile)
    write_grid(folder / NAME, drawn, columns)
