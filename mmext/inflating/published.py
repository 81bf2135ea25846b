"""The rules of the published inflated networks, for torchvision's ResNets and DenseNets."""

import torch.nn.functional as F

__all__ = ['published_rules']

DENSENET_STRIDE = 8


def published_rules(model, frames):
    """Return the rules that turn a network of torchvision into the published inflated one.

    - ResNet, ResNeXt and Wide ResNet: three taps in the stem, its pooling and the 3x3 convolutions (those of a
      bottleneck or both of a basic block); time is halved by the stem's pooling and where the picture is halved in the
      stages, 16 in all, each rounded up.
    - DenseNet: three averaged taps in the 3x3 convolutions of the blocks, beside repeated frames; time is halved by the
      transitions, 8 in all, rounded down; the classifier has weights for each of the ``frames // 8`` frames that are
      left.

    Source: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017), section 2.4; the kernels
    and strides are those of the published inflated ResNets and DenseNets.

    Args:
        model (nn.Module): The 2D network.
        frames (int): Frames of the clips, at least 8 for a DenseNet.

    Returns:
        dict or None: Rules for :func:`mmext.inflate`; None for other networks.

    Raises:
        ValueError: If ``frames`` is too small.
    """
    family = type(model).__module__
    if family == 'torchvision.models.resnet':
        wide, halved = dict(temporal_kernel=3), dict(temporal_stride=2)
        basic = not hasattr(model.layer1[0], 'conv3')
        rules = {'conv1': wide, 'maxpool': dict(temporal_kernel=3, temporal_stride=2, temporal_padding=1)}
        for stage in (2, 3, 4):
            first = getattr(model, f'layer{stage}')[0]
            if first.stride > 1:
                rules[f'layer{stage}.0.conv{1 if basic else 2}'] = {**wide, **halved}
                rules[f'layer{stage}.0.downsample.0'] = halved
        rules['layer*.conv2'] = wide
        if basic:
            rules['layer*.conv1'] = wide
        return rules
    if family == 'torchvision.models.densenet':
        if frames < DENSENET_STRIDE:
            raise ValueError(f'frames={frames}: the transitions of an inflated DenseNet take {DENSENET_STRIDE} or more')
        return {
            'features.denseblock*.conv2': dict(temporal_kernel=3, mode='average', temporal_padding_mode='replicate'),
            'features.transition*.pool': dict(temporal_kernel=2, temporal_stride=2),
            F.adaptive_avg_pool2d: 'frames',
            'classifier': dict(frames=frames // DENSENET_STRIDE),
        }
    return None
