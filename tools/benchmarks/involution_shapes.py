"""The shapes that the benchmark of the operator measures: RedNet-50 at 224 x 224 pixels, a detector at 800 x 1216."""

import math
from dataclasses import dataclass

import torch

__all__ = ['SHAPES', 'Shape']


@dataclass(frozen=True)
class Shape:
    """One call of the operator in a network.

    Attributes:
        channels: Of x, 16 to a group.
        height: Rows of x, in pixels.
        width: Columns of x.
        kernel_size: Taps along one side.
        stride: Step in pixels.
        rednet50: Whether it counts in the geometric mean over RedNet-50.
        batches: Batch sizes where they are not those of the command line.
    """

    channels: int
    height: int
    width: int
    kernel_size: int = 7
    stride: int = 1
    rednet50: bool = True
    batches: tuple = ()

    def of(self, batch):
        """Return the shapes of x, weight and output."""
        size = [-(-self.height // self.stride), -(-self.width // self.stride)]
        weight = [batch, self.channels // 16, self.kernel_size, self.kernel_size, *size]
        return [batch, self.channels, self.height, self.width], weight, [batch, self.channels, *size]

    def bytes_moved(self, batch, dtype):
        """Return the bytes of x, weight and output, which a forward pass cannot but read or write once."""
        return sum(math.prod(shape) for shape in self.of(batch)) * getattr(torch, dtype).itemsize


SHAPES = {
    'stem': Shape(32, 112, 112),
    'stem, 3 x 3': Shape(32, 112, 112, kernel_size=3, rednet50=False),  # of the published classification code
    'stage 1': Shape(64, 56, 56),
    'stage 2, first': Shape(128, 56, 56, stride=2),
    'stage 2': Shape(128, 28, 28),
    'stage 3, first': Shape(256, 28, 28, stride=2),
    'stage 3': Shape(256, 14, 14),
    'stage 4, first': Shape(512, 14, 14, stride=2),
    'stage 4': Shape(512, 7, 7),
    'detection, stage 1': Shape(64, 200, 304, rednet50=False, batches=(1, 2)),
    'detection, stage 2': Shape(128, 100, 152, rednet50=False, batches=(1, 2)),
    'detection, stage 3': Shape(256, 50, 76, rednet50=False, batches=(1, 2)),
    'detection, stage 4': Shape(512, 25, 38, rednet50=False, batches=(1, 2)),
}
