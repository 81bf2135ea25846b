"""The mini datasets that can be made, with their defaults and limits."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from . import cityscapes, coco, coco_keypoints, imagenet, kinetics400, scene


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One kind of mini dataset.

    Attributes:
        build: Writes the whole dataset into an empty folder.
        train: Default number of training samples.
        val: Default number of validation samples.
        size: Default side of a picture in pixels (the width, where pictures are not square).
        smallest: Least side in pixels at which the contents can still be told apart.
        unit: What a sample is.
        extras: Names of the further fields of `scene.Options` that this dataset reads.
    """

    build: Callable[[Path, scene.Options], None]
    train: int
    val: int
    size: int
    smallest: int
    unit: str = 'pictures'
    extras: tuple[str, ...] = ()


DATASETS = {
    'coco': Dataset(coco.build, train=1200, val=160, size=192, smallest=96, extras=('categories',)),
    'coco_keypoints': Dataset(coco_keypoints.build, train=300, val=60, size=256, smallest=128),
    'cityscapes': Dataset(cityscapes.build, train=80, val=20, size=256, smallest=128),
    'imagenet': Dataset(imagenet.build, train=2000, val=400, size=64, smallest=32),
    'kinetics400': Dataset(
        kinetics400.build, train=240, val=80, size=64, smallest=48, unit='clips', extras=('frames',)
    ),
}
