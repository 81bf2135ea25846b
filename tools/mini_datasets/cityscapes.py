"""Semantic segmentation in the Cityscapes layout: drawn street scenes."""

from pathlib import Path

import numpy as np

from . import scene, sheet, street

# Official ids in the order of the training ids 0..18, and the official colours of those classes.
TRAIN_TO_ID = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
PALETTE = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70),
    (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
IGNORED = 255
_CITIES = {'train': 'miniburg', 'val': 'ministadt'}
_TRIES = 100


def train_ids(labels: np.ndarray) -> np.ndarray:
    """Returns the map of training ids 0..18 (255: ignored) for a map of official Cityscapes ids, both uint8 [H, W]."""
    table = np.full(256, IGNORED, np.uint8)
    table[list(TRAIN_TO_ID)] = np.arange(len(TRAIN_TO_ID))
    return table[labels]


def _scene(rng: np.random.Generator, split: str, index: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a picture and its official ids; the first scene of a split shows every class."""
    if index:
        return street.draw(rng, split, height, every_kind=False)
    for _ in range(_TRIES):
        picture, labels = street.draw(rng, split, height, every_kind=True)
        if np.isin(TRAIN_TO_ID, labels).all():
            return picture, labels
    raise RuntimeError(f'no scene with all {len(TRAIN_TO_ID)} classes in {_TRIES} tries; give another --seed or --size')


def build(folder: Path, options: scene.Options) -> None:
    """Writes `leftImg8bit/` and `gtFine/` (labelIds and labelTrainIds) and the contact sheet into `folder`.

    Pictures are `options.size` wide and half as high.

    Raises:
        RuntimeError: If no scene with every class is found.
    """
    tiles = []
    for split in scene.SPLITS:
        city = _CITIES[split]
        pictures, truth = (folder / kind / split / city for kind in ('leftImg8bit', 'gtFine'))
        pictures.mkdir(parents=True)
        truth.mkdir(parents=True)
        for index in range(options.count(split)):
            rng = scene.generator(options.seed, 'cityscapes', split, index)
            picture, labels = _scene(rng, split, index, options.size // 2)
            stem = f'{city}_{0:06d}_{index + 1:06d}'
            scene.write_picture(pictures / f'{stem}_leftImg8bit.png', picture)
            scene.write_picture(truth / f'{stem}_gtFine_labelIds.png', labels)
            scene.write_picture(truth / f'{stem}_gtFine_labelTrainIds.png', train_ids(labels))
            if index < (8 if split == 'train' else 4):
                tiles += _tiles(pictures, truth, stem, split)
    sheet.write_grid(folder / sheet.NAME, tiles, columns=4)


def _tiles(pictures: Path, truth: Path, stem: str, split: str) -> list[np.ndarray]:
    """Returns a picture and beside it its labels in the official colours, over a faint picture."""
    picture = scene.read_picture(pictures / f'{stem}_leftImg8bit.png')
    labels = scene.read_picture(truth / f'{stem}_gtFine_labelTrainIds.png')[..., 0]
    colours = np.zeros((256, 3))
    colours[: len(PALETTE)] = PALETTE
    overlay = (0.8 * colours[labels] + 0.2 * picture).astype(np.uint8)
    left, right = sheet.enlarge(picture, 2), sheet.enlarge(overlay, 2)
    sheet.caption(left, split, 4, 16)
    return [left, right]
