"""Codec of associative embedding: keypoints of all persons of a picture <-> heatmaps and tags."""

from mmpose import codecs
from mmpose.registry import KEYPOINT_CODECS as MMPOSE_KEYPOINT_CODECS

from mmext.registry import PluginRegistry

__all__ = ['KEYPOINT_CODECS', 'AssociativeEmbedding']

# mmengine has no root registry of codecs: mmpose's own is the parent
KEYPOINT_CODECS = PluginRegistry(MMPOSE_KEYPOINT_CODECS, locations=())


@KEYPOINT_CODECS.register_module()
class AssociativeEmbedding(codecs.AssociativeEmbedding):
    """mmpose's ``AssociativeEmbedding`` codec, made fit for training.

    Two things differ, both in encoding:

    - ``keypoint_indices`` reach the head: mmpose's codec makes them and then has them left out of the sample.
    - A keypoint belongs to the heatmap cell that it lies in, not to the one whose left upper corner is nearest. The
      decoder, with the usual ``decode_center_shift=0.5``, presumes the former, as do published weights; a network
      trained with mmpose's targets predicts half a cell (2 pixels of the input) too far to the right and bottom. With
      ``use_udp``, which knows no cells, nothing is changed.

    Source: "Associative Embedding: End-to-End Learning for Joint Detection and Grouping", Newell, Huang and Deng,
    NeurIPS 2017, section 3.

    Args:
        input_size (tuple[int, int]): Network input (width, height) in pixels.
        heatmap_size (tuple[int, int]): Heatmap (width, height) in cells.
        **kwargs: Everything else is mmpose's codec.
    """

    label_mapping_table = dict(keypoint_weights='keypoint_weights', keypoint_indices='keypoint_indices')

    def encode(self, keypoints, keypoints_visible=None):
        """Make the targets of one picture with N persons and K keypoints.

        Args:
            keypoints (np.ndarray): Positions [N, K, 2] (x, y) in pixels of the network input; N may be 0.
            keypoints_visible (np.ndarray, optional): [N, K], above 0.5 where labelled. Default: None, all are.

        Returns:
            dict: ``heatmaps`` float32 [K, H, W]; ``keypoint_indices`` int64 [N, K, 2], the cell y * W + x and
            whether it is to be used; ``keypoint_weights`` [N, K].
        """
        if not self.use_udp:
            keypoints = keypoints - 0.5 * self.scale_factor  # mmpose rounds to the nearest
        return super().encode(keypoints, keypoints_visible)
