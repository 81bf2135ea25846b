"""Steps of a bottom-up pipeline: pictures in several scales, and the mask of what is not labelled."""

from mmpose.datasets import transforms
from mmpose.datasets.transforms.formatting import image_to_tensor

from mmext.registry import TRANSFORMS

__all__ = ['BottomupGetHeatmapMask', 'BottomupResize', 'PackPoseInputs']


@TRANSFORMS.register_module()
class BottomupResize(transforms.BottomupResize):
    """mmpose's ``BottomupResize`` whose scales all show the same part of the picture.

    Pictures are padded to a multiple of ``size_factor``. mmpose does so in each scale by itself, so that the margins
    differ and heatmaps of different scales do not lie on one another: by up to 16 pixels for a picture of 640 x 480 in
    the published setting. Here the padded first scale, enlarged or reduced as a whole, gives the others.

    Source: "HigherHRNet", Cheng et al., CVPR 2020, section 3.4 (test in several scales).

    Args:
        input_size (tuple[int, int]): Width and height of the first scale in pixels, before it is fitted to the picture.
        aug_scales (list[float], optional): Further scales, relative to the first, above 0. Default: None.
        size_factor (int): The first scale is padded to multiples of this many pixels. Times each of the further scales
            it must be a whole number, which should be a multiple of the network's stride. Default: 32.
        **kwargs: Everything else is mmpose's transform.

    Raises:
        ValueError: If ``aug_scales`` do not fit ``size_factor``, or ``input_size`` is no multiple of it.
    """

    def __init__(self, input_size, aug_scales=None, size_factor=32, **kwargs):
        super().__init__(input_size, aug_scales=aug_scales, size_factor=size_factor, **kwargs)
        for scale in aug_scales or ():
            if scale <= 0 or size_factor * scale != int(size_factor * scale):
                raise ValueError(
                    f'aug_scales has {scale}: it must be above 0, and size_factor={size_factor} times it a whole number'
                )
        if aug_scales and any(side % size_factor for side in input_size):
            raise ValueError(
                f'input_size={tuple(input_size)} must be multiples of size_factor={size_factor} where aug_scales are '
                'given'
            )

    def _get_input_size(self, img_size, input_size):
        """Return the sizes (width, height) of the picture and of its padded canvas in the scale of ``input_size``."""
        sizes = super()._get_input_size(img_size, tuple(self.input_size))
        scale = input_size[0] / self.input_size[0]
        actual, padded = (tuple(side * scale for side in size) for size in sizes)
        return actual, tuple(round(side) for side in padded)


@TRANSFORMS.register_module()
class PackPoseInputs(transforms.PackPoseInputs):
    """mmpose's ``PackPoseInputs`` that also takes a picture in several scales. It has the same arguments."""

    def transform(self, results):
        """Pack a sample.

        Args:
            results (dict): Sample of the pipeline. ``img`` is a picture [H, W, C] or a list of it in several scales.

        Returns:
            dict: ``inputs``, a tensor [C, H, W] or a list of them, and ``data_samples``, whose meta information has
            ``aug_scales`` if there are several.
        """
        if not isinstance(results['img'], list):
            return super().transform(results)
        first, *_ = pictures = results['img']
        packed = super().transform({**results, 'img': first})
        packed['inputs'] = [image_to_tensor(picture) for picture in pictures]
        packed['data_samples'].set_metainfo(dict(aug_scales=list(results['aug_scales'])))
        return packed


@TRANSFORMS.register_module()
class BottomupGetHeatmapMask(transforms.BottomupGetHeatmapMask):
    """mmpose's ``BottomupGetHeatmapMask`` that also masks crowds. It has the same arguments.

    COCO outlines a crowd by a run-length code, which mmpose's transform passes over, so that every unlabelled person in
    a crowd would be trained as background.
    """

    def _segs_to_mask(self, segs, img_shape):
        return super()._segs_to_mask([[seg] if isinstance(seg, dict) else seg for seg in segs], img_shape)
