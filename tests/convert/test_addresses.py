"""Checkpoints at addresses: where they are kept, what their names promise, and which names are known."""

import hashlib

import pytest
import torch
from serving import serve

from mmext.convert import ConversionError, read_checkpoint
from mmext.convert.addresses import cached_file, local_file, url_of
from mmext.models import InflatedResNet

STATE = {'a': torch.arange(3.0)}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path / 'torch' / 'hub' / 'checkpoints'


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / 'published'
    folder.mkdir()
    torch.save(STATE, folder / 'net.pth')
    return folder


def test_a_file_is_downloaded_once(published, cache):
    with serve(published) as (address, asked):
        for _ in range(2):
            assert torch.equal(read_checkpoint(f'{address}/net.pth')['a'], STATE['a'])
        assert asked == ['/net.pth']
        assert [path.name for path in cache.iterdir()] == ['net.pth']
        assert local_file(f'{address}/net.pth?download=1') == cache / 'net.pth'


def test_the_hash_in_a_name_is_that_of_the_file(published, cache):
    content = (published / 'net.pth').read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    good = [f'net-{digest[:8]}.pth', f'net_2021-{digest}.pth', 'net_8xb32-20210524.pth', 'net-2d.pth', 'net-abc.pth']
    wrong = ['net-00000000.pth', f'net_8xb32_20210524-{"f" * 8}.pth']
    for name in good + wrong:
        (published / name).write_bytes(content)
    with serve(published) as (address, _):
        for name in good:
            assert torch.equal(read_checkpoint(f'{address}/{name}')['a'], STATE['a'])
        for name in wrong:
            with pytest.raises(ConversionError, match=rf'{name} is not the file that its name says: .*hash'):
                read_checkpoint(f'{address}/{name}')
    assert sorted(path.name for path in cache.iterdir()) == sorted(good)


def test_addresses_that_cannot_be_reached(published, cache):
    with serve(published) as (address, _):
        for where in (f'{address}/none.pth', 'http://127.0.0.1:9/none.pth', 'http://[/none.pth', 'http://a b/none.pth'):
            with pytest.raises((OSError, ConversionError)) as info:
                read_checkpoint(where)
            assert '\n' not in str(info.value)
        with pytest.raises(OSError, match=r'cannot be downloaded \(.*404.*put it at .*hub/checkpoints/none\.pth'):
            read_checkpoint(f'{address}/none.pth')
    assert not [*cache.iterdir()]


def test_a_damaged_download_is_named(published, cache):
    (published / 'net.pth').write_bytes((published / 'net.pth').read_bytes()[:-30])
    with (
        serve(published) as (address, _),
        pytest.raises(ConversionError, match=r'checkpoints/net\.pth .*delete it to download it again'),
    ):
        read_checkpoint(f'{address}/net.pth')


@pytest.mark.parametrize(
    ('address', 'message'),
    [
        ('s3://bucket/net.pth', r"'s3://bucket/net\.pth' cannot be read: known are http://.*download the file"),
        ('petrel://bucket/net.pth', 'cannot be read'),
        ('cluster:s3://bucket/net.pth', 'cannot be read'),
        ('pavi://net.pth', 'cannot be read'),
        ('file:///etc/passwd', 'cannot be read'),
        ('ftp://host/net.pth', 'cannot be read'),
        ('torchvision://resnet5', r'knows no address for .*did you mean torchvision://resnet50\?'),
        ('torchvision://shufflenetv2_x2.0', 'knows no address'),
        ('open-mmlab://none', 'knows no address'),
        ('mmcls://none', 'knows no address'),
        ('https://host/', 'does not end in the name of a file'),
        ('https://host/%2e%2e', 'does not end in the name of a file'),
        ('https://host/a%5Cb', 'does not end in the name of a file'),
    ],
)
def test_unknown_addresses(address, message, cache):
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(address)
    assert not cache.exists()


def test_names_never_leave_the_cache(cache):
    for address in ('https://host/a/..%2F..%2Fetc%2Fpasswd', 'https://host/a/%2Fetc%2Fpasswd'):
        assert cached_file(address).parent == cache


def test_names_of_mmengine():
    from mmengine.runner.checkpoint import get_torchvision_models

    models = get_torchvision_models()
    for name in ('resnet50', 'densenet121', 'resnet50.imagenet1k_v2'):
        assert url_of(f'torchvision://{name}') == url_of(f'modelzoo://{name}') == models[name]
    assert url_of('torchvision://resnet50').endswith('resnet50-0676ba61.pth')
    assert url_of('open-mmlab://vgg16_caffe') == url_of('openmmlab://vgg16_caffe')
    assert url_of('open-mmlab://vgg16_caffe').endswith('vgg16_caffe-292e1171.pth')
    assert url_of('mmcls://vgg11').startswith('https://download.openmmlab.com/')


def test_a_backbone_by_the_name_of_torchvision(cache):
    """The file that torch.hub has kept is read; nothing is downloaded."""
    import torchvision

    state = torchvision.models.resnet18(num_classes=2).state_dict()
    cache.mkdir(parents=True)
    torch.save(state, cache / url_of('torchvision://resnet18').rpartition('/')[2])
    model = InflatedResNet(18, pretrained='torchvision://resnet18')
    model.init_weights()
    assert torch.equal(model.state_dict()['layer1.0.bn1.weight'], state['layer1.0.bn1.weight'])
    assert torch.equal(model.state_dict()['layer4.1.conv2.weight'].sum(2), state['layer4.1.conv2.weight'])
