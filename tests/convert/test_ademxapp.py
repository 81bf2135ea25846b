import hashlib
import logging
import os

import mxnet_writer
import numpy as np
import pytest
import torch
import wider
import wider_golden
from mmengine.model import BaseModule
from running import ROOT

from mmext.convert import ConversionError, convert, read_checkpoint
from mmext.convert import ademxapp as formats
from mmext.convert.config_check import check_against_config
from mmext.convert.mxnet_params import MXNetParamsError
from mmext.convert.writing import write_checkpoint
from mmext.models import WiderResNet

CONFIGS = ROOT / 'configs' / 'wider_resnet'


def empty(shapes):
    """Tensors of these shapes that take no memory."""
    return {key: torch.zeros(shape) for key, shape in shapes.items()}


def save(path, state, version=0):
    return mxnet_writer.write(path, state, version)


@pytest.fixture
def path(tmp_path):
    return save(tmp_path / 'small.params', wider.classifier())


@pytest.mark.parametrize('name', wider.GOLDEN_CASES)
def test_every_key_of_a_golden_case(name):
    shapes = wider.listed(name)
    segments = name.startswith('fcn')
    converted, report = convert(empty(shapes), 'ademxapp')
    assert report.mapped == {key: wider.our_key(key, segments) for key in shapes}
    assert report.dropped == {}
    assert report.missing == []
    for key, shape in shapes.items():
        assert tuple(converted[wider.our_key(key, segments)].shape) == shape
    assert sorted(report.filled) == sorted(key for key in converted if key.endswith(wider.COUNTER))
    assert len(report.filled) == 37
    assert len(converted) == len(shapes) + 37
    settings = dict(arch='A, A1 or A2', width=1.0, in_channels=3)
    classes = wider_golden.Case(name)['options'].get('classes')
    if segments:
        settings |= dict(decode_head='DilatedFCNHead', num_classes=classes, channels=512)
    else:
        settings |= dict(head='LinearClsHead', num_classes=classes) if classes else dict(part='backbone alone')
    assert report.architecture == settings


@pytest.mark.parametrize(
    ('case', 'config'),
    [
        ('a_cls1000_s32_default', 'wider-resnet38-a_4xb64-90e_in1k'),
        ('a1_cls1000_s32_even', 'wider-resnet38-a1_4xb64-90e_in1k'),
        ('fcn_a1_cls19_s8', 'fcn_wider-resnet38-a1-d8_4xb4-26k_cityscapes-500x500'),
        ('fcn_a1_cls21_s8', 'fcn_wider-resnet38-a1-d8_4xb4-30k_voc12aug-500x500'),
        ('fcn_a1_cls150_s8', 'fcn_wider-resnet38-a1-d8_4xb4-80k_ade20k-500x500'),
    ],
)
def test_a_published_network_fills_the_model_of_its_config(case, config):
    converted, report = convert(empty(wider.listed(case)), 'ademxapp')
    check_against_config(converted, report, CONFIGS / f'{config}.py')
    assert report.missing == []


@pytest.mark.parametrize('version', [0, 1, 2, 3])
def test_a_narrow_file_in_every_version(tmp_path, version):
    torch.manual_seed(1)
    network = wider.Classifier()
    converted, report = convert(save(tmp_path / 'x.params', wider.classifier(), version), 'ademxapp')
    assert report.architecture == dict(
        arch='A, A1 or A2', width=wider.WIDTH, in_channels=3, head='LinearClsHead', num_classes=5
    )
    assert list(converted) == list(network.state_dict())
    for key, value in network.state_dict().items():
        assert torch.equal(converted[key], value)
        assert converted[key].dtype == value.dtype
    other = wider.Classifier()
    image = torch.rand(1, 3, 64, 64)
    assert not torch.equal(other(image), network(image))
    other.load_state_dict(converted, strict=True)
    assert torch.equal(other(image), network(image))


@pytest.mark.parametrize('width', [1.0, 0.5, 0.25, 1 / 8, 0.1, 0.3, 0.07, 1 / 3, 1.25, 2.0])
def test_the_width_is_read_off_the_shapes(width):
    with torch.device('meta'):
        backbone = WiderResNet('A1', width=width, in_channels=4)
    names = {wider.our_key(name): name for name in wider.listed('a1_feat_s8')}
    shapes = {f'backbone.{key}': value.shape for key, value in backbone.state_dict().items()}
    state = empty({names[key]: shape for key, shape in shapes.items() if key in names})
    converted, report = convert(state, 'ademxapp')
    assert report.architecture['in_channels'] == 4
    assert {key: value.shape for key, value in converted.items()} == shapes
    assert report.architecture['width'] == pytest.approx(width, abs=1e-4)
    if width >= 0.1 and width != 1 / 3:
        assert report.architecture['width'] == width


def test_a_segmentation_network(tmp_path):
    state = wider.segmentor()
    converted, report = convert(save(tmp_path / 'x.params', state), 'ademxapp')
    assert report.architecture['decode_head'] == 'DilatedFCNHead'
    assert (report.architecture['num_classes'], report.architecture['channels']) == (4, 8)
    for name, ours in (('conv6a', 'decode_head.convs.0.conv'), ('linear4', 'decode_head.conv_seg')):
        for what in ('weight', 'bias'):
            assert converted[f'{ours}.{what}'].numpy().tobytes() == state[f'arg:{name}_{what}'].tobytes()


def test_features_alone():
    state = {key: value for key, value in wider.classifier().items() if 'linear' not in key}
    converted, report = convert(state, 'ademxapp')
    assert report.architecture['part'] == 'backbone alone'
    assert all(key.startswith('backbone.') for key in converted)
    assert report.missing == []


def test_arrays_of_any_kind_and_tensors():
    state = wider.classifier()
    wanted, _ = convert(state, 'ademxapp')
    others = dict(state)
    weight = 'arg:res2a_branch2a_weight'
    others[weight] = np.asfortranarray(state[weight]).astype('>f4')
    others['arg:linear5_bias'] = state['arg:linear5_bias'][::-1].copy()[::-1]
    others['arg:bn7_beta'] = torch.from_numpy(state['arg:bn7_beta'])
    others['arg:bn7_gamma'].flags.writeable = False
    found, _ = convert(others, 'ademxapp')
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    others['arg:bn7_beta'] = np.array(['a', 'b'])
    with pytest.raises(ConversionError, match=r'arg:bn7_beta is an array of <U1, which PyTorch does not have'):
        convert(others, 'ademxapp')
    others['arg:bn7_beta'] = [1, 2]
    with pytest.raises(ConversionError, match=r"other things than tensors under 1 key: 'arg:bn7_beta' \(list\)"):
        convert(others, 'ademxapp')


def test_report(path):
    text = str(convert(path, 'ademxapp')[1])
    assert 'source   ademxapp\n' in text
    assert 'mapped   193 of 193 keys\n' in text
    assert 'filled   37 keys: backbone.level2.0.bn1.num_batches_tracked, ' in text
    assert 'MXNet does not count batches' in text
    assert text.endswith('missing  none')


def test_a_converted_file_converts_to_itself(path, tmp_path):
    for state in (path, save(tmp_path / 'fcn.params', wider.segmentor())):
        first = write_checkpoint(*convert(state, 'ademxapp'), tmp_path / 'first.pth')
        converted, report = convert(first, 'ademxapp')
        assert report.filled == {}
        (tmp_path / 'again').mkdir(exist_ok=True)
        second = write_checkpoint(converted, report, tmp_path / 'again' / 'second.pth')
        assert second.read_bytes() == first.read_bytes()


def init_cfg(path, prefix='backbone.'):
    return dict(type='mmext.PublishedCheckpoint', source='ademxapp', checkpoint=str(path), prefix=prefix)


def check(module, converted, prefix='backbone.'):
    for key, value in module.state_dict().items():
        assert torch.equal(value, converted[prefix + key]), key


@pytest.mark.parametrize(
    ('out_indices', 'unused'),
    # five keys for each norm and one for each convolution: 12 or 18 for a block, one more for its shortcut
    [((6,), 0), ((0, 2, 6), 0), ((5,), 24), ((4,), 43), ((2, 3), 80), ((0,), 227)],
)
def test_init_cfg_of_a_backbone(path, caplog, out_indices, unused):
    converted, _ = convert(path, 'ademxapp')
    model = WiderResNet('A1', width=wider.WIDTH, out_indices=out_indices, init_cfg=init_cfg(path))
    with caplog.at_level(logging.DEBUG, 'mmext.convert.published_checkpoint'):
        model.init_weights()
    check(model, converted)
    assert len(model.state_dict()) == 228 - unused
    assert (f'stages are not built: {unused} keys: ' in caplog.text) is (unused > 0)


def test_init_cfg_of_a_whole_network(path):
    converted, _ = convert(path, 'ademxapp')
    model = BaseModule(init_cfg(path, prefix=None))
    network = wider.Classifier()
    model.backbone, model.head = network.backbone, network.head
    model.init_weights()
    check(model, converted, prefix='')


def test_init_cfg_of_another_width(path):
    model = WiderResNet('A1', width=1 / 32, init_cfg=init_cfg(path))
    with pytest.raises(ConversionError, match=r'does not fill WiderResNet: shapes differ in .*set width=0\.015625 to'):
        model.init_weights()


def test_the_width_of_a_config_is_named():
    converted, report = convert(empty(wider.listed('a1_cls1000_s32_even')), 'ademxapp')
    config = CONFIGS / 'wider-resnet38-a1_4xb64-90e_in1k.py'
    options = {'model.backbone.width': 0.5, 'model.head.in_channels': 2048}
    with pytest.raises(ConversionError, match=r'--cfg-options model\.backbone\.width=1\.0\)'):
        check_against_config(converted, report, config, options)


@pytest.mark.parametrize(
    ('gone', 'ours'),
    [
        ('aux:bn3b1_branch2b1_moving_mean', 'backbone.level3.1.bn2.running_mean'),
        ('arg:conv1a_weight', 'backbone.conv1.weight'),
        ('arg:res2a_branch1_weight', 'backbone.level2.0.shortcut.weight'),
        ('arg:res7a_branch2b2_weight', 'backbone.level7.0.conv3.weight'),
        ('arg:linear5_bias', 'head.fc.bias'),
        ('arg:linear5_weight', 'head.fc.weight'),
    ],
)
def test_a_missing_array(gone, ours):
    state = wider.classifier()
    del state[gone]
    with pytest.raises(ConversionError, match=rf'the checkpoint lacks 1 key: {ours}\. Read as ademxapp.*allow-missing'):
        convert(state, 'ademxapp')
    converted, report = convert(state, 'ademxapp', allow_missing=True)
    assert report.missing == [ours]
    assert len(converted) == 193 - 1 + 37


def test_a_whole_level_that_is_missing():
    state = {key: value for key, value in wider.classifier().items() if '5a_' not in key}
    with pytest.raises(ConversionError, match=r'lacks 11 keys: backbone\.level5\.0\.bn1\.weight'):
        convert(state, 'ademxapp')


@pytest.mark.parametrize('gone', ['weight', 'bias'])
@pytest.mark.parametrize('name', ['conv6a', 'linear4'])
def test_a_missing_array_of_a_segmentation_head(name, gone):
    state = wider.segmentor()
    del state[f'arg:{name}_{gone}']
    ours = dict(conv6a='convs.0.conv', linear4='conv_seg')[name]
    with pytest.raises(ConversionError, match=rf'lacks 1 key: decode_head\.{ours}\.{gone}\.'):
        convert(state, 'ademxapp')


@pytest.mark.parametrize(
    ('name', 'shape', 'message'),
    [
        ('arg:res4b3_branch2b1_weight', (8, 7, 3, 3), r'level4\.3\.conv2\.weight \(\[8, 7, 3, 3\], .*\[8, 8, 3, 3\]'),
        ('arg:res2a_branch1_weight', (9, 1, 1, 1), r'level2\.0\.shortcut\.weight \(\[9, 1, 1, 1\], .*\[2, 1, 1, 1\]'),
        ('arg:bn7_gamma', (63,), r'bn7\.weight \(\[63\], the network needs \[64\]'),
        ('aux:bn7_moving_var', (64, 1), r'bn7\.running_var \(\[64, 1\]'),
        ('arg:linear5_weight', (4, 64), r'head\.fc\.weight \(\[4, 64\], the network needs \[5, 64\]'),
        ('arg:linear5_bias', (6,), r'head\.fc\.bias \(\[6\], the network needs \[5\]'),
        ('arg:conv1a_weight', (1, 3, 5, 5), r'conv1\.weight \(\[1, 3, 5, 5\], the network needs \[1, 3, 3, 3\]'),
        ('arg:conv1a_weight', (), r'conv1\.weight \(\[\], the network needs \[1, 3, 3, 3\]'),
    ],
)
def test_a_wrong_shape_is_named(name, shape, message):
    state = wider.classifier()
    assert name in state
    state[name] = np.zeros(shape, 'float32')
    with pytest.raises(ConversionError, match=rf'shapes differ in 1 key: \S*{message}'):
        convert(state, 'ademxapp', allow_missing=True)


@pytest.mark.parametrize(
    'name',
    [
        'arg:linear7_weight',
        'arg:linear1234567890_weight',
        'arg:bn2a_branch2a_moving_mean',
        'aux:bn2a_branch2a_num_batches_tracked',
        'arg:res2b3_branch2a_weight',
        'arg:res2b1_branch1_weight',
        'arg:res6a_branch2b3_weight',
        'arg:data',
        'conv1a_weight',
    ],
)
def test_unknown_arrays_are_named(name):
    with pytest.raises(ConversionError, match=rf'the network has no place for 1 key: {name}\.'):
        convert({**wider.classifier(), name: np.zeros((7, 64), 'float32')}, 'ademxapp', allow_missing=True)


def test_unknown_keys_of_a_converted_file(path):
    converted, _ = convert(path, 'ademxapp')
    with pytest.raises(ConversionError, match=r'no place for 1 key: head\.layers\.0\.weight'):
        convert({**converted, 'head.layers.0.weight': torch.ones(1)}, 'ademxapp')


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['arg:stage1_unit1_conv1_weight'], r'where a Wider-ResNet has arg:conv1a_weight; give a Wider-ResNet'),
        (['conv1a_weight', 'bn7_beta'], 'names start with arg: or aux: in a checkpoint; give the file as published'),
        (['conv1a.weight', 'fc8.weight'], "it has the names of the psa project; choose the source 'psa'"),
        (
            ['backbone.layer1.0.conv1.weight', 'backbone.conv1.weight'],
            'it is of another network; choose the source that fits',
        ),
    ],
)
def test_another_architecture(names, message):
    with pytest.raises(ConversionError, match=f'no checkpoint of the ademxapp project: it has .*{message}'):
        convert({name: np.ones(1) for name in names}, 'ademxapp', allow_missing=True)


def test_files_of_other_formats(tmp_path, path):
    torch.save(wider.Classifier().state_dict(), tmp_path / 'ours.pth')
    torch.save({'conv1a.weight': torch.ones(1)}, tmp_path / 'psa.pth')
    torch.save([1], tmp_path / 'list.pth', _use_new_zipfile_serialization=False)
    for name in ('psa.pth', 'list.pth'):
        with pytest.raises(ConversionError, match=r'is a PyTorch checkpoint, .* MXNet .params files; give .*psa'):
            convert(tmp_path / name, 'ademxapp')
    for source in ('involution', 'ic-conv', 'psa'):
        with pytest.raises(ConversionError, match=r"small\.params is an MXNet .params file, .* source 'ademxapp'"):
            convert(path, source)
    with pytest.raises(ConversionError, match=r"an MXNet .params file, .* source 'ademxapp'"):
        read_checkpoint(path)
    (tmp_path / 'page.params').write_bytes(b'<html>404 not found</html>')
    with pytest.raises(MXNetParamsError, match=r'no MXNet \.params file: it starts with 0x'):
        convert(tmp_path / 'page.params', 'ademxapp')
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(MXNetParamsError, match='cut short'):
        convert(path, 'ademxapp')
    with pytest.raises(ConversionError, match=r'list\.params: .* where a Wider-ResNet has arg:conv1a_weight'):
        convert(mxnet_writer.write(tmp_path / 'list.params', {'0': np.ones(1)}), 'ademxapp')
    with pytest.raises(ConversionError, match='holds no tensors'):
        convert(mxnet_writer.write(tmp_path / 'none.params', {}), 'ademxapp')
    with pytest.raises(FileNotFoundError, match='there is no file'):
        convert(tmp_path / 'absent.params', 'ademxapp')
    with pytest.raises(IsADirectoryError, match='is a folder'):
        convert(tmp_path, 'ademxapp')


@pytest.fixture
def known(path, monkeypatch):
    """The path of a small file that counts as published."""
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(formats.PUBLISHED_MD5, 'voc_rna-a1_cls21_s8_ep-0001.params', digest)
    return path


def test_the_published_sums():
    sums = formats.PUBLISHED_MD5
    assert len(sums) == len(set(sums.values())) == 6
    assert sums['ilsvrc-cls_rna-a1_cls1000_ep-0001.params'] == 'ff21f45d6bf03284100dcbec571edfad'
    for name, digest in sums.items():
        assert name.endswith('_ep-0001.params')
        assert len(digest) == 32
        assert int(digest, 16)


def test_verify(known):
    _, report = convert(known, 'ademxapp', verify=True)
    assert report.verified == 'voc_rna-a1_cls21_s8_ep-0001.params'
    assert str(report).endswith('verified voc_rna-a1_cls21_s8_ep-0001.params, by its MD5 sum')
    known.rename(known.with_name('cityscapes_rna-a1_cls19_s8_ep-0001.params'))
    _, report = convert(known.with_name('cityscapes_rna-a1_cls19_s8_ep-0001.params'), 'ademxapp', verify=True)
    assert report.verified == 'voc_rna-a1_cls21_s8_ep-0001.params'
    assert convert(known.with_name('cityscapes_rna-a1_cls19_s8_ep-0001.params'), 'ademxapp')[1].verified == ''


def test_verify_refuses_other_files(known):
    content = bytearray(known.read_bytes())
    content[5000] ^= 1
    known.write_bytes(content)
    size = os.path.getsize(known)
    message = (
        rf'small\.params \({size} bytes\) is none of the published files: its MD5 sum is [0-9a-f]{{32}}, known are '
        r'2421c1945b6797cecd3f89db14ca73f6 ilsvrc-cls_rna-a_cls1000_ep-0001\.params, .*; download it again, or leave'
    )
    with pytest.raises(ConversionError, match=message):
        convert(known, 'ademxapp', verify=True)
    assert convert(known, 'ademxapp')[1].missing == []


def test_verify_where_nothing_is_published(path):
    with pytest.raises(ConversionError, match='a mapping has no MD5 sum; give the path'):
        convert(wider.classifier(), 'ademxapp', verify=True)
    for source in ('psa', 'involution', 'ic-conv'):
        with pytest.raises(ConversionError, match=f"source '{source}' has no published MD5 sums"):
            convert(path, source, verify=True)
    with pytest.raises(FileNotFoundError, match='there is no file'):
        convert(path.with_name('absent.params'), 'ademxapp', verify=True)
