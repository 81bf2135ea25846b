"""The parts of the COCO annotation format that the detection and the keypoint dataset share."""

import json
from pathlib import Path

import numpy as np

_LICENSES = [{'id': 1, 'name': 'see the licence of the scikit-learn sample data', 'url': 'https://scikit-learn.org'}]


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Returns the closed outlines int [n, 2] (x, y) of a mask along pixel edges, clockwise; those of holes reversed."""
    padded = np.pad(mask.astype(bool), 1)
    inside = padded[1:-1, 1:-1]
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # One directed edge per pixel side that borders on the outside: (rows, columns) shift of the neighbour, start, end.
    for (shift_y, shift_x), start, step in (
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (0, 1)),
        ((1, 0), (1, 1), (-1, 0)),
        ((0, -1), (0, 1), (0, -1)),
    ):
        height, width = mask.shape
        neighbour = padded[1 + shift_y : 1 + shift_y + height, 1 + shift_x : 1 + shift_x + width]
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            edges.setdefault((x + start[0], y + start[1]), []).append(step)
    outlines = []
    while edges:
        first = point = next(iter(edges))
        step = edges[point][0]
        corners = []
        while True:
            ways = edges[point]
            # Where two pixels touch by a corner only, turning right keeps them apart.
            right = (-step[1], step[0])
            turn = right if right in ways else ways[0]
            ways.remove(turn)
            if not ways:
                del edges[point]
            if turn != step or not corners:
                corners.append(point)
            step = turn
            point = (point[0] + step[0], point[1] + step[1])
            if point == first and (point not in edges or (-step[1], step[0]) not in edges[point]):
                break
        outlines.append(np.array(corners))
    return outlines


def _signed_area(outline: np.ndarray) -> float:
    x, y = outline[:, 0], outline[:, 1]
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def mask_to_polygons(mask: np.ndarray) -> list[list[int]]:
    """Returns COCO polygons [[x1, y1, x2, y2, ...], ...] in pixels that rasterise to exactly `mask`, bool [H, W].

    COCO polygons cannot have holes, so a mask with a hole (the digit 0) is cut in two by a vertical line through it.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return []
    top, left = int(rows[0]), int(columns[0])
    outlines = _outlines(mask[top : rows[-1] + 1, left : columns[-1] + 1])
    hole = next((outline for outline in outlines if _signed_area(outline) < 0), None)
    if hole is not None:
        cut = left + (int(hole[:, 0].min()) + int(hole[:, 0].max()) + 1) // 2
        before, after = mask.copy(), mask.copy()
        before[:, cut:] = False
        after[:, :cut] = False
        return mask_to_polygons(before) + mask_to_polygons(after)
    return [(outline + np.array((left, top))).ravel().tolist() for outline in outlines]


def annotation(mask: np.ndarray, identity: int, image: int) -> dict:
    """Returns the annotation of one object from its visible mask, bool [H, W] with at least one pixel set.

    The caller adds the category.
    `bbox` is [x, y, width, height] in pixels, tight around the mask; `area` is the number of pixels of the mask.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        'id': identity,
        'image_id': image,
        'bbox': [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        'area': int(mask.sum()),
        'iscrowd': 0,
        'segmentation': mask_to_polygons(mask),
    }


def image_record(identity: int, height: int, width: int) -> dict:
    """Returns the record of one picture; its file name is the id with twelve digits, as in COCO."""
    return {'id': identity, 'file_name': f'{identity:012d}.jpg', 'height': height, 'width': width, 'license': 1}


def write_annotations(path: Path, images: list[dict], annotations: list[dict], categories: list[dict]) -> None:
    """Writes one COCO annotation file."""
    content = {
        'info': {'description': 'mmext mini dataset', 'version': '1.0', 'year': 2024},
        'licenses': _LICENSES,
        'images': images,
        'annotations': annotations,
        'categories': categories,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(',', ':')))
