"""Test in several views of a picture: the class that is found belongs to the mean of the probabilities."""

from mmpretrain.models import tta

from mmext.registry import MODELS

__all__ = ['AverageClsScoreTTA']


@MODELS.register_module()
class AverageClsScoreTTA(tta.AverageClsScoreTTA):
    """mmpretrain's ``AverageClsScoreTTA`` whose label is that of the averaged probabilities. It has the same arguments.

    mmpretrain averages the probabilities but keeps the label of the first view, so that dumped and drawn results may
    name another class than the metrics, which go by the probabilities, count.

    Source: the code of "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den
    Hengel, 2016), which tests so with crops, flips and scales.
    """

    def merge_preds(self, data_samples_list):
        """Merge what was found in the views of each picture.

        Args:
            data_samples_list (list[list[DataSample]]): For each picture its views, with ``pred_score``, the
                probabilities of the classes.

        Returns:
            list[DataSample]: For each picture the first view with ``pred_score``, the mean over its views, and the
            ``pred_label`` of it.
        """
        merged = super().merge_preds(data_samples_list)
        return [sample.set_pred_label(sample.pred_score.argmax(0, keepdim=True)) for sample in merged]
