"""Segmentation head of two dilated convolutions that can be trained at the stride of its scores."""

from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead
from mmseg.structures import SegDataSample
from torch import nn

from mmext.registry import MODELS

__all__ = ['DilatedFCNHead']


@MODELS.register_module()
class DilatedFCNHead(FCNHead):
    """mmseg's ``FCNHead`` with one dilated convolution and a dilated 3x3 classifier, trained at its own stride.

    Convolution 3x3 with bias, ReLU, classifier 3x3 with bias, both with the same dilation, no dropout. Keys:
    ``convs.0.conv.weight``, ``convs.0.conv.bias``, ``conv_seg.weight``, ``conv_seg.bias``.

    Source: "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (Wu, Shen, van den Hengel, 2016),
    the segmentation networks with "2 conv." on top.

    Args:
        in_channels (int): Channels of the feature map; 4096 for Wider-ResNet.
        channels (int): Channels between the two convolutions. Default: 512.
        num_convs (int): Convolutions before the classifier, 0 or more (with 0, ``channels`` must be ``in_channels``).
            Default: 1.
        kernel_size (int): Taps per side of all convolutions, odd. Default: 3.
        dilation (int): Dilation of all convolutions in cells of the feature map, at least 1. Default: 12.
        concat_input (bool): See mmseg's ``FCNHead``. Default: False.
        dropout_ratio (float): Dropout of whole channels before the classifier, 0 to 1. Default: 0.
        sample_labels (bool): Whether to compare each cell of the scores with the label of the one pixel at its centre,
            as published: pixel (s // 2 + s * i) for stride s. False is mmseg's way, in which the scores are enlarged
            to the size of the labels. Default: True.
        init_cfg (dict): mmengine initialisation. Default: normal with std sqrt(2 / fan_in), biases 0.
        **kwargs: Everything else is mmseg's head, ``num_classes`` and ``loss_decode`` among it.

    Shapes:
        Feature map [N, in_channels, h, w], scores [N, out_channels, h, w].

    Raises:
        ValueError: If ``kernel_size`` is not odd.
    """

    def __init__(
        self,
        in_channels,
        channels=512,
        num_convs=1,
        kernel_size=3,
        dilation=12,
        concat_input=False,
        dropout_ratio=0,
        sample_labels=True,
        init_cfg=dict(type='Kaiming', layer='Conv2d', mode='fan_in', nonlinearity='relu'),
        **kwargs,
    ):
        if kernel_size % 2 != 1:
            raise ValueError(f'kernel_size={kernel_size} must be odd, so that the scores keep the size of the features')
        super().__init__(
            num_convs=num_convs,
            kernel_size=kernel_size,
            concat_input=concat_input,
            dilation=dilation,
            in_channels=in_channels,
            channels=channels,
            dropout_ratio=dropout_ratio,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.sample_labels = sample_labels
        padding = dilation * (kernel_size // 2)
        self.conv_seg = nn.Conv2d(channels, self.out_channels, kernel_size, padding=padding, dilation=dilation)

    def loss_by_feat(self, seg_logits, batch_data_samples):
        """Compute the losses and the accuracy.

        Args:
            seg_logits (Tensor): Scores [N, out_channels, h, w].
            batch_data_samples (list[SegDataSample]): With ``gt_sem_seg``, labels [1, H, W] each, one size for all. With
                ``sample_labels`` H and W must be the same whole multiple of h and w.

        Returns:
            dict[str, Tensor]: The losses under their names, and ``acc_seg`` in per cent: over the cells with
            ``sample_labels``, else over the pixels.

        Raises:
            ValueError: If the labels' size does not fit.
        """
        if self.sample_labels:
            grid = tuple(seg_logits.shape[2:])
            batch_data_samples = [_sampled(sample.gt_sem_seg.data, grid) for sample in batch_data_samples]
        return super().loss_by_feat(seg_logits, batch_data_samples)


def _sampled(labels, grid):
    """Return a sample with the labels at the centres of the cells."""
    size = tuple(labels.shape[1:])
    stride = size[0] // grid[0]
    if stride < 1 or size != (grid[0] * stride, grid[1] * stride):
        raise ValueError(
            f'labels of {size[0]} x {size[1]} pixels do not fit scores of {grid[0]} x {grid[1]} cells: each side must '
            "be the same whole multiple; make the training crop a multiple of the network's stride, as "
            'mmext.RandomLongerSideCrop does, or set sample_labels=False'
        )
    cells = slice(stride // 2, None, stride)
    return SegDataSample(gt_sem_seg=PixelData(data=labels[:, cells, cells]))
