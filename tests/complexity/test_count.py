"""The own convention, against a count by hand and against the reference's, and mistakes in the arguments."""

import pytest
from by_hand import rednet26
from involution_facts import config, each_row
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope

from mmext import zoo
from mmext.complexity import complexity

REDNET26 = 'rednet26_64xb32-130e_in1k'


def test_rednet26_by_hand():
    found = complexity(REDNET26)
    convolution, aggregation, parameters = rednet26(224)
    assert found.parts['backbone'].multiply_adds == dict(convolution=convolution, aggregation=aggregation, rest=0)
    assert found.parts['backbone'].parameters == parameters
    assert found.parts['head'].multiply_adds == dict(convolution=0, aggregation=0, rest=2048 * 1000)
    assert found.parts['head'].parameters == 2049 * 1000
    assert found.counted_parameters == found.parameters == found.trainable == parameters + 2049 * 1000
    assert found.multiply_adds == convolution + aggregation + 2048 * 1000


@each_row
def test_own_count_against_the_reference(fact):
    written = fact['code_as_written']
    cfg = config(fact)
    cfg.model.backbone.stem_kernel = written['stem_involution_kernel']
    found = complexity(cfg)
    kinds = [part.three_kinds for part in found.parts.values()]
    convolution, aggregation, rest = (sum(column) for column in zip(*kinds))
    assert aggregation == written['involution_aggregation_macs']
    # the reference counts classifiers without their last layer, which is the only matrix product there
    assert convolution + (rest if fact['task'] == 'det' else 0) == written['conv_linear_deconv_macs']
    assert rest == (2048 * 1000 if fact['task'] == 'cls' else written['breakdown'].get('linear', 0))
    assert convolution + aggregation + rest == found.multiply_adds
    assert (found.parameters, found.trainable) == (fact['params_total'], fact['params_trainable'])


def test_parts_of_a_segmentor():
    found = complexity('upernet_red50_conv-neck_4xb2-80k_cityscapes-512x1024')
    assert list(found.parts) == ['backbone', 'decode_head', 'auxiliary_head']
    auxiliary = found.parts['auxiliary_head']
    assert auxiliary.parameters == 9 * 1024 * 256 + 2 * 256 + (256 + 1) * 19  # 3x3 to 256, norm, 1x1 to 19 classes
    assert auxiliary.multiply_adds == {}
    assert found.multiply_adds == sum(part.total for part in found.parts.values())


def test_half_the_height_is_half_the_count():
    cfg = zoo.get_config('fpn_red50_inv-neck_4xb2-80k_cityscapes-512x1024')
    whole, half = complexity(cfg), complexity(cfg, shape=[512, 2048])
    assert half.shape == (512, 2048)
    assert 2 * half.multiply_adds == whole.multiply_adds
    assert half.parameters == whole.parameters


def test_parts_of_a_cascade():
    found = complexity(get_config('mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'), shape=(320, 320))
    boxes = [f'roi_head.bbox_head.{stage}' for stage in range(3)]
    masks = [f'roi_head.mask_head.{stage}' for stage in range(3)]
    assert list(found.parts) == ['backbone', 'neck', 'rpn_head', *boxes, *masks]
    for name in boxes:  # 1000 regions of 7x7 pixels, two layers of 1024, 81 classes, 4 offsets for all of them
        assert found.parts[name].total == 1000 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 4))
    for name in masks:  # 100 regions of 14x14 pixels; 80 masks of 28x28
        mask = 4 * 9 * 256 * 256 * 14**2 + 4 * 256 * 256 * 14**2 + 256 * 80 * 28**2
        assert found.parts[name].total == 100 * mask


def test_parts_of_a_cascaded_segmentor():
    cfg = get_config('mmseg::ocrnet/ocrnet_r101-d8_8xb2-40k_cityscapes-512x1024.py')
    found = complexity(cfg, shape=(64, 64))
    assert list(found.parts) == ['backbone', 'decode_head.0', 'decode_head.1']
    assert all(part.total for part in found.parts.values())


def test_leaves_the_default_scope_alone():
    with DefaultScope.overwrite_default_scope('mmdet'):
        complexity(REDNET26)
        assert DefaultScope.get_current_instance().scope_name == 'mmdet'


def alexnet(num_classes=10):
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='AlexNet'),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=256),
    )
    return Config(dict(default_scope='mmpretrain', model=model))


def test_takes_no_memory_for_weights():
    assert complexity(alexnet(10**9)).parts['head'].parameters == 257 * 10**9  # a terabyte


def test_image_too_small():
    assert complexity(alexnet(), shape=(64, 64)).shape == (64, 64)
    message = r'ImageClassifier cannot be run part by part on an image of 16 x 16 pixels: .*the default is 224 x 224'
    with pytest.raises(ValueError, match=message):
        complexity(alexnet(), shape=(16, 16))


@pytest.mark.parametrize('shape', [(0, 224), (224,), (224, 224.0), (True, 224), (-1, 5), ('7', '7')])
def test_bad_shape(shape):
    with pytest.raises(ValueError, match='must be a height and a width in pixels, integers of at least 1'):
        complexity(REDNET26, shape=shape)


def test_bad_convention():
    with pytest.raises(ValueError, match="convention='theirs' is unknown; choose one of own, published"):
        complexity(REDNET26, convention='theirs')


def test_bad_counting():
    with pytest.raises(ValueError, match="counting is for convention='published' only"):
        complexity(REDNET26, counting={})
    with pytest.raises(ValueError, match='counting has stem; it may have stem_kernel, leave_out'):
        complexity(REDNET26, convention='published', counting=dict(stem=3))
    with pytest.raises(ValueError, match=r'leave_out names roi_head\.mask, which ImageClassifier does not have'):
        complexity(REDNET26, convention='published', counting=dict(leave_out=['roi_head.mask']))


def test_no_such_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no config .*none\.py; give the path of one, or the name'):
        complexity(tmp_path / 'none.py')
    with pytest.raises(KeyError, match=f"no model 'rednet26_in1k': did you mean '{REDNET26}'"):
        complexity('rednet26_in1k')


def test_config_without_a_model(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('x = 1\n')
    with pytest.raises(ValueError, match=r'config\.py has no `model`; give the config of a whole model'):
        complexity(path)


def test_unknown_kind_of_model():
    cfg = Config(dict(model=dict(type='mmext.RedNet', depth=26)))
    with pytest.raises(ValueError, match=r'RedNet is of no kind whose parts .* known are: image classifier of mmpre'):
        complexity(cfg)
