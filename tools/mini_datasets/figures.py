"""Drawn persons with the 17 COCO joints."""

import dataclasses
import itertools

import cv2
import numpy as np

from . import scene

JOINTS = (
    'nose',
    'left_eye',
    'right_eye',
    'left_ear',
    'right_ear',
    'left_shoulder',
    'right_shoulder',
    'left_elbow',
    'right_elbow',
    'left_wrist',
    'right_wrist',
    'left_hip',
    'right_hip',
    'left_knee',
    'right_knee',
    'left_ankle',
    'right_ankle',
)
# Pairs of joints, counted from 1, in the order of COCO's own annotation files.
SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip

# Parts of a figure, as values of the part map; 0 is no part. A limb's number is that of the side it is on.
HEAD, TORSO = 1, 2
ARMS, LEGS = {'left': 3, 'right': 4}, {'left': 5, 'right': 6}
# Parts under which a joint counts as visible: it is occluded where any other part is in front.
_JOINT_PARTS = tuple(
    {
        'nose': {HEAD},
        'eye': {HEAD},
        'ear': {HEAD},
        'shoulder': {TORSO, ARMS.get(side)},
        'hip': {TORSO, LEGS.get(side)},
    }.get(kind, {ARMS.get(side)} if kind in ('elbow', 'wrist') else {LEGS.get(side)})
    for side, _, kind in (('', '', name) if '_' not in name else name.partition('_') for name in JOINTS)
)
# Odd, so that one subpixel lies on the centre of a pixel.
_OVERSAMPLING = 3
_SUBPIXEL_BITS = 4


@dataclasses.dataclass(frozen=True)
class Figure:
    """A person drawn on a picture-sized layer.

    Attributes:
        colours: Colours float32 [H, W, 3].
        alpha: Opacity float32 [H, W] in 0..1.
        parts: The part in front at each pixel, uint8 [H, W], 0 outside the figure.
        joints: Positions float [17, 2] (x, y) in pixels, pixel centres at whole numbers; may lie outside the picture.
    """

    colours: np.ndarray
    alpha: np.ndarray
    parts: np.ndarray
    joints: np.ndarray


def pose(rng: np.random.Generator) -> np.ndarray:
    """Returns random joint positions float [17, 2] (x, y) of a person facing the viewer, as parts of the body height.

    The origin is the middle of the hips, y points down, and the person's left is on the picture's right. A mirrored
    picture with left and right joints exchanged is again such a person, so that mirroring is a valid augmentation.
    """

    def limb(start: np.ndarray, first: float, second: float, length: float) -> tuple[np.ndarray, np.ndarray]:
        middle = start + length * np.array([np.sin(first), np.cos(first)])
        return middle, middle + length * np.array([np.sin(second), np.cos(second)])

    joints = np.zeros((17, 2))
    head = np.array([rng.uniform(-0.02, 0.02), -0.40])
    turn = rng.uniform(-0.012, 0.012)
    joints[0] = head + np.array((turn, 0.01))
    for side, sign in ((0, 1), (1, -1)):
        joints[1 + side] = head + np.array((sign * 0.026 + turn, -0.018))
        joints[3 + side] = head + np.array((sign * 0.056, -0.004))
        joints[5 + side] = sign * 0.105, -0.285
        joints[11 + side] = sign * 0.062, 0.0
        # Angles are measured from straight down, outwards; the arm is anywhere from hanging to above the head.
        upper = rng.uniform(0.1, 2.6)
        lower = upper + rng.uniform(-0.3, 1.7) * (1 if rng.random() < 0.8 else -0.6)
        thigh = rng.uniform(-0.05, 0.75)
        shin = thigh + rng.uniform(-0.9, 0.15)
        joints[7 + side], joints[9 + side] = limb(joints[5 + side], sign * upper, sign * lower, 0.15)
        joints[13 + side], joints[15 + side] = limb(joints[11 + side], sign * thigh, sign * shin, 0.225)
    lean = rng.uniform(-0.22, 0.22)
    rotation = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
    return joints @ rotation.T


class _Canvas:
    """Draws parts in an oversampled layer; each later part lies in front."""

    def __init__(self, height: int, width: int, unit: float):
        shape = (height * _OVERSAMPLING, width * _OVERSAMPLING)
        self.colours = np.zeros((*shape, 3), np.uint8)
        self.parts = np.zeros(shape, np.uint8)
        self.unit = unit

    def _fixed(self, point: np.ndarray) -> tuple[int, int]:
        # A pixel centre of the picture lies half a pixel inside it, and likewise in the oversampled layer.
        x, y = ((point + 0.5) * _OVERSAMPLING - 0.5) * (1 << _SUBPIXEL_BITS)
        return round(x), round(y)

    def _thickness(self, part_of_height: float) -> int:
        return max(_OVERSAMPLING, round(part_of_height * self.unit * _OVERSAMPLING))

    def line(self, part: int, colour: np.ndarray, points: np.ndarray, width: float) -> None:
        for layer, value in ((self.colours, colour.tolist()), (self.parts, part)):
            for start, end in itertools.pairwise(points):
                ends = self._fixed(start), self._fixed(end)
                cv2.line(layer, *ends, value, self._thickness(width), cv2.LINE_8, _SUBPIXEL_BITS)

    def polygon(self, part: int, colour: np.ndarray, points: np.ndarray, rim: float) -> None:
        corners = np.array([self._fixed(point) for point in points], np.int32)
        for layer, value in ((self.colours, colour.tolist()), (self.parts, part)):
            cv2.fillPoly(layer, [corners], value, cv2.LINE_8, _SUBPIXEL_BITS)
        self.line(part, colour, np.concatenate([points, points[:1]]), rim)

    def disc(self, part: int, colour: np.ndarray, centre: np.ndarray, radius: float) -> None:
        fixed_radius = round(radius * self.unit * _OVERSAMPLING * (1 << _SUBPIXEL_BITS))
        for layer, value in ((self.colours, colour.tolist()), (self.parts, part)):
            cv2.circle(layer, self._fixed(centre), fixed_radius, value, -1, cv2.LINE_8, _SUBPIXEL_BITS)


def draw(
    rng: np.random.Generator, joints: np.ndarray, unit: float, shape: tuple[int, int], against: np.ndarray
) -> Figure:
    """Draws one person on an empty layer.

    The limbs of the two sides have different colours, new for every person: what is left and what is right is told by
    the geometry, as in photographs, and not by a fixed colour, which mirroring would make wrong.

    Args:
        rng: Source of chance (colours).
        joints: Positions float [17, 2] (x, y) in pixels.
        unit: Body height in pixels.
        shape: Height and width of the layer in pixels.
        against: Colour float [3] that the clothes stand out from.
    """
    canvas = _Canvas(*shape, unit)
    shirt = scene.bright_colour(rng, against)
    first = scene.bright_colour(rng, shirt)
    sides = {'left': first, 'right': scene.bright_colour(rng, first)}
    skin = np.array(((240, 200, 170), (205, 150, 115), (150, 100, 75))[int(rng.integers(3))], np.float64)
    dark = np.array((30.0, 25.0, 30.0))
    for number, (side, part) in enumerate(LEGS.items()):
        points = joints[[11 + number, 13 + number, 15 + number]]
        canvas.line(part, sides[side] * 0.75, points, 0.075)
        canvas.disc(part, dark, points[-1], 0.042)
    neck = joints[5:7].mean(0)
    canvas.line(HEAD, skin * 0.9, np.stack([neck, joints[3:5].mean(0)]), 0.05)
    canvas.polygon(TORSO, shirt, joints[[5, 6, 12, 11]], 0.06)
    for number, (side, part) in enumerate(ARMS.items()):
        points = joints[[5 + number, 7 + number, 9 + number]]
        canvas.line(part, sides[side], points, 0.058)
        canvas.disc(part, skin, points[-1], 0.034)
    _draw_head(canvas, joints, skin, dark)
    scaled = [cv2.resize(layer, shape[::-1], interpolation=cv2.INTER_AREA) for layer in
              (canvas.colours, (canvas.parts > 0).astype(np.float32))]  # fmt: skip
    # Colours were averaged with the empty surroundings; dividing by the opacity takes that back at the rim.
    colours = scaled[0] / np.maximum(scaled[1], 1e-3)[..., None]
    middle = _OVERSAMPLING // 2
    return Figure(colours, scaled[1], canvas.parts[middle::_OVERSAMPLING, middle::_OVERSAMPLING], joints)


def _draw_head(canvas: _Canvas, joints: np.ndarray, skin: np.ndarray, dark: np.ndarray) -> None:
    for ear in joints[3:5]:
        canvas.disc(HEAD, skin * 0.7, ear, 0.02)
    canvas.disc(HEAD, skin, joints[3:5].mean(0), 0.06)
    for eye in joints[1:3]:
        canvas.disc(HEAD, np.array((255.0, 255.0, 255.0)), eye, 0.018)
        canvas.disc(HEAD, dark, eye, 0.01)
    canvas.disc(HEAD, np.array((200.0, 60.0, 60.0)), joints[0], 0.012)


def visibility(joints: np.ndarray, parts: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """Returns COCO's flag per joint, int [17]: 2 visible, 1 occluded, 0 outside the picture.

    Args:
        joints: Positions float [17, 2] (x, y) in pixels.
        parts: The part of this figure at each pixel, [H, W].
        mine: Where this figure is what is seen, bool [H, W].
    """
    height, width = parts.shape
    flags = np.zeros(len(joints), np.int64)
    for number, (x, y) in enumerate(np.round(joints).astype(int).tolist()):
        if 0 <= x < width and 0 <= y < height:
            flags[number] = 2 if mine[y, x] and parts[y, x] in _JOINT_PARTS[number] else 1
    return flags
