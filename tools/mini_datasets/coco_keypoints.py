"""COCO person keypoints: drawn persons over photographs."""

from pathlib import Path

import numpy as np

from . import coco_format, figures, scene, sheet

CATEGORY = {
    'id': 1,
    'name': 'person',
    'supercategory': 'person',
    'keypoints': list(figures.JOINTS),
    'skeleton': [list(pair) for pair in figures.SKELETON],
}
_MOST_PERSONS = 4
# Body height as a part of the picture's side; persons in a crowd are smaller so that they fit.
_HEIGHTS = {1: (0.6, 0.95), 2: (0.5, 0.8), 3: (0.4, 0.65), 4: (0.36, 0.55)}
_MOST_OVERLAP = 0.25
_LEAST_JOINTS = 10
_TRIES = 30
# One person in six may reach over the edge of the picture.
_CUT_OFF = 1 / 6


def _placed(rng: np.random.Generator, joints: np.ndarray, height: float, side: int) -> np.ndarray:
    """Returns the joints moved to a random place in the picture, in pixels."""
    scaled = joints * height
    margin = -0.25 * height if rng.random() < _CUT_OFF else 0.06 * height
    low, high = scaled.min(0) - margin, scaled.max(0) + margin
    room = np.maximum(side - 1 - (high - low), 0)
    return scaled - low + rng.uniform(0, 1, 2) * room


def _box(joints: np.ndarray) -> tuple[float, float, float, float]:
    (left, top), (right, bottom) = joints.min(0), joints.max(0)
    return top, left, bottom - top, right - left


def _picture(rng: np.random.Generator, split: str, size: int) -> tuple[np.ndarray, np.ndarray, list[figures.Figure]]:
    """Returns a picture, the map [H, W] of the person seen at each pixel (0: none, 1: first, ...), and the persons."""
    canvas = scene.background(rng, split, size, size)
    owner = np.zeros((size, size), np.int64)
    persons: list[figures.Figure] = []
    wanted = int(rng.integers(1, _MOST_PERSONS + 1))
    for _ in range(wanted):
        for _ in range(_TRIES):
            height = rng.uniform(*_HEIGHTS[wanted]) * size
            joints = _placed(rng, figures.pose(rng), height, size)
            inside = np.all((joints > -0.5) & (joints < size - 0.5), 1).sum()
            crowded = any(scene.overlap(_box(joints), _box(other.joints)) > _MOST_OVERLAP for other in persons)
            if inside >= _LEAST_JOINTS and not crowded:
                break
        else:
            continue
        person = figures.draw(rng, joints, height, (size, size), canvas.mean((0, 1)))
        scene.paste(canvas, person.colours, person.alpha, 0, 0)
        persons.append(person)
        owner[person.parts > 0] = len(persons)
    return canvas, owner, persons


def _keypoints(person: figures.Figure, mine: np.ndarray) -> tuple[list[float], int]:
    flags = figures.visibility(person.joints, person.parts, mine)
    positions = np.where(flags[:, None] > 0, np.round(person.joints), 0).astype(int)
    return np.concatenate([positions, flags[:, None]], 1).ravel().tolist(), int((flags > 0).sum())


def build(folder: Path, options: scene.Options) -> None:
    """Writes `train2017/`, `val2017/`, `annotations/person_keypoints_*2017.json` and the contact sheet."""
    for split in scene.SPLITS:
        pictures = folder / f'{split}2017'
        pictures.mkdir(parents=True)
        images, annotations = [], []
        for index in range(options.count(split)):
            rng = scene.generator(options.seed, 'coco_keypoints', split, index)
            canvas, owner, persons = _picture(rng, split, options.size)
            image = coco_format.image_record(index + 1, *canvas.shape[:2])
            images.append(image)
            scene.write_picture(pictures / image['file_name'], canvas)
            for number, person in enumerate(persons, 1):
                mine = owner == number
                keypoints, count = _keypoints(person, mine)
                entry = coco_format.annotation(mine, len(annotations) + 1, image['id'])
                entry |= {'category_id': CATEGORY['id'], 'num_keypoints': count, 'keypoints': keypoints}
                annotations.append(entry)
        path = folder / 'annotations' / f'person_keypoints_{split}2017.json'
        coco_format.write_annotations(path, images, annotations, [CATEGORY])
    sheet.draw_coco(folder, 'person_keypoints', tiles=12, columns=4, factor=2)
