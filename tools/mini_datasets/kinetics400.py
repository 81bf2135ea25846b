"""Action clips in the Kinetics layout: a sprite moves over a still photograph, and the motion alone tells the class."""

from pathlib import Path

import cv2
import numpy as np

from . import scene, sheet

CLASSES = ('rise', 'fall', 'slide', 'rest')
# Direction of motion (x, y), y down. A clip of 'slide' goes either way, so that mirroring keeps every class.
_DIRECTIONS = {'rise': (0, -1), 'fall': (0, 1), 'slide': (1, 0), 'rest': (0, 0)}
# Parts of the picture's side: size of the sprite, and its way per frame. A way of less than half a side between two
# sampled frames tells the direction although the sprite wraps around, so that every 8th frame is still enough.
_SIZES = (0.28, 0.45)
_SPEEDS = (0.025, 0.05)
_FRAMES_PER_SECOND = 16


def frames(rng: np.random.Generator, split: str, label: int, count: int, size: int) -> np.ndarray:
    """Returns a clip, RGB uint8 [count, size, size, 3].

    The sprite leaves at one edge and returns at the opposite one, and it starts anywhere, so that where it is in any
    single frame is uniform for every class.

    Args:
        rng: Source of chance.
        split: 'train' or 'val'.
        label: Index into `CLASSES`.
        count: Number of frames.
        size: Side of the frames in pixels.
    """
    still = scene.background(rng, split, size, size)
    extent = rng.uniform(*_SIZES) * size
    if rng.random() < 0.5:
        kind = scene.SHAPES[int(rng.integers(len(scene.SHAPES)))]
        alpha = scene.shape_alpha(rng, kind, extent)
    else:
        alpha = scene.digit_alpha(rng, int(rng.choice(scene.digit_indices(split, int(rng.integers(10))))), extent)
    colours = scene.paint(rng, alpha, still.mean((0, 1)))
    start = rng.uniform(0, size, 2)
    # Drawn for every class, so that all classes read the source of chance alike.
    speed = rng.uniform(*_SPEEDS) * size
    sign = 1 if rng.random() < 0.5 else -1
    step = np.array(_DIRECTIONS[CLASSES[label]]) * speed * (sign if CLASSES[label] == 'slide' else 1)
    layer, opacity = np.zeros(still.shape), np.zeros(still.shape[:2])
    layer[: alpha.shape[0], : alpha.shape[1]] = colours
    opacity[: alpha.shape[0], : alpha.shape[1]] = alpha
    clip = np.repeat(still[None], count, 0)
    for time in range(count):
        left, top = np.round(start + step * time).astype(int)
        scene.paste(clip[time], np.roll(layer, (top, left), (0, 1)), np.roll(opacity, (top, left), (0, 1)), 0, 0)
    return clip


def _write_clip(path: Path, clip: np.ndarray) -> None:
    height, width = clip.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), _FRAMES_PER_SECOND, (width, height))
    if not writer.isOpened():
        raise OSError(f'cannot write the clip {path}: OpenCV has no mp4v encoder here; install the opencv-python wheel')
    for frame in clip:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def read_clip(path: Path) -> np.ndarray:
    """Returns a clip file as RGB uint8 [frames, H, W, 3].

    Raises:
        OSError: If the file has no frame that can be decoded.
    """
    reader = cv2.VideoCapture(str(path))
    found = []
    while True:
        more, frame = reader.read()
        if not more:
            break
        found.append(frame[..., ::-1])
    reader.release()
    if not found:
        raise OSError(f'cannot decode the clip {path}')
    return np.stack(found)


def build(folder: Path, options: scene.Options) -> None:
    """Writes `videos_{train,val}/`, `kinetics400_{train,val}_list_videos.txt`, `classes.txt` and the contact sheet.

    Raises:
        OSError: If OpenCV cannot write mp4 clips here.
    """
    (folder / 'classes.txt').write_text(''.join(f'{name}\n' for name in CLASSES))
    tiles = []
    for split in scene.SPLITS:
        clips = folder / f'videos_{split}'
        clips.mkdir()
        lines = []
        for index in range(options.count(split)):
            label = index % len(CLASSES)
            rng = scene.generator(options.seed, 'kinetics400', split, index)
            name = f'clip_{index:05d}.mp4'
            _write_clip(clips / name, frames(rng, split, label, options.frames, options.size))
            lines.append(f'{name} {label}\n')
        (folder / f'kinetics400_{split}_list_videos.txt').write_text(''.join(lines))
        tiles += _tiles(folder, split, 16 if split == 'train' else 8)
    sheet.write_grid(folder / sheet.NAME, tiles, columns=2)


def _tiles(folder: Path, split: str, count: int) -> list[np.ndarray]:
    """Returns one tile per clip: six frames side by side."""
    tiles = []
    for line in (folder / f'kinetics400_{split}_list_videos.txt').read_text().splitlines()[:count]:
        name, label = line.split()
        clip = read_clip(folder / f'videos_{split}' / name)
        shown = clip[np.linspace(0, min(len(clip), 16) - 1, 6).astype(int)]
        tile = np.concatenate([np.pad(sheet.enlarge(frame, 2), ((0, 0), (0, 3), (0, 0))) for frame in shown], 1)
        sheet.caption(tile, f'{split}: {CLASSES[int(label)]}', 3, 14)
        tiles.append(tile)
    return tiles
