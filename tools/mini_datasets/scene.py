"""What every mini dataset shares: seeded chance, photograph crops, sprites, pasting and picture files.

Pictures are RGB uint8 [H, W, 3] in memory. `split` is always 'train' or 'val'; the two never share a photograph region
or a handwritten digit.
"""

import dataclasses
import functools
import zlib
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits, load_sample_images

SPLITS = ('train', 'val')
SHAPES = ('disc', 'square', 'triangle', 'star')

# Every fifth sample of each digit and the right three tenths of each photograph are kept for validation.
_VAL_EVERY = 5
_TRAIN_COLUMNS = 0.7
# Height of a background crop, in pixels of the photograph: what fits in the narrower (validation) region.
_CROP_HEIGHTS = (80, 190)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a dataset is made from; equal options give byte-identical datasets.

    Attributes:
        seed: Any integer >= 0.
        train: Number of training samples, >= 1.
        val: Number of validation samples, >= 1.
        size: Side of a picture in pixels (the width, where pictures are not square).
        categories: Category names of the `coco` dataset.
        frames: Frames per clip of the `kinetics400` dataset.
    """

    seed: int
    train: int
    val: int
    size: int
    categories: tuple[str, ...] = ()
    frames: int = 0

    def count(self, split: str) -> int:
        """Returns the number of samples of one split."""
        return self.train if split == 'train' else self.val


def generator(seed: int, dataset: str, split: str, index: int) -> np.random.Generator:
    """Returns the source of chance of one sample, independent of every other sample and of how many there are."""
    return np.random.default_rng([seed, zlib.crc32(dataset.encode()), SPLITS.index(split), index])


@functools.cache
def photographs() -> tuple[np.ndarray, ...]:
    """Returns the two photographs that ship with scikit-learn, `china` and `flower`, RGB uint8 [427, 640, 3]."""
    return tuple(load_sample_images().images)


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's handwritten digits: ink float32 [1797, 8, 8] in 0..1 and their values int [1797]."""
    bunch = load_digits()
    return (bunch.images / 16).astype(np.float32), bunch.target


@functools.cache
def digit_indices(split: str, value: int) -> np.ndarray:
    """Returns the indices into `digits()` of all samples of the digit `value` (0..9) that belong to `split`."""
    # Counted per value: the samples come in a repeating order of values, so that every fifth of all would be uneven.
    indices = np.flatnonzero(digits()[1] == value)
    is_val = np.arange(len(indices)) % _VAL_EVERY == _VAL_EVERY - 1
    return indices[is_val == (split == 'val')]


def background(rng: np.random.Generator, split: str, height: int, width: int, photo: int | None = None) -> np.ndarray:
    """Returns a random crop of a photograph, flipped and brightened at random, scaled to [height, width, 3].

    Args:
        rng: Source of chance.
        split: 'train' or 'val': the photograph region to cut from.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        photo: 0 for `china`, 1 for `flower`, None for either.
    """
    source = photographs()[int(rng.integers(2)) if photo is None else photo]
    edge = int(source.shape[1] * _TRAIN_COLUMNS)
    region = source[:, :edge] if split == 'train' else source[:, edge:]
    crop_height = int(rng.integers(*_CROP_HEIGHTS))
    crop_width = round(crop_height * width / height)
    if crop_width > region.shape[1]:
        crop_width = region.shape[1]
        crop_height = max(1, round(crop_width * height / width))
    top = int(rng.integers(region.shape[0] - crop_height + 1))
    left = int(rng.integers(region.shape[1] - crop_width + 1))
    crop = region[top : top + crop_height, left : left + crop_width]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    enlarging = height > crop_height
    crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_CUBIC if enlarging else cv2.INTER_AREA)
    return np.clip(crop * rng.uniform(0.6, 1.0) + rng.uniform(-8, 8), 0, 255).astype(np.uint8)


def _tight(alpha: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero((alpha > 0.02).any(1)), np.flatnonzero((alpha > 0.02).any(0))
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def digit_alpha(rng: np.random.Generator, index: int, size: float) -> np.ndarray:
    """Returns a handwritten digit as opacity float32 [h, w] in 0..1, slightly rotated, without empty margins.

    Args:
        rng: Source of chance (rotation only).
        index: Index into `digits()`.
        size: Side of the digit's 8 x 8 field in the result, in pixels.
    """
    ink = np.pad(digits()[0][index], 2)
    side = int(np.ceil(size * 1.5))
    matrix = cv2.getRotationMatrix2D((5.5, 5.5), rng.uniform(-12, 12), size / 8)
    matrix[:, 2] += side / 2 - 5.5
    # Ink is told from paper by comparison with the darkest ink nearby, which keeps faint strokes whole and loops open.
    darkest = cv2.dilate(ink, np.ones((3, 3)))
    grown, limit = (
        cv2.warpAffine(layer, matrix, (side, side), flags=cv2.INTER_CUBIC) for layer in (ink, darkest * 0.56)
    )
    # The stroke's edge is about two pixels wide, whatever the enlargement.
    return _tight(np.clip((grown - np.maximum(limit, 0.25)) * max(2.5, size / 10) + 0.5, 0, 1))


def shape_alpha(rng: np.random.Generator, kind: str, size: float) -> np.ndarray:
    """Returns a filled shape as opacity float32 [h, w] in 0..1, slightly rotated, without empty margins.

    Args:
        rng: Source of chance (rotation only).
        kind: One of `SHAPES`.
        size: Diameter of the circle around the shape, in pixels.
    """
    corners, inner = {'disc': (48, 1.0), 'square': (4, 1.0), 'triangle': (3, 1.0), 'star': (5, 0.45)}[kind]
    angles = np.arange(corners * 2) * np.pi / corners - np.pi / 2 + (np.pi / 4 if kind == 'square' else 0)
    radii = np.full(corners * 2, size / 2)
    # Between two corners the outline runs straight, except for the star, where it turns inwards.
    radii[1::2] *= inner if kind == 'star' else np.cos(np.pi / corners)
    angles = angles + np.deg2rad(rng.uniform(-14, 14))
    oversampling = 4
    side = int(np.ceil(size)) + 4
    outline = (np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None] + side / 2) * oversampling
    canvas = np.zeros((side * oversampling, side * oversampling), np.float32)
    cv2.fillPoly(canvas, [np.round(outline).astype(np.int32)], 1.0)
    return _tight(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA))


def bright_colour(rng: np.random.Generator, against: np.ndarray) -> np.ndarray:
    """Returns a bright random colour, float [3] in 0..255, that stands out from the colour `against`."""
    hsv = np.stack([rng.uniform(0, 180, 6), rng.uniform(90, 255, 6), rng.uniform(215, 255, 6)], 1)
    candidates = cv2.cvtColor(hsv.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0].astype(np.float64)
    return candidates[np.argmax(np.linalg.norm(candidates - against, axis=1))]


def paint(rng: np.random.Generator, alpha: np.ndarray, against: np.ndarray) -> np.ndarray:
    """Returns the colours float [h, w, 3] of a sprite: one bright colour with a mild linear gradient."""
    height, width = alpha.shape
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * np.linspace(-1, 1, width)[None] + np.sin(angle) * np.linspace(-1, 1, height)[:, None]
    return bright_colour(rng, against) * (1 + 0.1 * ramp[..., None])


def paste(canvas: np.ndarray, colours: np.ndarray, alpha: np.ndarray, top: int, left: int) -> None:
    """Blends a sprite that lies wholly inside the picture onto `canvas`, in place."""
    window = canvas[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    weight = alpha[..., None]
    window[:] = np.clip(window * (1 - weight) + colours * weight, 0, 255).astype(np.uint8)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes an RGB picture or a label map [H, W]; the format follows the suffix (JPEG of quality 92, or PNG).

    Raises:
        OSError: If the file cannot be written.
    """
    stored = picture[..., ::-1] if picture.ndim == 3 else picture
    if not cv2.imwrite(str(path), np.ascontiguousarray(stored), [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise OSError(f'cannot write the picture {path}; check that the folder is writable and the disk not full')


def read_picture(path: Path) -> np.ndarray:
    """Returns a picture file as RGB uint8 [H, W, 3].

    Raises:
        OSError: If the file cannot be read as a picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise OSError(f'cannot read the picture {path}')
    return picture[..., ::-1]


def overlap(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Returns the overlap of two boxes (top, left, height, width) as a part of the smaller one, 0..1."""
    height = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    width = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(0, height) * max(0, width) / min(box[2] * box[3], other[2] * other[3])
