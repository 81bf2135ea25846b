import json
import pickle
import struct

import golden
import mxnet_writer as writer
import numpy as np
import pytest

from mmext.convert import ConversionError
from mmext.convert.mxnet_params import MXNetParamsError, read_params

FOLDER = golden.FOLDER / 'mxnet_params'
INDEX = json.loads((FOLDER / 'index.json').read_text())['files']
WHOLE = [name for name, fields in INDEX.items() if fields['layout'] != 'corrupt']
VERSIONS = {'V0': [0], 'V1': [1], 'V2': [2], 'V3': [3], 'V0, V1, V2 in one list': [0, 1, 2]}


def expected(name):
    """The arrays of a golden file, and the parts of its sparse array."""
    fields = INDEX[name]
    arrays = dict(np.load(FOLDER / fields['expected']))
    parts = {key: arrays.pop(key) for key in ('data', 'indptr', 'indices') if key in arrays}
    if 'expected_keys' in fields:
        arrays = {ours: arrays[key] for key, ours in fields['expected_keys'].items()}
    return {key: arrays[key] for key in fields.get('names') or arrays}, parts


def same(found, wanted):
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()


@pytest.fixture
def opened(tmp_path):
    """Open a file of these bytes."""

    def opened(content, **options):
        path = tmp_path / 'file.params'
        path.write_bytes(content)
        return read_params(path, **options)

    return opened


def test_every_golden_file_is_listed():
    assert sorted(INDEX) == sorted(path.name for path in FOLDER.glob('*.params'))
    assert len(WHOLE) == len(INDEX) - 3


@pytest.mark.parametrize('name', WHOLE)
def test_golden_bytes(name):
    wanted, _ = expected(name)
    found = read_params(FOLDER / name)
    assert list(found) == list(wanted)
    assert found.named == ('list' not in name)
    for key, value in wanted.items():
        same(found[key], value)
        assert found.stored(key).shape == value.shape
        assert key in found
    layout = INDEX[name]['layout'].partition(', storage')[0]
    assert [found.stored(key).version for key in found] in (VERSIONS[layout], VERSIONS[layout] * len(wanted))


@pytest.mark.parametrize(('name', 'key'), [('row_sparse', 'arg:embed_weight'), ('csr', 'arg:c')])
def test_golden_parts_of_sparse_arrays(name, key):
    found = read_params(FOLDER / f'{name}.params')
    _, parts = expected(f'{name}.params')
    assert found.stored(key).storage == name
    assert set(found.parts(key)) == set(parts)
    for part, value in parts.items():
        same(found.parts(key)[part], value)


@pytest.mark.parametrize(
    ('name', 'offset', 'message'),
    [
        ('bad_magic', 0, 'no MXNet .params file: it starts with 0x113 where 0x112 is needed'),
        ('truncated', 1008, '2 names take 16 bytes or more and 5 are left; the file is cut short'),
        ('truncated_data', 80, r'data of array 0, \[8, 3, 3, 3\] float32, takes 864 bytes and 120 are left'),
    ],
)
def test_golden_corrupt_files(name, offset, message):
    with pytest.raises(MXNetParamsError, match=rf'{name}\.params: .*{message}.*\(at byte {offset}\)$') as caught:
        read_params(FOLDER / f'{name}.params')
    assert caught.value.offset == offset
    assert isinstance(caught.value, ConversionError)


@pytest.mark.parametrize(
    ('name', 'version', 'context'),
    [
        ('net', 2, (1, 0)),
        ('net_v0', 0, (1, 0)),
        ('net_v1', 1, (1, 0)),
        ('gpu_v0', 0, (2, 3)),
        ('gpu_v1', 1, (2, 3)),
        ('dtypes', 2, (1, 0)),
        ('dtypes_v0', 0, (1, 0)),
        ('dtypes_v1', 1, (1, 0)),
        ('npshape', 3, (1, 0)),
    ],
)
def test_the_writer_makes_the_golden_bytes(tmp_path, name, version, context):
    wanted, _ = expected(f'{name}.params')
    path = writer.write(tmp_path / 'own.params', wanted, version, context)
    assert path.read_bytes() == (FOLDER / f'{name}.params').read_bytes()


def test_the_writer_makes_the_golden_sparse_bytes():
    wanted, parts = expected('csr.params')
    arrays = [writer.sparse(wanted['arg:c'].shape, parts['data'], parts['indptr'], parts['indices'])]
    assert writer.listed(arrays, ['arg:c']) == (FOLDER / 'csr.params').read_bytes()
    wanted, parts = expected('row_sparse.params')
    arrays = [writer.sparse((6, 4), parts['data'], parts['indices']), writer.dense(wanted['arg:dense'])]
    assert writer.listed(arrays, list(wanted)) == (FOLDER / 'row_sparse.params').read_bytes()


@pytest.mark.parametrize('version', [0, 1, 2, 3])
@pytest.mark.parametrize('dtype', writer.FLAGS)
def test_every_type_in_every_version(opened, version, dtype):
    value = np.random.default_rng(0).integers(0, 2, (3, 1, 5)).astype(dtype)
    same(opened(writer.listed([writer.dense(value, version)], ['x']))['x'], value)


def test_bfloat16_is_widened_exactly(opened):
    words = np.arange(2**16, dtype='uint16').reshape(256, 256)
    found = opened(writer.listed([writer.dense(words, flag=writer.BFLOAT16)]))['0']
    same(found.view('<u4'), words.astype('<u4') * 65536)
    assert found.dtype == np.float32
    scalar = opened(writer.listed([writer.dense(np.uint16(0xBFC0), 3, flag=writer.BFLOAT16)]))['0']
    same(scalar, np.array(-1.5, 'float32'))


def test_the_most_dimensions_and_none(opened):
    value = np.arange(4.0).reshape((2, 2) + (1,) * 30)
    for version in (0, 1, 2):
        same(opened(writer.listed([writer.dense(value, version)]))['0'], value)
    same(opened(writer.listed([writer.dense(np.zeros((0, 2**31 - 1), 'i1'), 0)]))['0'], np.zeros((0, 2**31 - 1), 'i1'))
    assert list(opened(writer.listed([]))) == []


def test_views_take_no_memory_and_never_change_the_file(tmp_path):
    state = {'a': np.ones((2, 3), 'float32'), 'b': np.full(3, 7, 'uint8'), 'c': np.ones(4, 'float64')}
    path = writer.write(tmp_path / 'file.params', state, 0)
    content = path.read_bytes()
    found = read_params(path)
    assert np.shares_memory(found['a'], found['a'])
    assert not np.shares_memory(found['c'], found['c'])  # behind three bytes: not at a multiple of its size
    assert found['c'].flags.aligned
    found['a'][:] = 5
    assert (found['a'] == 5).all()
    assert path.read_bytes() == content
    assert (read_params(path)['a'] == 1).all()


def test_arrays_outlive_the_mapping(tmp_path):
    path = writer.write(tmp_path / 'file.params', {'a': np.arange(5.0)}, 0)
    array = read_params(path)['a']
    path.unlink()
    assert array.tolist() == [0, 1, 2, 3, 4]


def test_names(opened):
    names = ['', 'ä b\n', 'arg:x:y', 'x' * 300]
    found = opened(writer.listed([writer.dense(np.full(1, i)) for i in range(4)], names))
    assert {name: int(value[0]) for name, value in found.items()} == {name: i for i, name in enumerate(names)}
    assert 'other' not in found
    with pytest.raises(KeyError, match='other'):
        found['other']
    assert repr(found).endswith("file.params', 4 arrays)")


INT64 = np.dtype('int64')


def csr(shape, values, indptr, indices):
    return writer.sparse(shape, np.arange(1.0, values + 1), np.array(indptr, INT64), np.array(indices, INT64))


def rows(shape, indices, dims=(2,)):
    return writer.sparse(shape, np.ones((len(indices), *dims), 'float32'), np.array(indices, INT64))


def test_sparse_arrays_without_values(opened):
    arrays = [csr((2, 3), 0, [0, 0, 0], []), csr((2, 3), 0, [], []), csr((0, 3), 0, [0], []), rows((3, 2), [])]
    found = opened(writer.listed(arrays))
    assert [found[key].tolist() for key in found] == [[[0] * 3] * 2, [[0] * 3] * 2, [], [[0] * 2] * 3]


def test_sparse_indices_of_four_bytes(opened):
    data, indices = np.ones((2, 2), 'float32'), np.array([0, 2], 'int32')
    found = opened(writer.listed([writer.sparse((3, 2), data, indices)]))['0']
    assert found.tolist() == [[1, 1], [0, 0], [1, 1]]


def test_a_sparse_array_that_claims_more_than_the_file_holds(opened):
    content = writer.listed([rows((2**40, 2), [3, 2**39])], ['big'])
    found = opened(content)
    with pytest.raises(MXNetParamsError, match=r'big is a row_sparse array whose dense form takes 8796093022208 bytes'):
        found['big']
    assert found.parts('big')['indices'].tolist() == [3, 2**39]
    content = writer.listed([rows((9000, 2), [8999])], ['big'])
    with pytest.raises(MXNetParamsError, match='takes 72000 bytes, more than the limit of 65536; take its parts, or'):
        opened(content)['big']
    assert opened(content, max_dense_bytes=72000)['big'].sum() == 2
    with pytest.raises(MXNetParamsError, match='limit of 71999'):
        opened(content, max_dense_bytes=71999)['big']
    with pytest.raises(ValueError, match='max_dense_bytes=-1 must be 0 or more'):
        opened(content, max_dense_bytes=-1)


@pytest.mark.parametrize(
    ('array', 'element', 'message'),
    [
        (rows((3, 2), [0, 3]), 1, 'indices of 0 has 3 as element 1, it must be 0 to 2'),
        (rows((3, 2), [-1, 0]), 0, 'has -1 as element 0'),
        (rows((3, 2), [1, 1]), 1, 'has 1 as element 1, it must be above the one before;'),
        (rows((3, 2), [2, 1]), 1, 'it must be above the one before;'),
        (csr((2, 3), 2, [1, 1, 2], [0, 1]), 0, 'indptr of 0 has 1 as element 0, the first must be 0 and the last 2'),
        (csr((2, 3), 2, [0, 1, 1], [0, 1]), 2, 'has 1 as element 2, the first must be 0 and the last 2'),
        (csr((0, 3), 2, [2], [0, 1]), 0, 'has 2 as element 0, the first'),
        (csr((3, 3), 2, [0, 2, 1, 2], [0, 1]), 2, 'indptr of 0 has 1 as element 2, it must not be below'),
        (csr((2, 3), 2, [0, -1, 2], [0, 1]), 1, 'indptr of 0 has -1 as element 1, it must be 0 to 2'),
        (csr((2, 3), 2, [0, 2**62, 2], [0, 1]), 1, 'it must be 0 to 2'),
        (csr((2, 3), 2, [0, 1, 2], [0, 3]), 1, 'indices of 0 has 3 as element 1, it must be 0 to 2'),
        (csr((2, 3), 2, [0, 1, 2], [-1, 0]), 0, 'has -1'),
        (csr((2, 3), 3, [0, 2, 3], [1, 1, 0]), 1, 'it must be above the one before in the same row'),
        (csr((2, 3), 3, [0, 1, 3], [2, 2, 1]), 2, 'it must be above the one before in the same row'),
    ],
)
def test_sparse_indices_that_do_not_fit(opened, array, element, message):
    found = opened(writer.listed([array]))
    with pytest.raises(MXNetParamsError, match=message) as caught:
        found['0']
    part = found.stored('0').parts['indptr' if 'indptr' in str(caught.value) else 'indices']
    assert caught.value.offset == part.offset + 8 * element


@pytest.mark.parametrize(
    'array',
    [
        rows((3, 2), [0], (3,)),
        rows((3, 2), [0], (2, 1)),
        rows((3, 2, 2), [0]),
        writer.sparse((3, 2), np.ones((2, 2)), np.arange(1)),
        writer.sparse((3, 2), np.ones((2, 2)), np.zeros((2, 1), INT64)),
        csr((2, 3), 2, [0, 2], [0, 1]),
        csr((2, 3), 2, [], [0, 1]),
        csr((2, 3), 2, [0, 1, 2], [0]),
        csr((2, 3, 1), 2, [0, 1, 2], [0, 1]),
        writer.sparse((2, 3), np.ones((2, 1)), np.arange(3), np.arange(2)),
    ],
)
def test_sparse_parts_of_other_shapes(opened, array):
    with pytest.raises(
        MXNetParamsError, match=r'array 0 is a (row_sparse|csr) array of shape .* do not make'
    ) as caught:
        opened(writer.listed([array]))
    assert caught.value.offset == 24


X = np.arange(6, dtype='float32').reshape(2, 3)
CSR = (FOLDER / 'csr.params').read_bytes()
V0, V1, V2, V3 = (writer.listed([writer.dense(X, version)], ['x']) for version in range(4))


def changed(content, offset, layout, value):
    """The content with one field overwritten."""
    field = struct.pack(f'<{layout}', value)
    return content[:offset] + field + content[offset + len(field) :]


@pytest.mark.parametrize(
    ('content', 'offset', 'message'),
    [
        (b'\x12\x01', 0, 'the magic number of the list takes 8 bytes and 2 are left'),
        (V2[:12], 8, 'the reserved field takes 8 bytes and 4 are left'),
        (V2[:20], 16, 'the number of arrays takes 8'),
        (b'PK\x03\x04' + V2, 0, 'this is no MXNet .params file'),
        (changed(V2, 16, 'Q', 2**63), 16, '9223372036854775808 arrays take .* bytes or more and'),
        (changed(V2, 16, 'Q', 0), 24, 'names take'),
        (changed(V2, 16, 'Q', 2), 104, 'the type flag of array 1 takes 4 bytes and 1 are left'),
        (V2[:-17], len(V2) - 17, 'the number of names takes 8 bytes and 0 are left'),
        (V2[:-1], len(V2) - 1, 'name 0 takes 1 bytes and 0 are left'),
        (V2 + b'\0\0\0', len(V2), '3 bytes follow the last name'),
        (V2[:-1] + b'\xff', len(V2) - 1, 'name 0 is no UTF-8 text'),
        (V2[:-1] + b'\xc3', len(V2) - 1, 'name 0 is no UTF-8 text'),
        (changed(V2, len(V2) - 9, 'Q', 2**64 - 1), len(V2) - 1, 'name 0 takes 18446744073709551615 bytes'),
        (changed(V2, len(V2) - 17, 'Q', 2**60), len(V2) - 17, '1152921504606846976 names take'),
        (writer.listed([writer.dense(X)] * 2, ['x']), 24 + 2 * 64, '2 arrays have 1 names; there must be as many'),
        (writer.listed([writer.dense(X)] * 2, ['x', 'x']), 24 + 2 * 64 + 25, "'x' is there twice, of arrays 0 and 1"),
        (writer.listed([writer.dense(X)], ['x' * 65537]), 24 + 64 + 8, 'name 0 has 65537 bytes, it may have 65536'),
        (writer.listed([writer.dense(X[:0], 0)] * 65537), 16, '65537 arrays are too many'),
        (changed(V0, 24, 'I', 33), 24, 'starts with 0x00000021, neither the magic number of a version nor'),
        (changed(V0, 24, 'I', 0), 24, 'array 0 is "none"'),
        (changed(V1, 28, 'i', 0), 28, 'array 0 is "none"'),
        (changed(V2, 32, 'i', 0), 32, 'array 0 is "none"'),
        (changed(V3, 32, 'i', -1), 32, 'array 0 is "none"'),
        (changed(V1, 28, 'i', -1), 28, 'array 0 has -1 dimensions, it must be 0 to 32'),
        (changed(V2, 32, 'i', 33), 32, 'array 0 has 33 dimensions'),
        (changed(V2, 32, 'i', 32), 36, 'the shape of array 0 takes 256 bytes'),
        (changed(V2, 28, 'i', 3), 28, r'storage type 3, it must be 0 \(dense\), 1 \(row_sparse\) or 2 \(csr\)'),
        (changed(V2, 28, 'i', -1), 28, 'storage type -1'),
        (changed(V3, 28, 'i', 1), 28, r'storage type 1, it must be 0 \(dense\) in version 3'),
        (changed(V0, 28, 'I', 2**32 - 1), 48, r'\[4294967295, 3\] float32, takes 51539607540 bytes'),
        (changed(V1, 32, 'q', -2), 32, r'the shape \[-2, 3\], no dimension may be negative'),
        (changed(V2, 36, 'q', 2**62), 24, r'the shape \[4611686018427387904, 3\], more than any memory holds'),
        (changed(changed(V2, 36, 'q', 2**63 - 1), 44, 'q', 0), 24, 'more than any memory holds'),
        (changed(V0, 44, 'i', 13), 44, 'has the type flag 13, it must be one of 0, 1, 2'),
        (changed(V0, 44, 'i', -1), 44, 'has the type flag -1'),
        (
            changed(CSR, 76, 'i', 0),
            76,
            'indptr of array 0 has the type flag 0, .* 4, 6',
        ),
        (writer.listed([writer.dense(np.array([1, 0, 2], 'uint8'), flag=7)]), 58, 'a truth value is 2, it must be 0'),
    ],
)
def test_fields_that_are_wrong(opened, content, offset, message):
    with pytest.raises(MXNetParamsError, match=rf'({message}).*\(at byte {offset}\)$') as caught:
        dict(opened(content))
    assert caught.value.offset == offset


def test_fields_that_do_not_matter(opened):
    content = changed(V2, 8, 'Q', 2**64 - 1)  # reserved
    content = changed(changed(content, 52, 'i', -5), 56, 'i', 77)  # the device
    same(opened(content)['x'], X)


def test_the_error_survives_another_process():
    error = pickle.loads(pickle.dumps(MXNetParamsError('file: wrong', 17)))
    assert (str(error), error.offset) == ('file: wrong (at byte 17)', 17)


@pytest.mark.parametrize('name', WHOLE)
def test_every_truncation_of_a_golden_file(tmp_path, name):
    content = (FOLDER / name).read_bytes()
    for length in range(1, len(content), 1 + len(content) // 300):
        path = tmp_path / f'{length}.params'  # a new one each time: writing over a file waits for the disk
        path.write_bytes(content[:length])
        with pytest.raises(MXNetParamsError):
            read_params(path)
        path.unlink()


def test_paths_that_are_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no file .*absent\.params; download the checkpoint first'):
        read_params(tmp_path / 'absent.params')
    with pytest.raises(IsADirectoryError, match='is a folder; give the checkpoint file inside it'):
        read_params(tmp_path)
    (tmp_path / 'empty.params').touch()
    with pytest.raises(ConversionError, match=r'empty\.params is empty \(0 bytes\); download it again'):
        read_params(tmp_path / 'empty.params')
