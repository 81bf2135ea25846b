import pytest
from narrow import WIDTHS, classifier

from mmext.convert import ConversionError, convert
from mmext.convert.config_check import check_against_config


@pytest.fixture
def config(tmp_path):
    """A classifier with the widths of the small checkpoints, told to start from a file that does not exist."""
    backbone = dict(type='mmext.RedNet', depth=26, out_indices=(3,), **WIDTHS)
    backbone['init_cfg'] = dict(type='Pretrained', checkpoint='absent.pth')
    head = dict(type='LinearClsHead', in_channels=256, num_classes=5, loss=dict(type='CrossEntropyLoss'))
    model = dict(type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'), head=head)
    path = tmp_path / 'config.py'
    path.write_text(
        "custom_imports = dict(imports=['mmpretrain.models'], allow_failed_imports=False)\n"
        f"default_scope = 'mmpretrain'\nmodel = {model!r}\n"
    )
    return path


def test_a_checkpoint_that_fits(config):
    state_dict, report = convert(classifier(), 'involution')
    check_against_config(state_dict, report, config)
    assert report.missing == []


def test_the_other_stem_names_the_setting(config):
    state_dict, report = convert(classifier(stem_kernel=3), 'involution')
    with pytest.raises(ConversionError, match=r'does not fit .*config\.py: .*--cfg-options model\.backbone\.stem_ker'):
        check_against_config(state_dict, report, config)
    check_against_config(state_dict, report, config, {'model.backbone.stem_kernel': 3})


def test_another_width_is_named(config):
    state_dict, report = convert(classifier(), 'involution')
    with pytest.raises(
        ConversionError, match=r'head\.fc\.weight \(\[5, 256\], the network needs \[7, 256\]\).* config of'
    ):
        check_against_config(state_dict, report, config, {'model.head.num_classes': 7})


def test_keys_of_one_side_only(config):
    state = {key: value for key, value in classifier().items() if not key.startswith('head.')}
    state_dict, report = convert(state, 'involution')
    with pytest.raises(ConversionError, match=r'the checkpoint lacks 2 keys: head\.fc\.weight, head\.fc\.bias'):
        check_against_config(state_dict, report, config)
    check_against_config(state_dict, report, config, allow_missing=True)
    assert report.missing == ['head.fc.weight', 'head.fc.bias']

    state_dict, report = convert(classifier(), 'involution')
    with pytest.raises(ConversionError, match=r'the network has no place for 2 keys: head\.fc\.weight'):
        check_against_config(state_dict, report, config, {'model.head': None}, allow_missing=True)


def test_a_config_without_a_model(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('lr = 0.1\n')
    with pytest.raises(ConversionError, match='has no model; give the config of a whole network'):
        check_against_config(*convert(classifier(), 'involution'), path)
