"""COCO detection and instance masks: handwritten digits and drawn shapes over photographs."""

from pathlib import Path

import numpy as np

from . import coco_format, scene, sheet

CATEGORIES = (*map(str, range(10)), *scene.SHAPES)
DEFAULT_CATEGORIES = CATEGORIES[:5]

# Side of an object at the default picture size, in pixels; other picture sizes scale it.
_OBJECT_SIZES = (36, 76)
_DEFAULT_SIZE = 192
_MOST_OBJECTS = 5
# An object may cover at most this part of any other, and their boxes may overlap by this part of the smaller one, so
# that no object is left in sight but hard to name.
_MOST_HIDDEN = 0.2
_TRIES = 20


def category_records() -> list[dict]:
    """Returns the COCO category records; ids are 1..14 whichever categories are chosen."""
    return [
        {'id': position + 1, 'name': name, 'supercategory': 'shape' if name in scene.SHAPES else 'digit'}
        for position, name in enumerate(CATEGORIES)
    ]


def _place(
    rng: np.random.Generator, owner: np.ndarray, objects: list[dict], mask: np.ndarray
) -> tuple[int, int] | None:
    """Returns (top, left) where the mask hides no earlier object too much, or None after some tries."""
    height, width = mask.shape
    visible = np.bincount(owner.ravel(), minlength=len(objects) + 1)[1:]
    for _ in range(_TRIES):
        top = int(rng.integers(owner.shape[0] - height + 1))
        left = int(rng.integers(owner.shape[1] - width + 1))
        if any(scene.overlap((top, left, height, width), earlier['box']) > _MOST_HIDDEN for earlier in objects):
            continue
        covered = np.bincount(owner[top : top + height, left : left + width][mask], minlength=len(objects) + 1)[1:]
        areas = np.array([earlier['area'] for earlier in objects])
        if np.all(visible - covered >= (1 - _MOST_HIDDEN) * areas):
            return top, left
    return None


def _picture(rng: np.random.Generator, split: str, options: scene.Options) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Returns a picture, the map [H, W] of the object seen at each pixel (0: none, 1: first, ...), and the objects.

    Each object has `fields` (its own fields of the annotation), `box` (top, left, height, width) and `area` in pixels.
    """
    canvas = scene.background(rng, split, options.size, options.size)
    owner = np.zeros(canvas.shape[:2], np.int64)
    objects: list[dict] = []
    for _ in range(int(rng.integers(1, _MOST_OBJECTS + 1))):
        name = options.categories[int(rng.integers(len(options.categories)))]
        size = np.exp(rng.uniform(*np.log(_OBJECT_SIZES))) * options.size / _DEFAULT_SIZE
        fields: dict = {'category_id': CATEGORIES.index(name) + 1}
        if name in scene.SHAPES:
            alpha = scene.shape_alpha(rng, name, size)
        else:
            fields['digit_index'] = int(rng.choice(scene.digit_indices(split, int(name))))
            alpha = scene.digit_alpha(rng, fields['digit_index'], size)
        mask = alpha > 0.5
        position = _place(rng, owner, objects, mask)
        if position is None:
            continue
        top, left = position
        window = np.s_[top : top + alpha.shape[0], left : left + alpha.shape[1]]
        scene.paste(canvas, scene.paint(rng, alpha, canvas[window].mean((0, 1))), alpha, top, left)
        objects.append({'fields': fields, 'box': (top, left, *mask.shape), 'area': int(mask.sum())})
        owner[window][mask] = len(objects)
    return canvas, owner, objects


def build(folder: Path, options: scene.Options) -> None:
    """Writes `train2017/`, `val2017/`, `annotations/instances_*2017.json` and the contact sheet into `folder`.

    Annotations of digits carry one field beyond the standard, `digit_index`: the sample of scikit-learn's digits drawn.
    """
    categories = [record for record in category_records() if record['name'] in options.categories]
    for split in scene.SPLITS:
        pictures = folder / f'{split}2017'
        pictures.mkdir(parents=True)
        images, annotations = [], []
        for index in range(options.count(split)):
            rng = scene.generator(options.seed, 'coco', split, index)
            canvas, owner, objects = _picture(rng, split, options)
            image = coco_format.image_record(index + 1, *canvas.shape[:2])
            images.append(image)
            scene.write_picture(pictures / image['file_name'], canvas)
            for number, thing in enumerate(objects, 1):
                entry = coco_format.annotation(owner == number, len(annotations) + 1, image['id'])
                annotations.append(entry | thing['fields'])
        path = folder / 'annotations' / f'instances_{split}2017.json'
        coco_format.write_annotations(path, images, annotations, categories)
    sheet.draw_coco(folder, 'instances')
