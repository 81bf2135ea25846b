"""Image classification in the ImageNet layout: one coloured handwritten digit over a photograph."""

from pathlib import Path

import numpy as np

from . import scene, sheet

CLASSES = tuple(map(str, range(10)))
# Side of the digit's field as a part of the picture's side.
_SIZES = (0.6, 0.95)


def folder_name(label: int) -> str:
    """Returns the folder of a class, named like a WordNet id; sorted by name the folders are in label order."""
    return f'n{label:08d}'


def _picture(rng: np.random.Generator, split: str, label: int, size: int) -> tuple[np.ndarray, int]:
    """Returns a picture and the index of the handwritten digit in it."""
    canvas = scene.background(rng, split, size, size)
    index = int(rng.choice(scene.digit_indices(split, label)))
    alpha = scene.digit_alpha(rng, index, rng.uniform(*_SIZES) * size)[:size, :size]
    top, left = (int(rng.integers(size - length + 1)) for length in alpha.shape)
    window = canvas[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    scene.paste(canvas, scene.paint(rng, alpha, window.mean((0, 1))), alpha, top, left)
    return canvas, index


def build(folder: Path, options: scene.Options) -> None:
    """Writes `train/` and `val/` with a folder per class, `meta/{train,val}.txt`, `classes.txt` and the contact sheet.

    mmpretrain's `CustomDataset` reads the class folders; its `ImageNet` reads the lists in `meta/`, and so does not ask
    for a thousand classes. A file name ends in the index of the digit among scikit-learn's digits.
    """
    (folder / 'meta').mkdir()
    (folder / 'classes.txt').write_text(''.join(f'{name}\n' for name in CLASSES))
    tiles = []
    for split in scene.SPLITS:
        for label in range(len(CLASSES)):
            (folder / split / folder_name(label)).mkdir(parents=True)
        lines = []
        for index in range(options.count(split)):
            label = index % len(CLASSES)
            rng = scene.generator(options.seed, 'imagenet', split, index)
            canvas, digit = _picture(rng, split, label, options.size)
            name = f'{folder_name(label)}/{folder_name(label)}_{index:05d}_{digit:04d}.JPEG'
            scene.write_picture(folder / split / name, canvas)
            lines.append(f'{name} {label}\n')
        (folder / 'meta' / f'{split}.txt').write_text(''.join(lines))
        tiles += _tiles(folder, split, 60 if split == 'train' else 20)
    sheet.write_grid(folder / sheet.NAME, tiles, columns=10)


def _tiles(folder: Path, split: str, count: int) -> list[np.ndarray]:
    tiles = []
    for line in (folder / 'meta' / f'{split}.txt').read_text().splitlines()[:count]:
        name, label = line.split()
        tile = sheet.enlarge(scene.read_picture(folder / split / name), 2)
        sheet.caption(tile, f'{split}: {CLASSES[int(label)]}', 3, 14)
        tiles.append(tile)
    return tiles
