"""Keys and shapes of what stands on a RedNet in the checkpoints of the involution project: necks and heads.

Each function reads the settings of one part off its shapes, notes them and returns the keys that the part must have.
"""

from .report import ConversionError
from .shapes import conv, conv_norm, involution, under

__all__ = ['PARTS']


def classifier(shapes, settings, levels):
    """Global average pooling and a linear layer (mmcls 0.x)."""
    settings['head'] = 'LinearClsHead'
    classes = settings['num_classes'] = shapes.size('fc.weight', 0)
    return under('fc', conv(classes, levels[-1], None))


def neck(shapes, settings, levels):
    """FPN with 3x3 convolutions or involutions; extra levels are 3x3 convolutions in both (mmdet 2.x, mmseg 0.x)."""
    kind = settings['neck'] = 'involution' if shapes.has('fpn_convs.0.conv1.') else 'conv'
    out = shapes.size('lateral_convs.0.conv.weight', 0)
    used = shapes.count('lateral_convs')
    outputs = shapes.count('fpn_convs')
    settings['extra_levels'] = max(outputs - used, 0)
    keys = {}
    for index, into in enumerate(levels[-used:]):
        keys |= under(f'lateral_convs.{index}.conv', conv(out, into))
        if kind == 'involution':
            keys |= under(f'fpn_convs.{index}', involution(out))
        else:
            keys |= under(f'fpn_convs.{index}.conv', conv(out, out, 3))
    for index in range(used, outputs):
        # the first extra level is made from the backbone's last one (on_input) or from the pyramid
        on_input = index == used and shapes.size(f'fpn_convs.{index}.conv.weight', 1) == levels[-1]
        keys |= under(f'fpn_convs.{index}.conv', conv(out, levels[-1] if on_input else out, 3))
    return keys


def rpn_head(shapes, settings, levels):
    """Region proposals: a 3x3 convolution or an involution, then two 1x1 convolutions (mmdet 2.x)."""
    anchors = shapes.size('rpn_cls.weight', 0)
    width = shapes.size('rpn_cls.weight', 1)
    if shapes.has('rpn_conv.conv1.'):
        settings['rpn_head'] = 'involution'
        keys = involution(width)
    else:
        settings['rpn_head'] = 'conv'
        keys = conv(width, shapes.size('rpn_conv.weight', 1), 3)
    return {
        **under('rpn_conv', keys),
        **under('rpn_cls', conv(anchors, width)),
        **under('rpn_reg', conv(4 * anchors, width)),
    }


def box_head(shapes, settings, levels):
    """Shared linear layers, then classes with background, and four numbers per class (mmdet 2.x)."""
    layers = shapes.count('shared_fcs')
    settings['bbox_head'] = f'Shared{layers}FC'
    classes = settings['num_classes'] = shapes.size('fc_cls.weight', 0) - 1
    into = shapes.size('shared_fcs.0.weight', 1)
    keys = {}
    for index in range(layers):
        out = shapes.size(f'shared_fcs.{index}.weight', 0)
        keys |= under(f'shared_fcs.{index}', conv(out, into, None))
        into = out
    return {
        **keys,
        **under('fc_cls', conv(classes + 1, into, None)),
        **under('fc_reg', conv(4 * classes, into, None)),
    }


def mask_head(shapes, settings, levels):
    """Four 3x3 convolutions or involutions, an upsampling, a 1x1 convolution (mmdet 2.x)."""
    kind = settings['mask_head'] = 'involution' if shapes.has('convs.0.0.') else 'conv'
    width = shapes.size('upsample.weight', 0)
    classes = settings.setdefault('num_classes', shapes.size('conv_logits.weight', 0))
    keys = {}
    for index in range(shapes.count('convs')):
        if kind == 'involution':
            keys |= under(f'convs.{index}.0', involution(width))
        else:
            keys |= under(f'convs.{index}.conv', conv(width, width, 3))
    return {**keys, **under('upsample', conv(width, width, 2)), **under('conv_logits', conv(classes, width))}


def retina_head(shapes, settings, levels):
    """Two towers of 3x3 convolutions (mmdet 2.x)."""
    settings['bbox_head'] = 'RetinaHead'
    width = shapes.size('retina_cls.weight', 1)
    anchors = shapes.size('retina_reg.weight', 0) // 4
    classes = settings['num_classes'] = shapes.size('retina_cls.weight', 0) // max(anchors, 1)
    keys = {}
    for tower in ('cls_convs', 'reg_convs'):
        for index in range(shapes.count(tower)):
            keys |= under(f'{tower}.{index}.conv', conv(width, width, 3))
    return {
        **keys,
        **under('retina_cls', conv(anchors * classes, width, 3)),
        **under('retina_reg', conv(4 * anchors, width, 3)),
    }


def decode_head(shapes, settings, levels):
    """Semantic FPN's or UPerNet's head (mmseg 0.x).

    Raises:
        ConversionError: If it is neither.
    """
    makers = {'scale_heads.': ('FPNHead', _fpn_head), 'psp_modules.': ('UPerHead', _uper_head)}
    for start, (name, maker) in makers.items():
        if shapes.has(start):
            settings['decode_head'] = name
            classes = settings['num_classes'] = shapes.size('conv_seg.weight', 0)
            channels = shapes.size('conv_seg.weight', 1)
            return {**maker(shapes, channels, levels), **under('conv_seg', conv(classes, channels))}
    raise ConversionError(
        f'{shapes.prefix[:-1]} is neither an FPNHead (scale_heads.*) nor a UPerHead (psp_modules.*), the two that the '
        'involution project has; give a checkpoint with one of them'
    )


def _fpn_head(shapes, channels, levels):
    into = shapes.size('scale_heads.0.0.conv.weight', 1)
    levels = shapes.count('scale_heads')
    shapes.check_length('scale_heads', sum(range(levels)))  # one convolution or more for each doubling
    keys = {}
    for level in range(levels):
        for step in range(max(1, level)):  # a level of stride 4 * 2^level is doubled that often, after each convolution
            keys |= under(f'scale_heads.{level}.{2 * step}', conv_norm(channels, channels if step else into, 3))
    return keys


def _uper_head(shapes, channels, levels):
    scales = shapes.count('psp_modules')
    keys = {}
    for scale in range(scales):
        keys |= under(f'psp_modules.{scale}.1', conv_norm(channels, levels[-1]))
    for level, into in enumerate(levels[:-1]):
        keys |= under(f'lateral_convs.{level}', conv_norm(channels, into))
        keys |= under(f'fpn_convs.{level}', conv_norm(channels, channels, 3))
    keys |= under('bottleneck', conv_norm(channels, levels[-1] + scales * channels, 3))
    return keys | under('fpn_bottleneck', conv_norm(channels, len(levels) * channels, 3))


def auxiliary_head(shapes, settings, levels):
    """3x3 convolutions and a classifier on one backbone level (mmseg 0.x)."""
    settings['auxiliary_head'] = 'FCNHead'
    channels = shapes.size('conv_seg.weight', 1)
    classes = settings.setdefault('num_classes', shapes.size('conv_seg.weight', 0))
    into = shapes.size('convs.0.conv.weight', 1)
    keys = under('conv_seg', conv(classes, channels))
    for index in range(shapes.count('convs')):
        keys |= under(f'convs.{index}', conv_norm(channels, channels if index else into, 3))
    return keys


# In this order: a part that shares the number of classes with another comes after the one that decides it.
PARTS = {
    'head.': classifier,
    'neck.': neck,
    'rpn_head.': rpn_head,
    'roi_head.bbox_head.': box_head,
    'roi_head.mask_head.': mask_head,
    'bbox_head.': retina_head,
    'decode_head.': decode_head,
    'auxiliary_head.': auxiliary_head,
}
