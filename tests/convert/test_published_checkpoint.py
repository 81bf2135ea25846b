import logging

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.config import Config
from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS, init_default_scope
from narrow import WIDTHS, classifier, rednet
from running import ROOT
from torch import nn

from mmext.convert import ConversionError, convert
from mmext.convert.writing import write_checkpoint
from mmext.layers import Involution
from mmext.models import InvolutionFPN


def init_cfg(path, prefix='backbone.', **more):
    return dict(type='mmext.PublishedCheckpoint', source='involution', checkpoint=str(path), prefix=prefix, **more)


def save(path, state):
    torch.save(dict(meta=dict(epoch=130), state_dict=state), path)
    return path


@pytest.fixture
def path(tmp_path):
    return save(tmp_path / 'published.pth', classifier())


def check(module, state, prefix='backbone.'):
    """Every value of the module is that of the checkpoint."""
    found = module.state_dict()
    assert found
    for key, value in found.items():
        assert torch.equal(value, state[prefix + key]), key


class Detector(BaseModule):
    """What a detector is to mmengine: parts that have initialisations of their own, in modules that have others."""

    def __init__(self, backbone, init_cfg=None):
        super().__init__(init_cfg)
        self.backbone = backbone
        self.neck = InvolutionFPN([32, 64, 128, 256], 32, 4)
        self.head = ModuleList([ConvModule(32, 32, 3), nn.Conv2d(32, 4, 1)])
        self.head.init_cfg = dict(type='Constant', layer='Conv2d', val=5)


def test_backbone_alone(path):
    model = rednet(init_cfg=init_cfg(path))
    model.init_weights()
    check(model, classifier())


def test_backbone_in_a_detector(path):
    model = Detector(rednet(init_cfg=init_cfg(path)), init_cfg=dict(type='Constant', layer='BatchNorm2d', val=7))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()
    check(model.backbone, classifier())
    # the other parts have got theirs
    assert (model.head[1].weight == 5).all()
    assert not torch.equal(model.neck.lateral_convs[0].conv.weight, before['neck.lateral_convs.0.conv.weight'])


@pytest.mark.parametrize('stem_kernel', [3, 7])
def test_backbone_of_a_config_in_mmdet(tmp_path, stem_kernel):
    state = classifier(stem_kernel=stem_kernel)
    save(tmp_path / 'published.pth', state)
    cfg = Config.fromfile(ROOT / 'configs/involution/faster-rcnn_red50_fpn-inv-neck_inv-head_1x_coco.py')
    init_default_scope(cfg.default_scope)
    backbone = dict(type='mmext.RedNet', depth=26, stem_kernel=stem_kernel, frozen_stages=1, **WIDTHS)
    cfg.model.backbone = dict(backbone, init_cfg=init_cfg(tmp_path / 'published.pth'))
    cfg.model.neck.in_channels = [32, 64, 128, 256]
    model = MODELS.build(cfg.model)
    model.init_weights()
    check(model.backbone, state)
    assert not any(parameter.requires_grad for parameter in model.backbone.layer1.parameters())
    assert model.rpn_head.rpn_cls.weight.std().item() == pytest.approx(0.01, rel=0.2)


def test_a_whole_network(path):
    state = classifier()

    class Head(BaseModule):
        def __init__(self):
            super().__init__(init_cfg=dict(type='Normal', layer='Linear', std=0.01))
            self.fc = nn.Linear(256, 5)

    class Classifier(BaseModule):
        def __init__(self, init_cfg):
            super().__init__(init_cfg)
            self.backbone = rednet()
            self.head = Head()

    model = Classifier(init_cfg(path, prefix=None))
    model.init_weights()
    check(model, state, prefix='')
    model.init_weights()
    check(model, state, prefix='')


def test_after_other_initialisers(path):
    kaiming = dict(type='Kaiming', layer='Conv2d')
    model = rednet(init_cfg=[kaiming, init_cfg(path)])
    model.init_weights()
    check(model, classifier())


def test_a_converted_file(tmp_path):
    state = classifier()
    path = write_checkpoint(*convert(state, 'involution'), tmp_path / 'red.pth')
    model = rednet(init_cfg=init_cfg(path))
    model.init_weights()
    check(model, state)


def test_a_backbone_file_without_prefix(tmp_path):
    state = classifier()
    path = save(
        tmp_path / 'backbone.pth',
        {key[len('backbone.') :]: value for key, value in state.items() if key.startswith('backbone.')},
    )
    model = rednet(init_cfg=init_cfg(path))
    model.init_weights()
    check(model, state)


@pytest.mark.parametrize('options', [dict(num_stages=2, out_indices=(1,)), dict(out_indices=(0, 1)), dict()])
def test_stages_that_are_frozen_or_not_built(path, caplog, options):
    model = rednet(frozen_stages=2, init_cfg=init_cfg(path), **options)
    with caplog.at_level(logging.DEBUG, 'mmext.convert.published_checkpoint'):
        model.init_weights()
    check(model, classifier())
    # 25 keys for each of the five blocks of the third and fourth stage, 6 for each of their two shortcuts
    assert ('stages are not built: 137 keys: layer3.0.conv1.weight' in caplog.text) is ('num_stages' in options)
    assert not any(parameter.requires_grad for parameter in model.layer2.parameters())


def test_stages_that_are_not_built_in_a_whole_network(tmp_path):
    state = {key: value for key, value in classifier().items() if key.startswith('backbone.')}
    model = BaseModule(init_cfg(save(tmp_path / 'published.pth', state), prefix=None))
    model.backbone = rednet(num_stages=3, out_indices=(2,))
    model.init_weights()
    check(model, state, prefix='')


def test_what_a_part_does_not_need_may_lack(tmp_path):
    state = classifier()
    del state['head.fc.bias']
    model = rednet(init_cfg=init_cfg(save(tmp_path / 'published.pth', state)))
    model.init_weights()
    check(model, state)


def test_the_other_stem_names_the_setting(tmp_path):
    path = save(tmp_path / 'published.pth', classifier(stem_kernel=3))
    model = rednet(init_cfg=init_cfg(path))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ConversionError, match=r'does not fill RedNet: shapes differ in 2 keys.*set stem_kernel=3 to'):
        model.init_weights()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_keys_that_the_checkpoint_lacks(tmp_path):
    state = classifier()
    del state['backbone.layer4.0.bn3.weight']
    path = save(tmp_path / 'published.pth', state)
    with pytest.raises(
        ConversionError, match=r'lacks 1 key: layer4\.0\.bn3\.weight; correct .*`mmext convert` and use'
    ):
        rednet(init_cfg=init_cfg(path)).init_weights()


@pytest.mark.parametrize(
    ('prefix', 'message'),
    [
        (None, r'prefix=None does not fill RedNet: the network has no place for 245 keys: backbone\.stem'),
        ('head.', r"prefix='head\.' does not fill RedNet"),
        ('model.', r"no key that starts with prefix='model\.'; its keys start with backbone\., head\."),
    ],
)
def test_wrong_prefixes(path, prefix, message):
    with pytest.raises(ConversionError, match=message):
        rednet(init_cfg=init_cfg(path, prefix)).init_weights()


def test_files_and_formats_that_do_not_exist(tmp_path, path):
    with pytest.raises(FileNotFoundError, match=r'absent\.pth'):
        rednet(init_cfg=init_cfg(tmp_path / 'absent.pth')).init_weights()
    with pytest.raises(ConversionError, match="'involuton' is unknown"):
        rednet(init_cfg={**init_cfg(path), 'source': 'involuton'}).init_weights()


def test_layers_that_initialise_themselves_are_marked(path):
    model = rednet(init_cfg=init_cfg(path))
    model.init_weights()
    marked = [module for module in model.modules() if isinstance(module, (ConvModule, Involution))]
    assert len(marked) == 2 + 9 * 3  # the stem's convolutions, and nine involutions with two each
    assert all(module.is_init for module in marked)
