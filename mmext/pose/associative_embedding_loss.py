"""Loss of the tags of associative embedding."""

from mmpose.models import losses

from mmext.registry import MODELS

__all__ = ['AssociativeEmbeddingLoss']

_EPSILON = 1e-6  # as published; it keeps pictures without persons finite


@MODELS.register_module()
class AssociativeEmbeddingLoss(losses.AssociativeEmbeddingLoss):
    """Pull together the tags of one person and push apart those of different persons; mean over the pictures.

    Differs from mmpose's class of the same name in that

    - the result is the mean over the pictures, not their sum, so that a published ``loss_weight`` holds for any batch;
    - a person is not pushed from itself: this subtracts a constant, and well separated persons now have loss 0;
    - each picture is a few tensor operations without any wait for the device, instead of several per keypoint.

    Source: "Associative Embedding: End-to-End Learning for Joint Detection and Grouping", Newell, Huang and Deng,
    NeurIPS 2017, equation 1, with the push term taken over pairs of different persons.

    Args:
        loss_weight (float): Factor of both parts. Published: 0.001. Default: 1.0.
        push_loss_factor (float): Further factor of the push part. Default: 0.5.
    """

    def forward(self, tags, keypoint_indices):
        """Return both parts for B pictures, K keypoints and L tags per keypoint.

        Args:
            tags (Tensor): Tag maps [B, L * K, H, W]; the K maps of one tag lie together.
            keypoint_indices (list[Tensor]): Per picture int64 [N, K, 2]: cell y * W + x, and whether it is labelled.
                N may differ from picture to picture and be 0.

        Returns:
            tuple[Tensor, Tensor]: Pull and push loss, scalars.

        Raises:
            ValueError: If the numbers of pictures in the two differ.
        """
        if len(tags) != len(keypoint_indices):
            raise ValueError(f'tags of {len(tags)} pictures, but keypoint_indices of {len(keypoint_indices)}')
        parts = [_pull_and_push(maps, indices) for maps, indices in zip(tags.float(), keypoint_indices)]
        pull, push = (sum(part) * (self.loss_weight / len(parts)) for part in zip(*parts))
        return pull, push * self.push_loss_factor


def _pull_and_push(maps, indices):
    """Return pull and push loss of one picture: maps [L * K, H, W], indices [N, K, 2]."""
    persons, keypoints, _ = indices.shape
    cells, labelled = indices.unbind(-1)
    labelled = labelled > 0
    maps = maps.reshape(-1, keypoints, maps[0].numel())  # [L, K, H * W]
    cells = cells.where(labelled, 0).T.expand(len(maps), -1, -1)  # [L, K, N]; unlabelled ones may lie outside
    tags = maps.gather(2, cells)

    count = labelled.sum(1)  # [N]
    exists = count > 0
    mean = (tags * labelled.T).sum(1) / count.clamp(min=1)  # [L, N]
    deviation = ((tags - mean[:, None]) ** 2 * labelled.T).sum(1) / count.clamp(min=1)
    number = exists.sum()
    pull = deviation.mean(0).sum() / (number + _EPSILON)

    closeness = (-((mean[:, :, None] - mean[:, None]) ** 2)).exp().sum(0)  # [N, N]
    different = exists[:, None] & exists & ~exists.new_ones(persons).diag()
    push = (closeness * different).sum() / ((number - 1) * number + _EPSILON)
    return pull, push
