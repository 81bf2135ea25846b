"""The way of a picture in several scales from the data loader to the head."""

from mmpose.models import data_preprocessors, pose_estimators
from torch import Tensor

from mmext.registry import MODELS

__all__ = ['BottomupPoseEstimator', 'PoseDataPreprocessor']


@MODELS.register_module()
class PoseDataPreprocessor(data_preprocessors.PoseDataPreprocessor):
    """mmpose's ``PoseDataPreprocessor`` that also takes pictures in several scales. It has the same arguments."""

    def forward(self, data, training=False):
        """Normalise and stack the pictures of a batch.

        Args:
            data (dict): From the data loader: ``data_samples``, and ``inputs``, either the pictures as mmpose's class
                takes them or, for several scales, a list with one sequence of B pictures [C, H, W] per scale.
            training (bool): Whether to apply the augmentations of training. Default: False.

        Returns:
            dict: ``inputs`` [B, C, H, W], for several scales a tuple of them, and ``data_samples``.
        """
        if isinstance(data['inputs'][0], Tensor):
            return super().forward(data, training)
        forward = super().forward
        scales = [forward({**data, 'inputs': list(pictures)}, training) for pictures in data['inputs']]
        # a tuple: mmpose's models stack lists
        return {**scales[0], 'inputs': tuple(scale['inputs'] for scale in scales)}


@MODELS.register_module()
class BottomupPoseEstimator(pose_estimators.BottomupPoseEstimator):
    """mmpose's ``BottomupPoseEstimator`` that can be tested in several scales. It has the same arguments."""

    def predict(self, inputs, data_samples):
        """Find the persons in a batch of pictures.

        Args:
            inputs (Tensor | tuple[Tensor]): Pictures [B, C, H, W]; for several scales a tuple of them, as
                :class:`PoseDataPreprocessor` makes it.
            data_samples (list[PoseDataSample]): What is known of each picture.

        Returns:
            list[PoseDataSample]: The same with ``pred_instances``; keypoints (x, y) in pixels of the original picture.

        Raises:
            ValueError: If ``multiscale_test`` does not fit what the pipeline made.
        """
        several = not isinstance(inputs, Tensor)
        if several != bool(self.test_cfg.get('multiscale_test', False)):
            raise ValueError(
                f'model.test_cfg.multiscale_test is {not several}, but the pipeline made '
                f'{len(inputs) if several else 1} scale(s) of each picture: set aug_scales of mmext.BottomupResize in '
                'the test pipeline for a test in several scales and multiscale_test=True, or neither'
            )
        return super().predict(list(inputs) if several else inputs, data_samples)
