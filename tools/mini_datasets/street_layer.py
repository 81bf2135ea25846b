"""A street picture and its class map, drawn together."""

from collections.abc import Callable

import cv2
import numpy as np

from . import scene

# Official Cityscapes ids of what is drawn; the first two are not trained on.
IDS = {
    'ego vehicle': 1, 'static': 4, 'road': 7, 'sidewalk': 8, 'building': 11, 'wall': 12, 'fence': 13, 'pole': 17,
    'traffic light': 19, 'traffic sign': 20, 'vegetation': 21, 'terrain': 22, 'sky': 23, 'person': 24, 'rider': 25,
    'car': 26, 'truck': 27, 'bus': 28, 'train': 31, 'motorcycle': 32, 'bicycle': 33,
}  # fmt: skip
OVERSAMPLING = 2


class Layer:
    """A picture and its class map, drawn together; lengths are parts of the picture's height, x runs from 0 to 2."""

    def __init__(self, rng: np.random.Generator, split: str, height: int):
        self.rng, self.split = rng, split
        self.unit = height * OVERSAMPLING
        self.picture = np.zeros((self.unit, 2 * self.unit, 3), np.uint8)
        self.labels = np.zeros(self.picture.shape[:2], np.uint8)
        self.horizon = rng.uniform(0.38, 0.46)
        self.vanishing = rng.uniform(0.8, 1.2)
        self.details = [self._detail(photo) for photo in (0, 1)]

    def _pixels(self, points: list) -> np.ndarray:
        return np.round(np.array(points, np.float64) * self.unit).astype(np.int32)

    def _detail(self, photo: int) -> np.ndarray:
        grey = scene.background(self.rng, self.split, *self.labels.shape, photo)[..., 1].astype(np.float32)
        return ((grey - grey.mean()) / (grey.std() + 1))[..., None]

    def texture(self, colour: tuple, strength: float, photo: int) -> np.ndarray:
        """Returns the details of a photograph crop in shades of one colour, as large as the picture."""
        shades = np.array(colour, np.float32) * (1 + self.details[photo] * np.float32(strength))
        return np.clip(shades, 0, 255, out=shades).astype(np.uint8)

    def _stamp(self, kind: str, fill: tuple | np.ndarray, points: np.ndarray, margin: int, draw: Callable) -> None:
        """Fills what `draw` marks in an empty mask; it reaches at most `margin` pixels beyond the points [n, 2]."""
        first = np.clip(points.min(0) - margin, 0, self.labels.shape[::-1])
        last = np.clip(points.max(0) + margin + 1, 0, self.labels.shape[::-1])
        window = np.s_[first[1] : last[1], first[0] : last[0]]
        mask = np.zeros(self.labels[window].shape, np.uint8)
        if mask.size:
            draw(mask, points - first)
            marked = mask > 0
            self.picture[window][marked] = fill[window][marked] if isinstance(fill, np.ndarray) else fill
            self.labels[window][marked] = IDS[kind]

    def polygon(self, kind: str, fill: tuple | np.ndarray, points: list) -> None:
        """Draws a filled polygon; `fill` is a colour, or a picture of which the part under the polygon is taken."""
        self._stamp(kind, fill, self._pixels(points), 1, lambda mask, moved: cv2.fillPoly(mask, [moved], 1))

    def box(self, kind: str, fill: tuple | np.ndarray, left: float, top: float, right: float, bottom: float) -> None:
        """Draws a filled rectangle."""
        self.polygon(kind, fill, [(left, top), (right, top), (right, bottom), (left, bottom)])

    def disc(self, kind: str, fill: tuple | np.ndarray, x: float, y: float, radius: float, ring: float = 0) -> None:
        """Draws a disc, or only a ring of the given thickness."""
        extent = max(1, round(radius * self.unit))
        thickness = max(OVERSAMPLING, round(ring * self.unit)) if ring else -1
        reach = extent + max(thickness, 0)
        self._stamp(
            kind,
            fill,
            self._pixels([(x, y)]),
            reach,
            lambda mask, moved: cv2.circle(mask, moved[0].tolist(), extent, 1, thickness),
        )

    def line(self, kind: str, fill: tuple, points: list, width: float) -> None:
        """Draws a line through the points."""
        thickness = max(OVERSAMPLING, round(width * self.unit))
        self._stamp(
            kind,
            fill,
            self._pixels(points),
            thickness,
            lambda mask, moved: cv2.polylines(mask, [moved], False, 1, thickness),
        )

    def road_edges(self, depth: float) -> tuple[float, float]:
        """Returns the x of the left and right edge of the road at a depth, 0 at the horizon and 1 at the lower edge."""
        half = 0.06 + 0.68 * depth
        return self.vanishing - half, self.vanishing + half

    def base(self, depth: float) -> float:
        """Returns the y of the ground at a depth."""
        return self.horizon + depth * (1 - self.horizon)


def shade(rng: np.random.Generator, colour: tuple, spread: float = 0.15) -> tuple:
    """Returns a colour made lighter or darker at random, by at most the part `spread`."""
    return tuple(np.clip(np.array(colour) * rng.uniform(1 - spread, 1 + spread), 0, 255).astype(int).tolist())
