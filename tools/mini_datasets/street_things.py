"""The things in a street scene; lengths are parts of the picture's height."""

import numpy as np

from . import scene
from .street_layer import Layer, shade


def _wheels(street: Layer, kind: str, places: list[float], bottom: float, radius: float) -> None:
    for x in places:
        street.disc(kind, (25, 25, 28), x, bottom - radius, radius)
        street.disc(kind, (150, 150, 155), x, bottom - radius, radius * 0.45)


def draw_vehicle(street: Layer, kind: str, x: float, y: float, size: float) -> None:
    """Draws a car, truck, bus or train seen from the side; (x, y) is the middle of its foot, `size` its scale."""
    rng = street.rng
    glass = (60, 75, 95)
    if kind == 'car':
        paint = tuple(scene.bright_colour(rng, np.array((95.0, 92.0, 98.0))).astype(int).tolist())
        half, tall = 0.3 * size, 0.26 * size
        roof = [(x - half * 0.6, y - tall * 0.5), (x - half * 0.35, y - tall), (x + half * 0.3, y - tall)]
        street.polygon(kind, paint, [*roof, (x + half * 0.65, y - tall * 0.5)])
        window = [(x - half * 0.4, y - tall * 0.55), (x - half * 0.28, y - tall * 0.88)]
        window += [(x + half * 0.25, y - tall * 0.88), (x + half * 0.45, y - tall * 0.55)]
        street.polygon(kind, glass, window)
        street.box(kind, paint, x - half, y - tall * 0.58, x + half, y - tall * 0.16)
        _wheels(street, kind, [x - half * 0.6, x + half * 0.6], y, tall * 0.26)
    elif kind == 'truck':
        half, tall = 0.42 * size, 0.5 * size
        street.box(kind, shade(rng, (225, 140, 50)), x - half, y - tall, x + half * 0.5, y - tall * 0.15)
        street.box(kind, (70, 75, 85), x + half * 0.55, y - tall * 0.75, x + half, y - tall * 0.15)
        street.box(kind, (190, 215, 230), x + half * 0.7, y - tall * 0.68, x + half * 0.97, y - tall * 0.42)
        _wheels(street, kind, [x - half * 0.7, x - half * 0.35, x + half * 0.75], y, tall * 0.15)
    else:
        paint, stripe, half, tall = {
            'bus': ((235, 200, 40), (60, 75, 95), 0.52 * size, 0.42 * size),
            'train': ((215, 220, 225), (200, 35, 45), 1.5 * size, 0.62 * size),
        }[kind]
        street.box(kind, shade(rng, paint, 0.08), x - half, y - tall, x + half, y - tall * 0.12)
        street.box(kind, stripe, x - half, y - tall * 0.4, x + half, y - tall * 0.28)
        for place in np.arange(-0.88, 0.9, 0.22):
            street.box(kind, glass, x + place * half - half * 0.08, y - tall * 0.85,
                       x + place * half + half * 0.08, y - tall * 0.5)  # fmt: skip
        _wheels(street, kind, [x - half * 0.65, x + half * 0.65], y, tall * 0.13)


def draw_human(street: Layer, kind: str, x: float, foot: float, tall: float) -> None:
    """Draws a person or rider, `tall` high, standing at (x, foot)."""
    rng = street.rng
    shirt = tuple(scene.bright_colour(rng, np.array((120.0, 120.0, 120.0))).astype(int).tolist())
    trousers = shade(rng, (50, 55, 90), 0.4)
    for side in (-1, 1):
        street.line(kind, trousers, [(x, foot - tall * 0.45), (x + side * tall * 0.09, foot)], tall * 0.1)
        street.line(kind, shirt, [(x, foot - tall * 0.78), (x + side * tall * 0.17, foot - tall * 0.48)], tall * 0.075)
    street.box(kind, shirt, x - tall * 0.1, foot - tall * 0.82, x + tall * 0.1, foot - tall * 0.42)
    street.disc(kind, (215, 165, 130), x, foot - tall * 0.9, tall * 0.085)
    if kind == 'rider':
        street.box(kind, (245, 245, 245), x - tall * 0.09, foot - tall, x + tall * 0.09, foot - tall * 0.91)


def draw_two_wheeler(street: Layer, kind: str, x: float, y: float, size: float) -> None:
    """Draws a motorcycle or bicycle with its rider; (x, y) is the middle of its foot, `size` its scale."""
    length, radius = 0.2 * size, 0.1 * size
    draw_human(street, 'rider', x - length * 0.15, y - 0.06 * size, 0.45 * size)
    seat, bar = (x - length * 0.4, y - 2.3 * radius), (x + length * 0.6, y - 2.6 * radius)
    hubs = [(x - length * 0.8, y - radius), (x + length * 0.8, y - radius)]
    if kind == 'motorcycle':
        _wheels(street, kind, [hub[0] for hub in hubs], y, radius)
        street.polygon(kind, shade(street.rng, (170, 25, 30)), [hubs[0], seat, (bar[0], bar[1] + radius), hubs[1]])
        street.line(kind, (30, 30, 32), [hubs[1], bar], 0.03 * size)
    else:
        for hub in hubs:
            street.disc(kind, (20, 20, 22), *hub, radius, ring=0.022 * size)
        pedal = (x - length * 0.05, y - radius)
        street.line(kind, (40, 215, 220), [hubs[0], pedal, bar, seat, pedal], 0.022 * size)
        street.line(kind, (40, 215, 220), [seat, hubs[0], hubs[0]], 0.022 * size)
        street.line(kind, (40, 215, 220), [bar, hubs[1]], 0.022 * size)


def draw_post(street: Layer, kind: str, x: float, y: float, size: float) -> None:
    """Draws a pole at (x, y) with a traffic light or a traffic sign; `size` is its scale."""
    top = y - 0.75 * size
    street.line('pole', (140, 145, 150), [(x, y), (x, top)], 0.022)
    if kind == 'traffic light':
        lit, half, step = int(street.rng.integers(3)), 0.045 * size, 0.075 * size
        street.box(kind, (25, 28, 25), x - half, top, x + half, top + 3 * step)
        for lamp, colour in enumerate(((240, 40, 40), (250, 190, 40), (50, 230, 90))):
            shade = colour if lamp == lit else tuple(value // 4 for value in colour)
            street.disc(kind, shade, x, top + (lamp + 0.5) * step, half * 0.7)
    elif street.rng.random() < 0.5:
        street.disc(kind, (30, 80, 200), x, top, 0.09 * size)
        street.polygon(kind, (245, 245, 245), [(x, top - 0.06 * size), (x + 0.04 * size, top), (x - 0.04 * size, top)])
    else:
        street.polygon(kind, (215, 30, 40), [(x, top - 0.12 * size), (x + 0.11 * size, top + 0.07 * size),
                                             (x - 0.11 * size, top + 0.07 * size)])  # fmt: skip
        street.polygon(kind, (250, 240, 120), [(x, top - 0.06 * size), (x + 0.06 * size, top + 0.045 * size),
                                               (x - 0.06 * size, top + 0.045 * size)])  # fmt: skip
