"""Head of associative embedding: heatmaps and tags, trained and tested in one or several scales."""

import torch
from mmengine.structures import PixelData
from mmpose.models import heads
from mmpose.models.utils.tta import aggregate_heatmaps, flip_heatmaps

from mmext.registry import MODELS

__all__ = ['AssociativeEmbeddingHead']


@MODELS.register_module()
class AssociativeEmbeddingHead(heads.AssociativeEmbeddingHead):
    """mmpose's ``AssociativeEmbeddingHead`` that can be trained, and tested in several scales and without flip.

    Source: "Associative Embedding: End-to-End Learning for Joint Detection and Grouping", Newell, Huang and Deng,
    NeurIPS 2017; aggregation over scales as in "HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human
    Pose Estimation", Cheng et al., CVPR 2020, section 3.4: heatmaps are enlarged to the input's size and averaged over
    scales and flip, tags are those of the first scale, original and flipped side by side.

    Args:
        in_channels (int): Channels of the last feature map.
        num_keypoints (int): Keypoints K of a person.
        tag_loss (dict): Loss of the tags. Default: :class:`mmext.pose.AssociativeEmbeddingLoss`, a mean over pictures.
        **kwargs: Everything else is mmpose's head.
    """

    def __init__(self, in_channels, num_keypoints, tag_loss=dict(type='mmext.AssociativeEmbeddingLoss'), **kwargs):
        super().__init__(in_channels, num_keypoints, tag_loss=tag_loss, **kwargs)

    def _outputs(self, feats):
        """Return heatmaps [B, K, h, w] and tags [B, L * K, h, w] in float32, also in mixed precision."""
        heatmaps, tags = self.forward(feats)
        if not self.tag_per_keypoint:
            tags = tags.repeat_interleave(self.num_keypoints, 1)
        return heatmaps.float().contiguous(), tags.float().contiguous()  # the decoder takes no channels_last

    def loss(self, feats, batch_data_samples, train_cfg={}):
        """Return the losses of a batch of B pictures.

        The squared error of the heatmaps is averaged over all their cells, those in the mask of unlabelled persons
        counting as 0. Weights of keypoints play no part: there is one heatmap for all persons of a picture.

        Args:
            feats (tuple[Tensor]): Features; the last ones are used.
            batch_data_samples (list[PoseDataSample]): With ``gt_fields.heatmaps`` [K, h, w],
                ``gt_fields.heatmap_mask`` [1, h, w] and ``gt_instance_labels.keypoint_indices`` [N, K, 2].
            train_cfg (dict): Not used.

        Returns:
            dict[str, Tensor]: ``loss_kpt``, ``loss_pull`` and ``loss_push``.

        Raises:
            ValueError: If the pipeline did not pack one of these. The message says which step makes it.
        """
        targets = torch.stack(_packed(batch_data_samples, 'gt_fields', 'heatmaps', 'GenerateTarget'))
        masks = torch.stack(_packed(batch_data_samples, 'gt_fields', 'heatmap_mask', 'mmext.BottomupGetHeatmapMask'))
        codec = 'GenerateTarget with the codec mmext.AssociativeEmbedding'
        indices = _packed(batch_data_samples, 'gt_instance_labels', 'keypoint_indices', codec)

        heatmaps, tags = self._outputs(feats)
        pull, push = self.loss_module.tag_loss(tags, indices)
        return dict(
            loss_kpt=self.loss_module.keypoint_loss(heatmaps, targets, mask=masks), loss_pull=pull, loss_push=push
        )

    def predict(self, feats, batch_data_samples, test_cfg={}):
        """Return the persons in B pictures of one size.

        Args:
            feats (tuple[Tensor] | list): Features of the pictures. With ``flip_test`` a list of those of the pictures
                and of the mirrored pictures; with ``multiscale_test`` a list of all that, one entry per scale.
            batch_data_samples (list[PoseDataSample]): With ``img_shape``, the (height, width) of the network input
                in pixels, and ``flip_indices``.
            test_cfg (dict): ``flip_test``, ``multiscale_test``, ``restore_heatmap_size`` (whether to enlarge heatmaps
                to the network input before decoding), ``shift_heatmap``, ``align_corners`` and ``output_heatmaps``, all
                False if not given.

        Returns:
            list[InstanceData] | tuple: Per picture ``keypoints`` [N, K, 2] (x, y) in pixels of the network input,
            ``keypoint_scores`` [N, K] and ``bbox_scores`` [N]. With ``output_heatmaps`` also a list of PixelData.

        Raises:
            ValueError: If the pictures differ in size, if the heatmaps of one scale are not an enlargement of those of
                the first, or if the decoder is not made for the size of the heatmaps.
        """
        flip = test_cfg.get('flip_test', False)
        align_corners = test_cfg.get('align_corners', False)
        scales = feats if test_cfg.get('multiscale_test', False) else [feats]
        height, width = _common_shape(batch_data_samples)
        size = (width, height) if test_cfg.get('restore_heatmap_size', False) else None

        heatmaps, first_tags, first_shape = [], None, None
        for views in scales:
            outputs = [self._outputs(view) for view in (views if flip else [views])]
            if flip:
                outputs[1] = self._flipped_back(*outputs[1], batch_data_samples[0], test_cfg)
            view_heatmaps, view_tags = map(list, zip(*outputs))
            if first_tags is None:
                first_shape = view_heatmaps[0].shape[2:]
                first_tags = aggregate_heatmaps(view_tags, size, align_corners, 'concat')
            _check_aspect(view_heatmaps[0].shape[2:], first_shape)
            heatmaps.append(aggregate_heatmaps(view_heatmaps, size, align_corners))
        heatmaps = aggregate_heatmaps(heatmaps, size, align_corners)
        self._check_decoder(heatmaps.shape[2:], (height, width))
        preds = self.decode((heatmaps, first_tags))
        if not test_cfg.get('output_heatmaps', False):
            return preds
        return preds, [PixelData(heatmaps=maps, tags=tags) for maps, tags in zip(heatmaps, first_tags)]

    def _flipped_back(self, heatmaps, tags, sample, test_cfg):
        options = dict(flip_indices=sample.metainfo['flip_indices'], shift_heatmap=test_cfg.get('shift_heatmap', False))
        return flip_heatmaps(heatmaps, **options), self._flip_tags(tags, **options)

    def _check_decoder(self, heatmap_shape, image_shape):
        """Refuse a decoder whose coordinates would not be those of the network input."""
        if self.decoder is None:
            return  # decode() says so
        reach = heatmap_shape[1] * self.decoder.scale_factor[0], heatmap_shape[0] * self.decoder.scale_factor[1]
        if any(not 0.9 < a / b < 1.1 for a, b in zip(reach, image_shape[::-1])):
            raise ValueError(
                f'the decoder takes heatmaps of {tuple(heatmap_shape)} cells for an input of {reach[1]:.0f} x '
                f'{reach[0]:.0f} pixels (height x width), which is {image_shape[0]} x {image_shape[1]}; set '
                'decoder=dict(codec, heatmap_size=codec["input_size"]) with restore_heatmap_size=True, decoder=codec '
                'without'
            )


def _packed(samples, part, name, step):
    """Return one label of every sample, or say which step of the pipeline makes it."""
    missing = [sample for sample in samples if name not in sample.get(part, ())]
    if missing:
        raise ValueError(f'{part}.{name} is missing: the training pipeline needs {step} before PackPoseInputs')
    return [getattr(getattr(sample, part), name) for sample in samples]


def _common_shape(samples):
    shapes = {tuple(sample.metainfo['img_shape']) for sample in samples}
    if len(shapes) > 1:
        raise ValueError(
            f'pictures of different size in one batch: {sorted(shapes)} (height, width) in pixels; set '
            'test_dataloader.batch_size=1'
        )
    return shapes.pop()


def _check_aspect(shape, first):
    if shape[0] * first[1] != shape[1] * first[0]:
        raise ValueError(
            f'heatmaps of {tuple(shape)} cells are no enlargement of those of the first scale, {tuple(first)}: the '
            'scales show different parts of the picture; use mmext.BottomupResize in the test pipeline'
        )
