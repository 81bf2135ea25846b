import pickle
import subprocess
import sys

import golden
import pytest
import torch

import mmext
from mmext import zoo
from mmext.convert import convert

RED26 = 'rednet26_64xb32-130e_in1k'
DETECTOR = 'faster-rcnn_red50_fpn-inv-neck_inv-head_1x_coco'
SEGMENTOR = 'fpn_red50_inv-neck_4xb2-80k_cityscapes-512x1024'
RECOGNIZER = 'inflated-resnet50_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb'
SMALL = dict(backbone=dict(stem_channels=32, base_channels=32), head=dict(in_channels=1024, num_classes=10))


@pytest.fixture
def published(tmp_path):
    """The golden RedNet-26 classifier in a file as the original project published it, and its golden case."""
    case = golden.Case('involution', 'rednet26_classifier')
    path = tmp_path / 'rednet26.pth'
    torch.save({'state_dict': case.state_dict(), 'meta': {'epoch': 130}}, path)
    return case, path


def check_logits(model, case):
    with torch.no_grad():
        for key, x in case.inputs().items():
            case.check(f'{key}/logits', model(x))
    case.check_complete()


def test_list():
    names = mmext.list_models()
    assert len(names) == 54
    assert names == sorted(names)
    assert mmext.list_models('rednet5*') == ['rednet50_64xb32-130e_in1k']
    assert len(mmext.list_models('*red*')) == 16
    assert mmext.list_models('resnet*') == []


def test_the_lists_of_functions_agree():
    assert mmext.get_model is zoo.get_model
    with pytest.raises(AttributeError, match="'mmext' has no attribute 'get_modle'"):
        mmext.get_modle  # noqa: B018


def test_import_of_the_package_does_not_load_the_zoo():
    code = (
        "import sys, mmext; assert 'mmext.zoo' not in sys.modules; mmext.list_models; assert 'mmext.zoo' in sys.modules"
    )
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


@pytest.mark.parametrize('function', [zoo.get_entry, zoo.config_path, zoo.get_config, zoo.get_model])
def test_unknown_name(function):
    with pytest.raises(KeyError, match=f"mmext has no model 'rednet26': did you mean '{RED26}'"):
        function('rednet26')


def test_entries_are_copies():
    zoo.get_entry(RED26)['Metadata'].clear()
    assert zoo.get_entry(RED26)['Metadata']['Parameters'] == 9233886


def test_config():
    path = zoo.config_path(DETECTOR)
    assert path.is_absolute()
    assert path.name == f'{DETECTOR}.py'
    cfg = mmext.get_config(DETECTOR)
    assert cfg.filename == str(path)
    assert cfg.model.rpn_head.type == 'mmext.InvolutionRPNHead'
    assert cfg.optim_wrapper.clip_grad.max_norm == 5


def test_toolbox_is_missing(monkeypatch):
    monkeypatch.setattr(zoo.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"needs mmdet, which is not installed; run: pip install 'mmext\[det\]'"):
        mmext.get_model(DETECTOR)
    with pytest.raises(ImportError, match=r'mmext\[cls\]'):
        mmext.get_config(RED26)
    with pytest.raises(ImportError, match=r'mmext\[seg\]'):
        mmext.get_config(SEGMENTOR)
    with pytest.raises(ImportError, match=r'needs mmaction, which is not installed; run: pip install .mmext\[video\]'):
        mmext.get_config(RECOGNIZER)


def test_configs_are_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo, '__file__', str(tmp_path / 'mmext' / 'zoo.py'))
    with pytest.raises(FileNotFoundError, match='mmext came without its configs'):
        zoo.zoo_folder.__wrapped__()


@pytest.mark.parametrize(
    ('name', 'kind', 'classes'),
    [(RED26, 'ImageClassifier', 1000), (DETECTOR, 'FasterRCNN', 80), (SEGMENTOR, 'EncoderDecoder', 19)],
)
def test_model(name, kind, classes):
    model = mmext.get_model(name)
    assert type(model).__name__ == kind
    assert not model.training
    assert sum(p.numel() for p in model.parameters()) == zoo.get_entry(name)['Metadata']['Parameters']
    assert len(model.dataset_meta['classes']) == classes
    assert model.cfg.model.backbone.init_cfg is None
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])


def test_recognizer():
    model = mmext.get_model(RECOGNIZER, device='meta')
    assert type(model).__name__ == 'Recognizer3D'
    assert not model.training
    assert sum(p.numel() for p in model.parameters()) == zoo.get_entry(RECOGNIZER)['Metadata']['Parameters']
    assert model.cfg.model.backbone.pretrained is None


def test_device():
    model = mmext.get_model(RED26, device='meta', **SMALL)
    assert {value.device.type for value in model.state_dict().values()} == {'meta'}
    assert model.head.num_classes == 10


def test_published_checkpoint_gives_the_golden_logits(published):
    case, path = published
    model = mmext.get_model(RED26, path, source='involution', backbone=dict(stem_kernel=3))
    check_logits(model, case)


def test_converted_checkpoint_gives_the_golden_logits(published, tmp_path):
    case, path = published
    state_dict, _ = convert(path, 'involution')
    torch.save(dict(state_dict=state_dict), tmp_path / 'converted.pth')
    check_logits(mmext.get_model(RED26, tmp_path / 'converted.pth', backbone=dict(stem_kernel=3)), case)


def test_stem_of_another_size_names_the_setting(published):
    with pytest.raises(ValueError, match='set stem_kernel=3'):
        mmext.get_model(RED26, published[1], source='involution')


def test_checkpoint_of_another_network(published):
    with pytest.raises(
        ValueError, match=r'rednet26\.pth does not fit rednet38.*lacks \d+ keys: backbone\.layer1\.1\.conv1'
    ):
        mmext.get_model('rednet38_64xb32-130e_in1k', published[1], source='involution', backbone=dict(stem_kernel=3))


def test_checkpoint_lacks_a_key(tmp_path):
    state_dict = mmext.get_model(RED26, **SMALL).state_dict()
    del state_dict['head.fc.bias']
    torch.save(state_dict, tmp_path / 'model.pth')
    with pytest.raises(
        ValueError, match=rf'model\.pth does not fit {RED26}: the checkpoint lacks 1 key: head\.fc\.bias'
    ):
        mmext.get_model(RED26, tmp_path / 'model.pth', **SMALL)


def test_bad_files(tmp_path):
    path = tmp_path / 'model.pth'
    with pytest.raises(FileNotFoundError, match=r'model\.pth'):
        mmext.get_model(RED26, path, **SMALL)
    torch.save(mmext.get_model(RED26, **SMALL).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r'model\.pth .*cannot be read as a checkpoint'):
        mmext.get_model(RED26, path, **SMALL)
    path.write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(ValueError, match=r'model\.pth asks for .*print'):
        mmext.get_model(RED26, path, **SMALL)


def test_source_without_a_checkpoint():
    with pytest.raises(ValueError, match="source='involution' says how to read a checkpoint, and none is given"):
        mmext.get_model(RED26, source='involution')


def test_names_that_are_imported_at_first_use_are_listed():
    assert set(mmext.__all__) <= set(dir(mmext))
