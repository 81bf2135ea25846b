"""Every way in which a pickle can use the names that mmext declares safe, beside what PyTorch alone does with it."""

import io
import itertools
import os
import pickle
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from pickling import build, call, name, new, put, raw, write

import mmext  # noqa: F401  declares the safe globals

pytestmark = pytest.mark.skipif(
    tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 6),
    reason='nothing is declared before torch 2.6',
)

DTYPE, NDARRAY = name('numpy', 'dtype'), name('numpy', 'ndarray')
RECONSTRUCT, SCALAR = (name('numpy.core.multiarray', each) for each in ('_reconstruct', 'scalar'))
BUFFER, GETATTR = name('mmengine.logging.history_buffer', 'HistoryBuffer'), name('__builtin__', 'getattr')
DECLARED = {
    'dtype': DTYPE,
    'ndarray': NDARRAY,
    '_reconstruct': RECONSTRUCT,
    'scalar': SCALAR,
    '_reconstruct of numpy 2': name('numpy._core.multiarray', '_reconstruct'),
    'scalar of numpy 2': name('numpy._core.multiarray', 'scalar'),
    'HistoryBuffer': BUFFER,
    'getattr': GETATTR,
}
PLAIN = ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')
STATE = (3, '<', None, None, None, -1, -1, 0)


DATA = raw(struct.pack('<2d', 1, 2))


def dtype(code='f8', state=STATE):
    return build(call(DTYPE, code, False, True), state)


def array(shape=(2,), kind=None, fortran=False, data=DATA, version=1, start=None):
    kind = dtype() if kind is None else kind
    start = call(RECONSTRUCT, NDARRAY, (0,), raw(b'b')) if start is None else start
    return build(start, (version, shape, kind, fortran, data))


def load(path, value):
    return torch.load(write(path / 'a.pth', {'x': value}), weights_only=True)['x']


def refused(path, value):
    with pytest.raises(pickle.UnpicklingError):
        load(path, value)


@pytest.mark.parametrize('code', PLAIN)
def test_plain_arrays_and_scalars_load(tmp_path, code):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(code)
    for order in 'CF':
        for endian in '<>':
            given = np.array(values, values.dtype.newbyteorder(endian), order=order)
            path = tmp_path / 'a.pth'
            torch.save({'x': given, 'y': given[1, 2], 'z': np.array(given[0, 1])}, path)
            found = torch.load(path, weights_only=True)
            assert isinstance(found['x'], np.ndarray)
            assert found['x'].dtype == values.dtype  # in this machine's byte order
            assert np.array_equal(found['x'], given)
            assert found['x'].flags.f_contiguous == given.flags.f_contiguous
            assert type(found['y']) is type(given[1, 2])
            assert found['y'] == 1
            assert found['z'].shape == ()
            assert found['z'] == 1
            for again in (pickle.loads(pickle.dumps(found['x'])), pickle.loads(pickle.dumps(found['x'], 5))):
                assert type(again) is np.ndarray
                assert np.array_equal(again, given)
    assert np.array_equal(load(tmp_path, array()), [1.0, 2.0])


def test_the_names_of_numpy_2_load_as_those_of_numpy_1(tmp_path):
    core = name('numpy._core.multiarray', '_reconstruct')
    found = load(tmp_path, array(start=call(core, NDARRAY, (0,), raw(b'b'))))
    assert np.array_equal(found, [1.0, 2.0])
    found = load(tmp_path, call(name('numpy._core.multiarray', 'scalar'), dtype(), raw(struct.pack('<d', 3))))
    assert type(found) is np.float64
    assert found == 3


HOSTILE_DTYPES = {
    'object': dtype('O'),
    'object with flags': dtype('O', (3, '|', None, None, None, -1, -1, 63)),
    'object of a size': dtype('O8'),
    'void': dtype('V8'),
    'text': dtype('U2'),
    'bytes': dtype('S8'),
    'date': dtype('M8[ns]'),
    'time': dtype('m8'),
    'complex': dtype('c16'),
    'long double': dtype('f16'),
    'words': dtype('float64'),
    'structure by commas': dtype('f8,O'),
    'structure as list': dtype([('a', 'O')]),
    'structure as dict': dtype({'names': ['a'], 'formats': ['O'], 'offsets': [0]}),
    'subarray as tuple': dtype(('f8', (2,))),
    'subarray in words': dtype('(2,)f8'),
    'dtype of a dtype': dtype(dtype()),
    'dtype of a class': dtype(NDARRAY),
    'options': build(call(DTYPE, 'f8', 3, {}), STATE),
    'metadata': build(call(DTYPE, 'f8', False, True, {'a': 1}), STATE),
    'fields': dtype('f8', (3, '<', None, ('a',), {'a': (call(DTYPE, 'O'), 0)}, 8, 1, 0)),
    'subarray': dtype('f8', (3, '<', (call(DTYPE, 'O'), (1,)), None, None, -1, -1, 0)),
    'size': dtype('f8', (3, '<', None, None, None, 1, 1, 0)),
    'flags': dtype('f8', (3, '<', None, None, None, -1, -1, 63)),
    'flags that are True': dtype('f8', (3, '<', None, None, None, -1, -1, False)),
    'version 4': dtype('f8', (4, '<', None, None, None, -1, -1, 0, {'a': 1})),
    'version 1': dtype('f8', (1, '<', None, None, None)),
    'order': dtype('f8', (3, 'x', None, None, None, -1, -1, 0)),
    'order as a tuple': dtype('f8', (3, ('<',), None, None, None, -1, -1, 0)),
    'no state': dtype('f8', ()),
    'state as dict': dtype('f8', {'_code': 'O'}),
    'state as list': dtype('f8', list(STATE)),
    'attributes': build(call(DTYPE, 'f8'), ({'_code': 'O'}, {'_code': 'O'})),
    'class made without a code': new(DTYPE),
    'class made of objects': new(DTYPE, 'O'),
    'none': put(None),
    'text alone': put('f8'),
    'type of PyTorch': name('torch', 'float64'),
}


@pytest.mark.parametrize('kind', HOSTILE_DTYPES.values(), ids=HOSTILE_DTYPES)
def test_no_array_or_scalar_of_another_dtype(tmp_path, kind):
    refused(tmp_path, array(kind=kind))
    refused(tmp_path, call(SCALAR, kind, raw(bytes(8))))
    refused(tmp_path, call(RECONSTRUCT, NDARRAY, (0,), kind))


HOSTILE_ARRAYS = {
    'too few bytes': array(data=raw(bytes(8))),
    'too many bytes': array(data=raw(bytes(24))),
    'negative': array(shape=(-1,)),
    'negative twice': array(shape=(-1, -2)),
    'huge': array(shape=(10**12,)),
    'overflowing': array(shape=(2**62, 4)),
    'overflowing to its size': array(shape=(2**63, 2, 2**62)),
    'huge without elements': array(shape=(0, 2**62), data=raw(b'')),
    'huge sides without elements': array(shape=(0, 2**30, 2**30), data=raw(b'')),
    'truth values in the shape': array(shape=(True, 2)),
    'floats in the shape': array(shape=(call(name('numpy.core.multiarray', 'scalar'), dtype(), raw(bytes(8))),)),
    'shape as list': array(shape=[2]),
    'shape as number': array(shape=2),
    '40 dimensions': array(shape=(1,) * 39 + (2,)),
    'text as data': array(data='1234567812345678'),
    'list as data': array(data=[1, 2]),
    'array as data': array(data=build(call(RECONSTRUCT, NDARRAY, (0,), raw(b'b')), (1, (2,), dtype(), False, DATA))),
    'other flag': array(fortran=2),
    'flag as text': array(fortran='C'),
    'version': array(version=2),
    'truth values of 2': array(kind=dtype('b1'), data=raw(b'\1\2')),
    'state as dict': build(call(RECONSTRUCT, NDARRAY, (0,), raw(b'b')), {'shape': (2,)}),
    'state with attributes': build(call(RECONSTRUCT, NDARRAY, (0,), raw(b'b')), (None, {'shape': (2,)})),
    'state that sets strides': build(call(RECONSTRUCT, NDARRAY, (0,), raw(b'b')), ({'strides': (0,)}, {})),
    'state twice': build(array(), (1, (1,), dtype(), False, raw(bytes(8)))),
    'started with a shape': array(start=call(RECONSTRUCT, NDARRAY, (10**12,), raw(b'b'))),
    'started with two sides': array(start=call(RECONSTRUCT, NDARRAY, (0, 0), raw(b'b'))),
    'started with objects': array(start=call(RECONSTRUCT, NDARRAY, (0,), raw(b'O'))),
    'started with another class': array(start=call(RECONSTRUCT, DTYPE, (0,), raw(b'b'))),
    'started with a class of PyTorch': array(start=call(RECONSTRUCT, name('torch', 'Tensor'), (0,), raw(b'b'))),
    'called': call(NDARRAY, (10**12,)),
    'called with data and strides': call(NDARRAY, (4,), 'f8', raw(bytes(8)), 0, (0,)),
    'made': new(NDARRAY, (2,), 'O'),
    'made and built': array(start=new(NDARRAY, (0,))),
}


@pytest.mark.parametrize('value', HOSTILE_ARRAYS.values(), ids=HOSTILE_ARRAYS)
def test_no_other_array(tmp_path, value):
    refused(tmp_path, value)


@pytest.mark.parametrize('data', [b'', bytes(7), bytes(16), '12345678', 3, None])
def test_no_scalar_of_another_size(tmp_path, data):
    refused(tmp_path, call(SCALAR, dtype(), raw(data) if isinstance(data, bytes) else data))


def buffer(**changes):
    methods = {each: call(GETATTR, BUFFER, each) for each in ('min', 'max', 'current', 'mean')}
    state = dict(max_length=9, _log_history=array(), _count_history=array(), statistics_methods=methods)
    state = {key: value for key, value in {**state, **changes}.items() if value != 'leave out'}
    return build(new(BUFFER), state)


def test_a_history_buffer_is_one_of_mmengine_with_plain_arrays(tmp_path):
    from mmengine.logging import HistoryBuffer

    for value in (buffer(), buffer(statistics_methods='leave out')):
        found = load(tmp_path, value)
        assert type(found) is HistoryBuffer
        assert found.mean() == 1
        assert found.statistics('max') == 2
        assert all(type(each) is np.ndarray for each in found.data)
        found.update(6.0)
        assert found.max_length == 9
        assert found.statistics('max') == 6
    assert set(HistoryBuffer._statistics_methods) == {'min', 'max', 'current', 'mean'}


HOSTILE_BUFFERS = {
    'a statistic under another name': buffer(statistics_methods={'mean': call(GETATTR, BUFFER, 'min')}),
    'a new statistic': buffer(statistics_methods={'best': call(GETATTR, BUFFER, 'min')}),
    'a foreign statistic': buffer(statistics_methods={'mean': name('_codecs', 'encode')}),
    'a rebuilding function as statistic': buffer(
        statistics_methods={'mean': name('torch._utils', '_rebuild_tensor_v2')}
    ),
    'a class as statistic': buffer(statistics_methods={'mean': BUFFER}),
    'statistics as list': buffer(statistics_methods=['mean']),
    'the attribute of the class': buffer(_statistics_methods={}),
    'another attribute': buffer(update=name('_codecs', 'encode')),
    'a class': buffer(__class__=NDARRAY),
    'no length': buffer(max_length='leave out'),
    'length as text': buffer(max_length='9'),
    'negative length': buffer(max_length=-1),
    'length True': buffer(max_length=True),
    'history as list': buffer(_log_history=[1, 2]),
    'history as number': buffer(_log_history=3),
    'history that is not filled': buffer(_log_history=call(RECONSTRUCT, NDARRAY, (0,), raw(b'b'))),
    'history of two dimensions': buffer(_log_history=array(shape=(1, 2))),
    'histories of two lengths': buffer(_log_history=array(shape=(1,), data=raw(bytes(8)))),
    'state as tuple': build(new(BUFFER), ({'max_length': 1}, {'_log_history': 1})),
    'state as list': build(new(BUFFER), [1]),
    'state twice': build(buffer(), {'max_length': 1}),
    'attributes after the state': build(buffer(), (None, {'update': 1})),
    'arguments': new(BUFFER, 3),
    'called with arguments': call(BUFFER, [1.0], [1]),
    'getattr of the constructor': call(GETATTR, BUFFER, '__init__'),
    'getattr of the globals': call(GETATTR, call(GETATTR, BUFFER, 'mean'), '__globals__'),
    'getattr of an object': call(GETATTR, buffer(), 'mean'),
    'getattr of PyTorch': call(GETATTR, name('torch._utils', '_rebuild_tensor_v2'), '__globals__'),
    'getattr with a default': call(GETATTR, BUFFER, 'mean', 1),
    'getattr of a tuple': call(GETATTR, BUFFER, ('mean',)),
    'a statistic called': call(call(GETATTR, BUFFER, 'mean'), buffer()),
    'a statistic built': build(call(GETATTR, BUFFER, 'mean'), {'__code__': 1}),
}


@pytest.mark.parametrize('value', HOSTILE_BUFFERS.values(), ids=HOSTILE_BUFFERS)
def test_no_other_history_buffer(tmp_path, value):
    refused(tmp_path, value)


def inert(value):
    """Return whether what was loaded cannot do more than hold plain numbers."""
    if isinstance(value, np.ndarray):
        return value.dtype.str[1:] in PLAIN and value.nbytes < 100
    if isinstance(value, np.generic):
        return value.dtype.str[1:] in PLAIN
    return type(value).__module__ == 'mmext.compat.torch_safe_globals' or getattr(value, '__module__', '').startswith(
        ('mmext.compat', 'mmengine.logging')
    )


ARGUMENTS = [
    (), ('O',), ('f8', False, True), ((10**11,),), ((2,), 'O'), (DTYPE,), (NDARRAY, (0,), raw(b'b')), (BUFFER, 'mean'),
    (BUFFER, '__subclasses__'), ([1], [1]), (dtype(), raw(bytes(8))), (10**11,), (name('torch', 'Tensor'), 'x'),
]  # fmt: skip
STATES = [
    None, {}, {'x': 1}, {'__class__': NDARRAY}, (None, {'x': 1}), ({'__dict__': {}}, {'__class__': DTYPE}), (), STATE,
    (3, '<', None, ('a',), {'a': (call(DTYPE, 'O'), 0)}, 8, 1, 0), (1, (2,), dtype(), False, raw(bytes(16))),
    (1, (2,), call(DTYPE, 'O'), False, [1, 2]), [1], 'x', 3,
]  # fmt: skip


@pytest.mark.parametrize('declared', DECLARED)
def test_every_instruction_on_every_name(tmp_path, declared):
    """What is not refused is inert, and PyTorch alone refuses it: nothing of what it loads has changed."""
    target = DECLARED[declared]
    made = [target]
    made += [make(target, *args) for make in (call, new) for args in ARGUMENTS]
    values = made + [build(value, state) for value, state in itertools.product(made, STATES)]
    values += [value + b'(' + put('x') + put(1) + b'u' for value in made] + [value + put(1) + b'a' for value in made]
    loaded = 0
    for value in values:
        try:
            found = load(tmp_path, value)
        except (pickle.UnpicklingError, TypeError):  # torch calls object.__new__ and functions with wrong arguments
            continue
        loaded += 1
        assert inert(found), (value, type(found))
    assert loaded


def test_functions_of_pytorch_get_no_further_with_the_names(tmp_path):
    rebuild = name('torch._tensor', '_rebuild_from_type_v2')
    from_numpy = name('torch._utils', '_rebuild_device_tensor_from_numpy')
    wrap = name('torch._utils', '_rebuild_wrapper_subclass')
    empty = call(RECONSTRUCT, NDARRAY, (0,), raw(b'b'))
    for value in (
        call(rebuild, NDARRAY, NDARRAY, ((10**6,), 'O'), {}),
        call(rebuild, DTYPE, DTYPE, ('f8',), (3, '<', None, ('a',), {'a': (call(DTYPE, 'O'), 0)}, 8, 1, 0)),
        call(rebuild, RECONSTRUCT, NDARRAY, (NDARRAY, (0,), raw(b'b')), (1, (9,), dtype(), False, raw(bytes(8)))),
        call(rebuild, GETATTR, BUFFER, (BUFFER, '__init__'), {}),
        call(wrap, NDARRAY, name('torch', 'float32'), (10**9,), (1,), 0, name('torch', 'float32'), 'cpu', False),
    ):
        with pytest.raises(Exception):  # noqa: B017  PyTorch's functions raise what they like
            load(tmp_path, value)
    # a tensor made of the array before its state is set must not point to memory that setting it gives free
    early = call(from_numpy, b'h\x63', name('torch', 'bool'), 'cpu', False)
    later = build(b'h\x63', (1, (3,), dtype(), False, raw(struct.pack('<3d', 1, 2, 3))))
    found = load(tmp_path, (empty + b'q\x63', early, later))
    assert found[1].shape == (0,)
    assert found[0] is found[2]
    assert np.array_equal(found[0], [1, 2, 3])


def test_pytorch_alone_refuses_all_of_it(tmp_path):
    """In a process without mmext, no file of this kind loads: what the names open is what mmext opens, no more."""
    script = (
        'import pickle, sys, torch\n'
        'for path in sys.argv[1:]:\n'
        '    try:\n'
        '        torch.load(path, weights_only=True)\n'
        '    except pickle.UnpicklingError:\n'
        '        continue\n'
        '    sys.exit(f"{path} loads")\n'
    )
    paths = [write(tmp_path / f'{index}.pth', {'x': value}) for index, value in enumerate(DECLARED.values())]
    done = subprocess.run([sys.executable, '-c', script, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('seed', range(2))
def test_names_of_other_packages_beside_these(tmp_path, seed):
    """Others declare numpy's own names, as PyTorch's documentation advises: the outcome is not left to chance."""
    script = """
        import pickle, sys
        import numpy as np
        import torch
        import mmext
        from mmengine.logging import HistoryBuffer

        multiarray = np.core.multiarray if np.__version__ < '2' else np._core.multiarray
        whole = [getattr, HistoryBuffer, np.dtype, np.ndarray, multiarray._reconstruct, multiarray.scalar]
        whole += [type(np.dtype(code)) for code in ('f8', 'i8')]
        for _ in range(10):
            with torch.serialization.safe_globals(whole):
                hub = torch.load(sys.argv[1], weights_only=True)
                assert hub['loss'].mean() == 2 and hub['loss'].statistics('max') == 3 and hub['best'] == 1.5
            for part in (whole[2:4], whole[3:5], whole[2:6]):
                with torch.serialization.safe_globals(part):
                    try:
                        torch.load(sys.argv[1], weights_only=True)
                    except pickle.UnpicklingError:
                        continue
                    raise AssertionError(part)
        """
    from mmengine.logging import HistoryBuffer

    torch.save({'loss': HistoryBuffer([1.0, 3.0], [1, 1]), 'best': np.float64(1.5)}, tmp_path / 'a.pth')
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(script), tmp_path / 'a.pth'],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONHASHSEED': str(seed)},
    )
    assert done.returncode == 0, done.stderr


def test_a_checkpoint_of_the_runner_is_resumed(tmp_path):
    """The message hub of mmengine goes through a file and back into a hub, at default arguments of torch.load."""
    from mmengine.logging import HistoryBuffer, MessageHub

    hub = MessageHub.get_instance('test_safe_globals')
    for value in (0.5, 0.25, 0.125):
        hub.update_scalar('train/loss', value)
    hub.update_info('iter', 3)
    hub.update_info('best', np.float32(0.5))
    file = io.BytesIO()
    torch.save({'message_hub': hub.state_dict()}, file)
    file.seek(0)
    again = MessageHub.get_instance('test_safe_globals_again')
    again.load_state_dict(torch.load(file)['message_hub'])
    assert type(again.get_scalar('train/loss')) is HistoryBuffer
    assert again.get_scalar('train/loss').mean() == pytest.approx(0.875 / 3)
    assert again.get_info('iter') == 3
    assert again.get_info('best') == np.float32(0.5)
