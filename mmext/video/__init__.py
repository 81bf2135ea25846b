"""What needs mmaction2: the classifiers of inflated networks, and decoding that names the clip it cannot read.

Imported by ``custom_imports`` or by the first look-up from mmaction2. ``DecordInit`` and ``DecordDecode`` have the
names of the mmaction2 classes that they cure: a config needs ``mmext.`` in front of them.
"""

from .decoding import DecordDecode, DecordInit
from .heads import InflatedConvHead, InflatedLinearHead

__all__ = ['DecordDecode', 'DecordInit', 'InflatedConvHead', 'InflatedLinearHead']
