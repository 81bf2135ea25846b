"""What needs mmpretrain: data of Wider-ResNet's classification. Imported by ``custom_imports`` or by the first look-up.

``AverageClsScoreTTA`` has the name of the mmpretrain class that it cures: a config needs ``mmext.`` in front of it.
"""

from .averaging import AverageClsScoreTTA
from .colours import ScaledLighting, UnclippedColorJitter
from .crops import RandomSizedCrop, ResizeShorterSide, SideCrop

__all__ = [
    'AverageClsScoreTTA',
    'RandomSizedCrop',
    'ResizeShorterSide',
    'ScaledLighting',
    'SideCrop',
    'UnclippedColorJitter',
]
