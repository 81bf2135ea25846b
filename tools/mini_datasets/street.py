"""Drawn street scenes with a class per pixel."""

import itertools

import cv2
import numpy as np

from . import street_things
from .street_layer import OVERSAMPLING, Layer, shade

# Chance that a picture has a thing of this kind, and how many at most.
_THINGS = {
    'train': (0.4, 1), 'bus': (0.45, 1), 'truck': (0.45, 1), 'car': (0.9, 3), 'person': (0.9, 4),
    'motorcycle': (0.5, 1), 'bicycle': (0.5, 2), 'traffic sign': (0.8, 2), 'traffic light': (0.7, 2), 'bin': (0.4, 1),
}  # fmt: skip
# Nearest and farthest place, 0 at the horizon and 1 at the lower edge of the picture.
_DEPTHS = {'train': (0.1, 0.16), 'bus': (0.18, 0.34), 'truck': (0.18, 0.36), 'car': (0.3, 0.62), 'person': (0.3, 0.75)}
_DEFAULT_DEPTH = (0.35, 0.72)


def _draw_background(street: Layer) -> None:
    rng, horizon = street.rng, street.horizon
    ramp = np.linspace(0, 1, street.unit)[:, None, None]
    sky = np.array(shade(rng, (120, 165, 225))) * (1 - ramp) + np.array((225, 232, 238)) * ramp
    street.box('sky', np.broadcast_to(sky, street.picture.shape).astype(np.uint8), 0, 0, 2, 1)
    street.box('sidewalk', street.texture(shade(rng, (190, 160, 165), 0.08), 0.05, 1), 0, horizon, 2, 1)
    for side in (-1, 1):
        edge = 1 + side
        near = street.vanishing + side * rng.uniform(0.16, 0.3)
        bounds = np.linspace(edge, near, int(rng.integers(2, 5)))
        for start, end in itertools.pairwise(bounds):
            _draw_building(street, *sorted((start, end)))
    _draw_borders(street)
    far, close = street.road_edges(0), street.road_edges(1)
    road = street.texture(shade(rng, (95, 92, 98), 0.12), 0.07, 1)
    street.polygon('road', road, [(far[0], horizon), (far[1], horizon), (close[1], 1), (close[0], 1)])
    for depth in np.arange(0.1, 1, 0.18):
        wide, middle = 0.012 + 0.03 * depth, street.vanishing
        top, bottom = street.base(depth), street.base(depth + 0.08)
        street.box('road', (225, 225, 220), middle - wide / 2, top, middle + wide / 2, bottom)


def _draw_building(street: Layer, left: float, right: float) -> None:
    rng = street.rng
    top, bottom = rng.uniform(0.03, 0.24), street.base(0.1)
    colour = ((175, 120, 95), (150, 140, 125), (190, 175, 145), (120, 110, 115))[int(rng.integers(4))]
    street.box('building', street.texture(shade(rng, colour), 0.16, 0), left, top, right, bottom)
    columns, rows = max(2, int((right - left) / 0.09)), max(2, int((bottom - top) / 0.11))
    for x in left + (np.arange(columns) + 0.5) * (right - left) / columns:
        for y in top + (np.arange(rows) + 0.5) * (bottom - top) / rows:
            street.box('building', (55, 65, 85), x - 0.016, y - 0.026, x + 0.016, y + 0.026)


def _draw_borders(street: Layer) -> None:
    """Draws what lies between the houses and the sidewalk: a wall, a fence, grass and trees."""
    rng = street.rng
    ground, sides = street.base(0.13), [0, 1]
    rng.shuffle(sides)
    wall, fence = ((x, x + rng.uniform(0.3, 0.5)) for x in (side + rng.uniform(0, 0.35) for side in sides))
    street.box(
        'wall', street.texture(shade(rng, (185, 180, 165), 0.1), 0.06, 0), wall[0], ground - 0.12, wall[1], ground
    )
    for height in np.arange(0.03, 0.12, 0.03):
        street.line('wall', (120, 112, 100), [(wall[0], ground - height), (wall[1], ground - height)], 0.006)
    street.box('fence', shade(rng, (110, 80, 45)), fence[0], ground - 0.11, fence[1], ground)
    for x in np.arange(fence[0], fence[1], 0.03):
        street.line('fence', (235, 225, 200), [(x, ground - 0.11), (x, ground)], 0.008)
    for side in (-1, 1):
        outer, inner = 1 + side, street.vanishing + side * 0.3
        near = street.base(rng.uniform(0.2, 0.3))
        grass = street.texture(shade(rng, (165, 175, 80), 0.1), 0.14, 0)
        street.polygon('terrain', grass, [(outer, ground), (inner, ground), (outer, near)])
        leaves = street.texture(shade(rng, (55, 110, 45)), 0.3, 0)
        for _ in range(int(rng.integers(1, 3))):
            x, foot = street.vanishing + side * rng.uniform(0.35, 1.0), street.base(rng.uniform(0.12, 0.2))
            crown = rng.uniform(0.07, 0.12)
            street.line('vegetation', (80, 60, 40), [(x, foot), (x, foot - 0.2)], 0.02)
            for _ in range(7):
                shift = rng.uniform(-1, 1, 2) * crown
                street.disc('vegetation', leaves, x + shift[0], foot - 0.26 + shift[1], crown * 0.75)


def _draw_thing(street: Layer, kind: str, depth: float) -> None:
    rng, y, size = street.rng, street.base(depth), 0.3 + 0.7 * depth
    left, right = street.road_edges(depth)
    if kind in ('traffic sign', 'traffic light', 'bin') or (kind == 'person' and rng.random() < 0.75):
        x = rng.uniform(0.06, left - 0.03) if rng.random() < 0.5 else rng.uniform(right + 0.03, 1.94)
    else:
        x = rng.uniform(left, right) if kind != 'train' else rng.uniform(0.2, 1.8)
    x = float(np.clip(x, 0.05, 1.95))
    if kind == 'person':
        street_things.draw_human(street, kind, x, y, 0.52 * size)
    elif kind in ('motorcycle', 'bicycle'):
        street_things.draw_two_wheeler(street, kind, x, y, size)
    elif kind in ('traffic sign', 'traffic light'):
        street_things.draw_post(street, kind, x, y, size)
    elif kind == 'bin':
        street.box('static', (75, 80, 60), x - 0.05 * size, y - 0.14 * size, x + 0.05 * size, y)
    else:
        street_things.draw_vehicle(street, kind, x, y, size)


def draw(rng: np.random.Generator, split: str, height: int, every_kind: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draws one street scene.

    Args:
        rng: Source of chance.
        split: 'train' or 'val': the photograph regions that textures are cut from.
        height: Height in pixels; the width is twice that.
        every_kind: Whether all kinds of things are to be drawn, instead of a random choice.

    Returns:
        The picture, RGB uint8 [height, 2 * height, 3], and the official Cityscapes id of each pixel, uint8
        [height, 2 * height].
    """
    street = Layer(rng, split, height)
    _draw_background(street)
    things = []
    for kind, (chance, most) in _THINGS.items():
        if every_kind or rng.random() < chance:
            depths = rng.uniform(*_DEPTHS.get(kind, _DEFAULT_DEPTH), int(rng.integers(1, most + 1)))
            things += [(float(depth), kind) for depth in depths]
    for depth, kind in sorted(things):
        _draw_thing(street, kind, depth)
    street.disc('ego vehicle', shade(rng, (35, 40, 60), 0.3), 1 + rng.uniform(-0.1, 0.1), 1.87, 0.95)
    picture = cv2.resize(street.picture, (2 * height, height), interpolation=cv2.INTER_AREA)
    picture = np.clip(picture * rng.uniform(0.85, 1.1) + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
    return picture, street.labels[::OVERSAMPLING, ::OVERSAMPLING].copy()
