import golden
import pytest
import running
import torch
from mmdet.utils import register_all_modules

register_all_modules()

from mmext.det import InvolutionMaskHead, InvolutionRPNHead  # noqa: E402


def keys_and_shapes(module):
    return [(key, tuple(value.shape)) for key, value in module.state_dict().items()]


@pytest.fixture(scope='module')
def rpn_settings():
    from mmengine.config import Config

    row = 'configs/involution/faster-rcnn_red50_fpn-inv-neck_inv-head_1x_coco.py'
    head = Config.fromfile(running.ROOT / row).model.rpn_head
    return {key: value for key, value in head.items() if key not in ('type', '_scope_', 'in_channels', 'feat_channels')}


def test_rpn_head_golden(rpn_settings):
    case = golden.Case('involution', 'rpn_head')
    head = InvolutionRPNHead(case['options']['in_channels'], **rpn_settings)
    assert keys_and_shapes(head) == case.keys_and_shapes()
    case.load(head)
    with torch.no_grad():
        for name, level in case.inputs().items():
            cls_score, bbox_pred = head.forward_single(level)
            case.check(f'{name}/cls', cls_score)
            case.check(f'{name}/reg', bbox_pred)
    case.check_complete()


def test_rpn_head_has_the_published_keys(rpn_settings):
    case = golden.Case('involution', 'rpn_head_full_keys')
    assert keys_and_shapes(InvolutionRPNHead(256, feat_channels=256, **rpn_settings)) == case.keys_and_shapes()


def test_rpn_head_initialisation(rpn_settings):
    head = InvolutionRPNHead(256, **rpn_settings)
    head.init_weights()
    assert head.rpn_cls.weight.std().item() == pytest.approx(0.01, rel=0.15)
    assert head.rpn_reg.weight.std().item() == pytest.approx(0.01, rel=0.1)
    # Kaiming, fan out, as every ConvModule: 784 output channels
    assert head.rpn_conv.conv2.conv.weight.std().item() == pytest.approx((2 / 784) ** 0.5, rel=0.05)


def test_rpn_head_with_more_convolutions(rpn_settings):
    head = InvolutionRPNHead(32, num_convs=2, **rpn_settings).eval()
    assert [type(layer).__name__ for layer in head.rpn_conv] == ['Involution', 'ReLU', 'Involution']
    assert head.forward_single(torch.rand(1, 32, 7, 5))[0].shape == (1, 3, 7, 5)


def test_rpn_head_keeps_the_width(rpn_settings):
    with pytest.raises(ValueError, match='feat_channels=128 differs from in_channels=256'):
        InvolutionRPNHead(256, feat_channels=128, **rpn_settings)


def test_mask_head_golden():
    case = golden.Case('involution', 'mask_head')
    head = InvolutionMaskHead(**case['options'])
    assert keys_and_shapes(head) == case.keys_and_shapes()
    case.load(head)
    with torch.no_grad():
        case.check('mask_pred', head(case.inputs()['rois']))
    case.check_complete()


def test_mask_head_has_the_published_keys():
    case = golden.Case('involution', 'mask_head_full_keys')
    assert keys_and_shapes(InvolutionMaskHead(**case['options'])) == case.keys_and_shapes()


@pytest.mark.parametrize('training', [True, False])
def test_mask_head_takes_zero_rois(training):
    head = InvolutionMaskHead(in_channels=32, num_classes=5).train(training)
    rois = torch.zeros(0, 32, 14, 14, requires_grad=True)
    masks = head(rois)
    masks.sum().backward()
    assert masks.shape == (0, 5, 28, 28)
    assert rois.grad.shape == rois.shape
    bn = head.convs[0][0].conv1.bn
    assert torch.isfinite(bn.running_mean).all()
    assert torch.isfinite(bn.running_var).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


def test_mask_head_keeps_the_width():
    with pytest.raises(ValueError, match='conv_out_channels=128 differs from in_channels=256'):
        InvolutionMaskHead(in_channels=256, conv_out_channels=128)
