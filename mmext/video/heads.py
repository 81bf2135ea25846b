"""Classifiers of inflated networks as mmaction2 heads."""

import torch
from mmaction.models import heads
from mmengine.model.weight_init import normal_init
from torch import nn

from mmext.convert.reading import load_content, state_dict_of
from mmext.ops.inflate import inflate_linear
from mmext.registry import MODELS

__all__ = ['InflatedConvHead', 'InflatedLinearHead']


# Where 2D classifiers keep their last layer: torchvision's ResNet and DenseNet, mmpretrain, mmaction2.
_LAYERS = ('fc', 'classifier', 'head.fc', 'cls_head.fc_cls')


class _InflatedHead(heads.I3DHead):
    """What both classifiers share: the mean over height and width, and the weights of a 2D classifier."""

    def __init__(self, num_classes, in_channels, pretrained=None, **kwargs):
        for name, value in (('num_classes', num_classes), ('in_channels', in_channels)):
            _check_count(name, value)
        if kwargs.get('spatial_type', 'avg') != 'avg':
            raise ValueError(
                f'spatial_type={kwargs["spatial_type"]!r}: only the mean, "avg", is possible; leave it out'
            )
        super().__init__(num_classes, in_channels, **kwargs)
        self.avg_pool = nn.AdaptiveAvgPool3d((None, 1, 1))  # the frames stay
        self.pretrained = pretrained
        self._register_load_state_dict_pre_hook(self._inflate)

    def init_weights(self):
        """Draw the weights of a 2D classifier from a normal distribution, or read them, and inflate them."""
        flat = nn.Linear(self.in_channels, self.num_classes)
        if self.pretrained is None:
            normal_init(flat, std=self.init_std)
        else:
            flat.load_state_dict(self._pretrained_layer())
        self.fc_cls.load_state_dict(dict(weight=self._inflated(flat.weight), bias=flat.bias))

    def _pretrained_layer(self):
        state = state_dict_of(*load_content(self.pretrained), allow_empty=True)
        shape = self.num_classes, self.in_channels
        found = {name: tuple(state[f'{name}.weight'].shape) for name in _LAYERS if f'{name}.weight' in state}
        for name in found:
            if found[name] == shape and f'{name}.bias' in state:
                return dict(weight=state[f'{name}.weight'], bias=state[f'{name}.bias'])
        raise ValueError(
            f'{self.pretrained} has no 2D classifier of num_classes x in_channels = {shape[0]} x {shape[1]}: '
            f'{", ".join(f"{name} is {list(size)}" for name, size in found.items()) or "none of " + ", ".join(_LAYERS)}'
            '; set num_classes and in_channels to its sizes, or leave out pretrained'
        )

    def _inflate(self, state_dict, prefix, *args):
        """Inflate the weight of a 2D classifier, [num_classes, in_channels], when it is loaded."""
        weight = state_dict.get(f'{prefix}fc_cls.weight')
        if weight is not None and tuple(weight.shape) == (self.num_classes, self.in_channels):
            state_dict[f'{prefix}fc_cls.weight'] = self._inflated(weight)

    def _pooled(self, x):
        """Return the means over height and width, [N, C, T'], after checking the maps."""
        if isinstance(x, (tuple, list)) and len(x) == 1:
            (x,) = x
        if not isinstance(x, torch.Tensor) or x.ndim != 5 or x.shape[1] != self.in_channels:
            what = list(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise ValueError(
                f"{type(self).__name__} takes one map [N, {self.in_channels}, T', H', W'] but got {what}; set "
                "in_channels to the channels of the backbone's last map, and one entry in its out_indices"
            )
        return self.avg_pool(x).flatten(2)


@MODELS.register_module()
class InflatedLinearHead(_InflatedHead):
    """Linear classifier over the features of all frames, for clips of one length.

    The maps are averaged over height and width; what remains of the frames is joined to one vector of
    ``frames * in_channels`` features, frame after frame. The layer starts as a 2D classifier copied to each frame and
    divided by their number, so that a static clip gives the 2D network's scores. In training it may come to weigh early
    and late frames differently. For clips of any length use mmaction2's ``I3DHead``, which starts from the same scores.

    A 2D weight, [num_classes, in_channels], under the name of the head's is inflated whenever it is loaded.

    Source: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", Carreira and Zisserman, CVPR 2017,
    section 2.4, for the rule; the layer itself is that of the inflated DenseNets.

    Args:
        num_classes (int): Number of classes, at least 1.
        in_channels (int): Channels of the backbone's last map (its ``feat_dim``), at least 1.
        frames (int): Frames of that map, at least 1: those of the clip over the backbone's temporal stride, which is 16
            for ``InflatedResNet`` (rounded up) and 8 for ``InflatedDenseNet`` (rounded down).
        pretrained (str, optional): 2D checkpoint with the classifier, a path, a URL or ``'torchvision://resnet50'``;
            read by ``init_weights``, see :func:`mmext.convert.read_checkpoint`. Default: None, normal weights of
            standard deviation ``init_std``.
        **kwargs: Those of ``mmaction.models.heads.I3DHead``, such as ``dropout_ratio``, but for ``spatial_type``.

    Shapes:
        [N, in_channels, frames, H', W'] -> [N, num_classes].

    Raises:
        ValueError: If an argument is not as above. In ``init_weights``, if the checkpoint cannot be read in safety or
            has no classifier of these sizes.
    """

    def __init__(self, num_classes, in_channels, frames, pretrained=None, **kwargs):
        _check_count('frames', frames)
        super().__init__(num_classes, in_channels, pretrained, **kwargs)
        self.frames = frames
        self.fc_cls = nn.Linear(frames * in_channels, num_classes)

    def _inflated(self, weight):
        flat = nn.Linear(self.in_channels, self.num_classes, bias=False, device='meta')
        flat.weight = nn.Parameter(weight.detach(), requires_grad=False)
        return inflate_linear(flat, self.frames).weight.data

    def forward(self, x, **kwargs):
        """Score a batch.

        Args:
            x (Tensor): Maps [N, in_channels, frames, H', W'], after the backbone's last ReLU.
            **kwargs: Not used.

        Returns:
            Tensor: Logits [N, num_classes].

        Raises:
            ValueError: If the maps have another shape or number of frames.
        """
        features = self._pooled(x)
        if features.shape[2] != self.frames:
            raise ValueError(
                f'InflatedLinearHead is made for maps of frames={self.frames} but got {features.shape[2]}: set frames, '
                "or set clip_len of SampleFrames to frames times the backbone's temporal stride; I3DHead takes clips "
                'of any length'
            )
        features = features.transpose(1, 2).flatten(1)  # frame after frame, as inflate_linear lays out the weight
        return self.fc_cls(features if self.dropout is None else self.dropout(features))


@MODELS.register_module()
class InflatedConvHead(_InflatedHead):
    """A 1 x 1 x 1 convolution as classifier, for clips of any length.

    Maps are averaged over height and width, every frame is scored, and the scores are averaged. Without dropout this is
    mmaction2's ``I3DHead`` in another form; with it, each frame loses features of its own.

    A 2D weight, [num_classes, in_channels], under the name of the head's is inflated whenever it is loaded.

    Source: the convolutional classifier of the inflated ResNets; the network is that of "Quo Vadis, Action Recognition?
    A New Model and the Kinetics Dataset", Carreira and Zisserman, CVPR 2017, which averages scores over time alike
    (section 2.4).

    Args:
        num_classes (int): Number of classes, at least 1.
        in_channels (int): Channels of the backbone's last map (its ``feat_dim``), at least 1.
        pretrained (str, optional): 2D checkpoint with the classifier, a path, a URL or ``'torchvision://resnet50'``;
            read by ``init_weights``, see :func:`mmext.convert.read_checkpoint`. Default: None, normal weights of
            standard deviation ``init_std``.
        **kwargs: Those of ``mmaction.models.heads.I3DHead``, such as ``dropout_ratio``, but for ``spatial_type``.

    Shapes:
        [N, in_channels, T', H', W'] -> [N, num_classes].

    Raises:
        ValueError: If an argument is not as above. In ``init_weights``, if the checkpoint cannot be read in safety or
            has no classifier of these sizes.
    """

    def __init__(self, num_classes, in_channels, pretrained=None, **kwargs):
        super().__init__(num_classes, in_channels, pretrained, **kwargs)
        self.fc_cls = nn.Conv3d(in_channels, num_classes, 1)

    def _inflated(self, weight):
        return weight[:, :, None, None, None].clone()

    def forward(self, x, **kwargs):
        """Score a batch.

        Args:
            x (Tensor): Maps [N, in_channels, T', H', W'], after the backbone's last ReLU.
            **kwargs: Not used.

        Returns:
            Tensor: Logits [N, num_classes].

        Raises:
            ValueError: If the maps have another shape.
        """
        features = self._pooled(x)
        features = features if self.dropout is None else self.dropout(features)
        return self.fc_cls(features[..., None, None]).mean((2, 3, 4))


def _check_count(name, value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'{name}={value!r} must be an integer of at least 1')
