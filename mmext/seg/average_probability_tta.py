"""Merging of predictions in several scales."""

from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel

from mmext.registry import MODELS

__all__ = ['AverageProbabilityTTA']


@MODELS.register_module()
class AverageProbabilityTTA(SegTTAModel):
    """mmseg's ``SegTTAModel`` for a segmentor that gives probabilities: their mean over scales and mirror images.

    mmseg's class would apply a softmax to them once more. The class map also keeps the shape [1, H, W] that it has
    without merging; mmseg's class gives [H, W], of which ``CityscapesMetric`` would save the first row.

    Source: "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den Hengel, 2016),
    results in several scales; its published code has one scale only.

    Args:
        module (dict or nn.Module): :class:`mmext.seg.SteppedEncoderDecoder` in test mode ``steps``.
        data_preprocessor (dict, optional): See mmengine's ``BaseTTAModel``. Default: None.

    Raises:
        ValueError: If the module's test mode is not ``steps``.
    """

    def __init__(self, module, data_preprocessor=None):
        super().__init__(module, data_preprocessor)
        mode = (getattr(self.module, 'test_cfg', None) or {}).get('mode', 'whole')
        if mode != 'steps':
            raise ValueError(
                f'the segmentor has the test mode {mode!r}, which gives scores, not probabilities: use '
                "type='SegTTAModel', or mmext.SteppedEncoderDecoder with test_cfg=dict(mode='steps')"
            )

    def merge_preds(self, data_samples_list):
        """Merge the predictions of each picture.

        Args:
            data_samples_list (list[list[SegDataSample]]): For each picture its predictions, of one size.

        Returns:
            list[SegDataSample]: For each picture the first sample with ``seg_logits`` [C, H, W], the mean of the
            probabilities, and ``pred_sem_seg`` [1, H, W].
        """
        return [_merged(samples) for samples in data_samples_list]


def _merged(samples):
    mean = samples[0].seg_logits.data.clone()
    for sample in samples[1:]:
        mean += sample.seg_logits.data
    mean /= len(samples)
    classes = mean.argmax(0, keepdim=True)
    samples[0].set_data(dict(seg_logits=PixelData(data=mean), pred_sem_seg=PixelData(data=classes)))
    return samples[0]
