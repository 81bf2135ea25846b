"""Damaged files, and those that would take far more memory or time than they are long: one line of error."""

import json
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import textwrap
import zipfile

import pytest
import torch
from pickling import build, call, name, new, pickled, put, raw, storage, tensor, write, write_legacy

from mmext.convert import ConversionError, read_checkpoint

ORDERED = name('collections', 'OrderedDict')
LIMIT = 150  # MiB that reading may take, whatever the file asks for


def memoised(value, index=99):
    return put(value) + b'q' + bytes([index])


def nested(opening, closing, depth):
    return opening * depth + closing * depth


def doubled(start, times):
    """Return a tuple of twice the one before, and so on."""
    return put(start) + b''.join(b'q\x63h\x63\x86' for _ in range(times))


def repeated(call, times):
    return b']' + b'(' + call * times + b'e'


HEX = name('_codecs', 'encode')
BIG = memoised('x' * 1_000_000)
MERSENNE = 2**61 - 1
PICKLES = {  # what is stored beside or in place of a tensor, and a word of the error
    'bytes by number': (call(name('__builtin__', 'bytearray'), 10**10), 'builtins.bytearray'),
    'tensor by number': (call(name('torch', 'FloatTensor'), 10**10), 'torch.FloatTensor'),
    'tensor made by number': (new(name('torch', 'Tensor'), 10**10), 'torch.Tensor'),
    'parameter made': (new(name('torch.nn.parameter', 'Parameter'), tensor()), 'torch.nn.parameter.Parameter'),
    'storage by number': (call(name('torch.storage', 'UntypedStorage'), 10**10), 'code and not data'),
    'text in hexadecimal digits of itself': (
        HEX * 40 + raw(b'x' * 100) + b''.join(put('hex') + b'\x86R' for _ in range(40)),
        'encodes text',
    ),
    'text to bytes again and again': (
        (BIG, repeated(HEX + b'h\x63' + put('latin1') + b'\x86R', 3000)),
        'more memory or time',
    ),
    'sets of one list': (
        (memoised(list(range(20_000))), repeated(name('__builtin__', 'set') + b'h\x63\x85R', 20_000)),
        'more memory or time',
    ),
    'keys of one hash': (
        {put((MERSENNE * number,)): 1 for number in range(60_000)},
        'more memory or time',
    ),
    'key of deep tuples': ({nested(b'', b'\x85', 1_00_000).join([b')', b'']): 1}, 'nests tuples'),
    'key of doubled tuples': ({doubled(1, 60): 1}, 'nests tuples'),
    'more instructions than a checkpoint has': (b']' * 600_000, 'instructions'),
    'long number': (b'\x8b' + struct.pack('<i', 4) + bytes(4), 'LONG4'),
    'text that is not there': (b'X\xff\xff\xff\xff', 'cut short'),
    'reference to nothing': (b'h\x05', 'reference to nothing'),
    'items of a tensor': (tensor() + b'(' + put(0) + put(1.0) + b'u', 'sets items'),
    'item of a tensor': (tensor() + put(0) + put(1.0) + b's', 'sets items'),
    'items of a list': (b']' + put(0) + put(1.0) + b's', 'sets items'),
    'appended to a mapping': (call(ORDERED) + put(1) + b'a', 'appends to'),
    'state of a tensor': (build(tensor(), (storage(), 0, (10**9,), (1,))), 'sets the state'),
    'methods of a mapping': (build(call(ORDERED), {'items': HEX}), 'other attributes'),
    'tensor with attributes': (
        call(name('torch._tensor', '_rebuild_from_type_v2'), HEX, name('torch', 'Tensor'), ('x', 'latin1'), {}),
        'attributes of their own',
    ),
    'a view that its storage has a part of': (tensor((5,), (1,)), 'holds only a part'),
    'a view after its storage': (tensor((1,), (1,), 4), 'holds only a part'),
    'a view before its storage': (tensor((1,), (1,), -1), 'impossible shape'),
    'a view by negative strides': (tensor((2,), (-1,), 1), 'impossible shape'),
    'a view of negative shape': (tensor((-1,)), 'impossible shape'),
    'a view of 10**12 elements': (tensor((10**12,)), 'holds only a part'),
    'a storage that is larger than its record': (tensor(count=5), 'another size'),
    'a storage that is smaller than its record': (tensor(count=3), 'another size'),
    'a storage of another type': (tensor(kind='DoubleStorage'), 'another size'),
    'a storage that is not there': (tensor(key='7'), 'missing'),
    'a storage of negative size': (tensor(count=-1), 'impossible size'),
    'a storage of 10**15 elements': (tensor(count=10**15), 'another size'),
    'a persistent object': (put(('module', HEX, 'x', 'y', 1)) + b'Q', 'something else than a storage'),
    'indices that repeat one': (
        call(
            name('torch._utils', '_rebuild_sparse_tensor'),
            call(name('torch.serialization', '_get_layout'), 'torch.sparse_coo'),
            (tensor((1, 10**11), (0, 0)), tensor((10**11,), (0,)), (4,), False),
        ),
        'more elements than its storage',
    ),
    'quantised elements that repeat one': (
        call(
            name('torch._utils', '_rebuild_qtensor'), storage('1', 16, 'QInt8Storage'), 0, (10**10,), (0,),
            (name('torch', 'per_tensor_affine'), 1.0, 0), False, call(ORDERED),
        ),
        'more elements than its storage',
    ),
}  # fmt: skip


def damaged_zips(folder):
    """Write archives that torch.save does not write; return path -> a word of the error."""
    good, zeros = {'x': tensor()}, bytes(160 * 2**20)
    files = {}
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        value = {'x': tensor((len(zeros) // 4,), count=len(zeros) // 4)}
        files[write(folder / f'compressed{method}.pth', value, [zeros], compression=method)] = 'is compressed'
    whole = write(folder / 'whole.pth', good).read_bytes()
    directory = whole.index(b'PK\x01\x02')
    record = whole.index(b'PK\x01\x02', whole.index(b'a/data/0', directory) - 60)

    def edited(name, *changes, content=whole, tail=b''):
        content = bytearray(content)
        for position, data in changes:
            content[position : position + len(data)] = data
        path = folder / f'{name}.pth'
        path.write_bytes(content + tail)
        return path

    files[edited('comment', tail=b'PK')] = 'after its end'
    files[edited('two_ends', tail=whole[-22:])] = 'directory is damaged'
    files[edited('count', (len(whole) - 12, struct.pack('<H', 3)))] = 'directory is damaged'
    files[edited('encrypted', (record + 8, b'\x01'))] = 'encrypted'
    files[edited('huge', (record + 20, struct.pack('<LL', 2**31, 2**31)))] = 'ends after the file'
    files[edited('undeclared', (record + 24, struct.pack('<L', 2**31)))] = 'is compressed'
    files[edited('overlapping', (record + 42, bytes(4)))] = ''
    files[edited('checksum', (record + 16, b'abcd'))] = 'checksum'
    files[edited('data', (whole.index(b'a/data/0') + 9, b'\x01'))] = 'checksum'
    files[edited('name', (record + 46, b'a/\0'))] = ''
    entries = whole[directory : whole.index(b'PK\x01\x02', directory + 4)] * 300_000
    end = struct.pack('<4s4xHHLLH', b'PK\x05\x06', 4, 4, len(entries), directory, 0)
    files[edited('directory', content=whole[:directory], tail=entries + end)] = 'far larger'
    for index, extra in enumerate(['A/DATA.PKL', 'a/Data/0']):
        files[write(folder / f'twice{index}.pth', good, records=[(extra, b'')])] = 'two records'
    files[write(folder / 'script.pth', good, records=[('a/constants.pkl', b'')])] = 'TorchScript'
    with zipfile.ZipFile(folder / 'other.pth', 'w') as archive:
        archive.writestr('a/readme', 'x')
    files[folder / 'other.pth'] = 'data.pkl'
    return files


def part(key, offset, count):
    """A part of a storage, as files of PyTorch before 0.4 have them."""
    return put(('storage', name('torch', 'FloatStorage'), '0', 'cpu', 4, (key, offset, count))) + b'Q'


def damaged_legacy(folder):
    files = {}
    for index, (value, options, word) in enumerate(
        [
            (tensor(legacy=True, count=10**10), {}, 'but only'),
            (tensor(legacy=True, count=10**10), dict(keys=()), 'list of storages'),
            (tensor(legacy=True), dict(keys=()), 'list of storages'),
            (tensor(legacy=True), dict(keys=('0', '0')), 'list of storages'),
            (tensor(legacy=True), dict(keys=('1',)), 'list of storages'),
            (tensor(legacy=True), dict(storages=[(10**10, bytes(16))]), 'wrong'),
            (tensor(legacy=True), dict(storages=[(4, bytes(8))]), 'but only'),
            (tensor((5,), legacy=True), {}, 'holds only a part'),
            (part('v', 3, 2), {}, 'does not have'),
            (name('os', 'system'), {}, 'os.system'),
            ([part('v', 0, 2), part('v', 2, 2)], {}, 'one name to several parts'),
            (part('0', 0, 2), {}, 'one name to a storage and a part'),
        ]
    ):
        files[write_legacy(folder / f'legacy{index}.pth', {'x': value}, **options)] = word
    (folder / 'bare.pth').write_bytes(pickled({'x': 1}))
    files[folder / 'bare.pth'] = 'does not start'
    (folder / 'script.bin').write_bytes(b'#!/bin/sh\n' * 20)
    files[folder / 'script.bin'] = 'download it again'
    with tarfile.open(folder / 'tar.pth', 'w') as archive:
        archive.add(folder / 'bare.pth', 'pickle')
    files[folder / 'tar.pth'] = 'download it again'
    return files


READ = """
import json, resource, sys, torch
from mmext.convert import ConversionError, read_checkpoint
resource.setrlimit(resource.RLIMIT_CPU, (240, 240))  # ends what does not end
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
torch.ones(8).sum()
for path in sys.argv[1:]:
    before = peak()
    try:
        found = f'loaded {list(read_checkpoint(path))}'
    except ConversionError as error:
        found = str(error)
    print(json.dumps([path, found, peak() - before]), flush=True)
"""


def test_bombs_are_one_line_of_error_in_little_memory(tmp_path):
    files = {**damaged_zips(tmp_path), **damaged_legacy(tmp_path)}
    for index, (value, word) in enumerate(PICKLES.values()):
        for place, content in enumerate(({'x': tensor(), 'y': value}, {'state_dict': {'x': tensor()}, 'meta': value})):
            files[write(tmp_path / f'pickle{index}_{place}.pth', content, [bytes(16)] * 2)] = word
    command = [sys.executable, '-c', textwrap.dedent(READ), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [path for path, *_ in lines] == [str(path) for path in files]
    names = {f'pickle{index}_{place}.pth': key for index, key in enumerate(PICKLES) for place in (0, 1)}
    for (path, found, memory), word in zip(lines, files.values()):
        case = names.get(path.rpartition('/')[2], path), found
        assert not found.startswith('loaded'), case
        assert '\n' not in found, case
        assert len(found) < 1000, case
        assert word in found, case
        assert memory < LIMIT, (case, memory)
    assert done.stderr == ''


def test_a_bomb_beside_the_weights_is_not_looked_into(tmp_path):
    lists = b'](' * 60 + b']' + b'q\x63h\x63e' * 60  # a list of twice the one inside, and so on
    found = read_checkpoint(write(tmp_path / 'a.pth', {'state_dict': {'x': tensor()}, 'history': lists}))
    assert torch.equal(found['x'], torch.zeros(4))


SPARSE = torch.eye(3).to_sparse()
ODD = {
    'sparse': (SPARSE, r"'b' \(torch.sparse_coo\)"),
    'compressed': (torch.eye(3).to_sparse_csr(), r"'b' \(torch.sparse_csr\)"),
    'on meta': (torch.empty(3, device='meta'), r"'b' \(on the meta device, without values\)"),
    'complex': (torch.ones(3, dtype=torch.complex64), r"'b' \(complex, torch.complex64\)"),
    'quantised': (torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), r"'b' \(quantized, torch.qint8\)"),
    'one element for all': (torch.zeros(()).expand(3, 4), r"'b' \(elements share memory: shape \[3, 4\]"),
    'one row for all': (torch.zeros(4).expand(3, 4), r"'b' \(elements share memory: .* strides \[0, 1\]\)"),
    'windows': (torch.zeros(9).unfold(0, 3, 1), r"'b' \(elements share memory: .* strides \[1, 1\]\)"),
    'a large one': (torch.zeros(1).expand(10**12), r"'b' \(elements share memory: shape \[1000000000000\]"),
}


@pytest.mark.filterwarnings('ignore:Sparse CSR', 'ignore:Validating sparse', 'ignore:.*quantiz')
@pytest.mark.parametrize('case', ODD)
@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
def test_tensors_that_are_no_plain_weights(tmp_path, case, legacy):
    value, message = ODD[case]
    content = {'state_dict': {'a': torch.ones(2), 'b': value}}
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)
    for source in (content, tmp_path / 'a.pth'):
        with pytest.raises(ConversionError, match=f'no plain weights under 1 key: {message}'):
            read_checkpoint(source)


def test_nested_and_uninitialised_tensors():
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    lazy = torch.nn.LazyLinear(3).state_dict()['weight']
    for value, word in ((nested, 'nested'), (lazy, 'not initialised')):
        with pytest.raises(ConversionError, match=word):
            read_checkpoint({'b': value})


def test_plain_layouts_load(tmp_path):
    part = torch.arange(24.0).reshape(2, 3, 4)
    state = dict(
        transposed=part.transpose(0, 2), part=part[:, 1:, ::2], empty=part[:0], scalar=part[0, 0, 1], shared=part,
        last=torch.rand(1, 3, 2, 2).to(memory_format=torch.channels_last), one=torch.zeros(1).expand(1, 1),
        parameter=torch.nn.Parameter(torch.ones(2)), none=torch.zeros(()).expand(0, 3), half=torch.ones(2).bfloat16(),
        float8=torch.ones(3).to(torch.float8_e4m3fn), wide=torch.ones(3, dtype=torch.uint16), truth=torch.tensor(True),
    )  # fmt: skip
    for content in (state, {'state_dict': state}):
        torch.save(content, tmp_path / 'a.pth')
        found = read_checkpoint(tmp_path / 'a.pth')
        assert list(found) == list(state)
        for key, value in state.items():
            assert found[key].dtype == value.dtype
            assert torch.equal(found[key].float(), value.float())
            assert found[key].stride() == value.stride()


def test_many_tensors_over_one_memory():
    storage = torch.zeros(1000)
    read_checkpoint({str(index): storage for index in range(10)})
    with pytest.raises(ConversionError, match='holds 100 tensors of 400000 bytes over 4000 bytes of memory'):
        read_checkpoint({str(index): storage for index in range(100)})


def test_mappings_as_python_2_wrote_them(tmp_path):
    """One call with a list of pairs: 4,000 tensors load, but not as many keys that could have one hash."""
    pairs = [[f'layer{index}.weight', tensor(key=str(index), legacy=True)] for index in range(4000)]
    storages = dict(keys=[str(index) for index in range(4000)], storages=[(4, bytes(16))] * 4000)
    found = read_checkpoint(write_legacy(tmp_path / 'a.pth', call(ORDERED, pairs), **storages))
    assert list(found) == [key for key, _ in pairs]
    pairs = [[(MERSENNE * index,), 1] for index in range(1, 4000)]
    with pytest.raises(ConversionError, match='more memory or time'):
        read_checkpoint(write_legacy(tmp_path / 'a.pth', [tensor(legacy=True), call(ORDERED, pairs)]))


def test_parts_of_a_storage(tmp_path):
    view = part('v', 1, 2)
    hooks = call(ORDERED)
    value = call(name('torch._utils', '_rebuild_tensor_v2'), view, 0, (2,), (1,), False, hooks)
    data = struct.pack('<4f', 0, 1, 2, 3)
    found = read_checkpoint(write_legacy(tmp_path / 'a.pth', {'x': value, 'y': value}, storages=[(4, data)]))
    assert found['x'].tolist() == found['y'].tolist() == [1, 2]
    value = call(name('torch._utils', '_rebuild_tensor_v2'), view, 0, (3,), (1,), False, hooks)
    with pytest.raises(ConversionError, match='holds only a part'):
        read_checkpoint(write_legacy(tmp_path / 'a.pth', {'x': value}, storages=[(4, data)]))


@pytest.mark.parametrize('key', ['x' * 501, 'a\nb', 'a\x1b[31m', ('a',) * 1000])
def test_keys_do_not_make_messages_long(key):
    with pytest.raises(ConversionError) as info:
        read_checkpoint({'a': torch.ones(1), key: torch.ones(1)})
    assert len(str(info.value)) < 1000
    assert str(info.value).isprintable()


def test_a_file_without_checksums(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({'a': torch.ones(3)}, tmp_path / 'a.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_checkpoint(tmp_path / 'a.pth')['a'], torch.ones(3))


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
def test_cut_and_flipped_files(tmp_path, legacy):
    """No other error than one line of ConversionError; a file of today's format loads only with its own values."""
    generator = random.Random(0)
    state = {'a.weight': torch.arange(40.0).reshape(4, 10), 'b': torch.tensor(3), 'c': torch.ones(5).half()}
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': state, 'meta': {'epoch': 3}}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    files = [whole[: len(whole) * part // 20] for part in range(1, 20)]
    for _ in range(250):
        flipped = bytearray(whole)
        for _ in range(generator.choice((1, 1, 4))):
            flipped[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        files.append(bytes(flipped))
    messages = []
    for content in files:
        path.write_bytes(content)
        try:
            found = read_checkpoint(path)
        except ConversionError as error:
            messages.append(str(error))
            continue
        if not legacy:
            assert all(torch.equal(found[key], value) for key, value in state.items())
    assert len(files) / 2 < len(messages) < len(files)
    assert all('\n' not in message and len(message) < 1000 for message in messages)


def test_formats_that_an_old_torch_cannot_read_in_safety(tmp_path, monkeypatch):
    state = {'a': torch.ones(2)}
    old, new_format = tmp_path / 'old.pth', tmp_path / 'new.pth'
    torch.save(state, old, _use_new_zipfile_serialization=False)
    torch.save(state, new_format)
    for version, allowed in (('2.4.0', False), ('2.5.1+cu121', False), ('2.6.0a0+git1', True), ('3.0.0', True)):
        monkeypatch.setattr(torch, '__version__', version)
        assert torch.equal(read_checkpoint(new_format)['a'], state['a'])
        if allowed:
            assert torch.equal(read_checkpoint(old)['a'], state['a'])
            continue
        with pytest.raises(ConversionError, match=rf'which torch {version[:5]}.*CVE-2025-32434.*install torch 2\.6'):
            read_checkpoint(old)


def test_classes_that_the_user_declared_still_load(tmp_path):
    torch.save({'state_dict': {'a': torch.ones(2)}, 'meta': Declared(3)}, tmp_path / 'a.pth')
    with pytest.raises(ConversionError, match=r'asks for .*Declared, which is code'):
        read_checkpoint(tmp_path / 'a.pth')
    with torch.serialization.safe_globals([Declared]):
        assert torch.equal(read_checkpoint(tmp_path / 'a.pth')['a'], torch.ones(2))


class Declared:
    """What a user may declare safe."""

    def __init__(self, value):
        self.value = value


def test_pickles_of_the_writer_are_those_of_pickle():
    value = {'a': [1, 2.5, None, True, 'text', (1, 2**40, -(2**62))], 'b': {}}
    assert pickle.loads(pickled(value)) == value
