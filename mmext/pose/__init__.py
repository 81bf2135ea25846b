"""What needs mmpose: associative embedding. Imported by ``custom_imports`` or by the first look-up from mmpose.

The codec alone is not found by such a look-up, as mmengine has no root registry of codecs: a data set built before any
model needs ``custom_imports``.

mmpose 1.3 can neither train associative embedding nor test it in several scales. The classes here have the names of
the mmpose classes that they cure: a config of one's own needs ``mmext.`` in front of each.
"""

from .associative_embedding import AssociativeEmbedding
from .associative_embedding_head import AssociativeEmbeddingHead
from .associative_embedding_loss import AssociativeEmbeddingLoss
from .estimator import BottomupPoseEstimator, PoseDataPreprocessor
from .transforms import BottomupGetHeatmapMask, BottomupResize, PackPoseInputs

__all__ = [
    'AssociativeEmbedding',
    'AssociativeEmbeddingHead',
    'AssociativeEmbeddingLoss',
    'BottomupGetHeatmapMask',
    'BottomupPoseEstimator',
    'BottomupResize',
    'PackPoseInputs',
    'PoseDataPreprocessor',
]
