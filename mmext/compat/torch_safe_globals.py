"""Checkpoints saved by mmengine do not load under torch 2.6 and newer, whose ``torch.load`` refuses unknown classes.

Upstream: https://github.com/open-mmlab/mmengine/issues/1655. Such a checkpoint holds, besides tensors, the message hub:
``HistoryBuffer`` objects made of numpy arrays, which carry references to their own statistics methods. The names in
such files are declared safe, but none is bound to what it names elsewhere: numpy's own ``dtype`` and ``ndarray`` take
any state from a file (object fields at addresses that the file gives, any shape and strides), and the real ``getattr``
would let a hostile file walk from any object to any other. They are bound to the functions and classes below, which
check everything and give out arrays and scalars of truth values, integers and floats, buffers made of them, and the
statistics of ``HistoryBuffer``; nothing else.
"""

import functools
import math
import pickle
import types

import numpy as np
import torch

STATISTICS = ('min', 'max', 'current', 'mean')
CODES = {'b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8'}
MAX_DIMS = 32  # of numpy 1; numpy 2 has 64
MAX_SIDE = 2**31  # of an array without elements, whose shape no data bound
_NOTHING = np.zeros(0, bool)


def _refuse(what):
    raise pickle.UnpicklingError(
        f'the checkpoint has {what}; besides tensors, what mmengine itself saves is allowed: arrays and scalars of '
        'truth values, integers and floats, and HistoryBuffer with its statistics. Load it only if you trust its '
        'origin, with torch.load(..., weights_only=False), and save what you need of it.'
    )


def _checked(function):
    """Turn every error over odd arguments into the one that ``torch.load`` expects of a file that is refused."""

    @functools.wraps(function)
    def checked(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except pickle.UnpicklingError:
            raise
        except Exception as error:
            _refuse(f'damaged or hostile numpy data ({type(error).__name__})')

    return checked


def _is_int(value, lowest, highest):
    return type(value) is int and lowest <= value <= highest


class _DType:
    """What a file gets for ``numpy.dtype``: the name of a plain numeric type and its byte order, and no more."""

    __slots__ = ('_code', '_order')

    @_checked
    def __new__(cls, code, align=False, copy=True):
        """Make one, or numpy's own dtype where another package has declared all that belongs to it."""
        if type(code) is not str or code not in CODES:
            _refuse(f'a numpy dtype other than {", ".join(sorted(CODES))}')
        if align not in (False, True) or copy not in (False, True):
            _refuse('a numpy dtype with other options than those that numpy writes')
        dtype = np.dtype(code, copy=True)
        declared = torch.serialization.get_safe_globals()
        if any(item is name for item in declared for name in _numpy_names()):
            # torch.load then finds either meaning of each name, by chance: numpy's array takes numpy's dtype alone
            if not all(any(item is name for item in declared) for name in (np.dtype, type(dtype))):
                raise pickle.UnpicklingError(
                    f'another package has declared some of numpy as safe, but not what a dtype of {code} needs: call '
                    f"torch.serialization.add_safe_globals([numpy.dtype, type(numpy.dtype('{code}'))], or declare "
                    'nothing of numpy, as mmext has declared plain arrays'
                )
            return dtype
        self = super().__new__(cls)
        self._code = code
        self._order = '='
        return self

    @_checked
    def __setstate__(self, state):
        if type(state) is not tuple or len(state) != 8 or [type(part) for part in state] != [
            int, str, *[types.NoneType] * 3, int, int, int
        ]:  # fmt: skip
            _refuse('a numpy dtype with fields, a shape or metadata of its own')
        if state[0] != 3 or state[1] not in ('<', '>', '|') or state[5:] != (-1, -1, 0):
            _refuse('a numpy dtype with a size, an alignment or flags of its own')
        self._order = '=' if state[1] == '|' else state[1]

    def __reduce__(self):
        return _plain_dtype(self).__reduce__()


class LoadedArray(np.ndarray):
    """What a file gets for ``numpy.ndarray``: an array that takes its state once, and only if all of it is plain.

    Pickles and copies made of it are of ``numpy.ndarray`` itself.
    """

    def __new__(cls, *args, **kwargs):
        """Refuse: ``_reconstruct`` alone makes such an array."""
        _refuse('an array that is not made as numpy pickles one')

    @_checked
    def __setstate__(self, state):
        # setting the state frees what memory the array owns, where a tensor may point
        if self.size or (self.base is not None and self.base is not _NOTHING):
            _refuse('an array whose values are set twice')
        if type(state) is not tuple or len(state) != 5 or not _is_int(state[0], 1, 1):
            _refuse('an array with another state than numpy writes')
        _, shape, dtype, fortran, data = state
        dtype = _plain_dtype(dtype)
        if type(shape) is not tuple or len(shape) > MAX_DIMS or not all(_is_int(n, 0, MAX_SIDE) for n in shape):
            _refuse('an array of an impossible shape')
        if type(fortran) not in (bool, int) or fortran not in (0, 1):
            _refuse('an array with odd flags')
        _check_data(data, dtype, math.prod(shape))
        if not data and math.prod(n or 1 for n in shape) > MAX_SIDE:
            _refuse('an array of an impossible shape')
        super().__setstate__((1, shape, dtype, bool(fortran), data))

    def __reduce__(self):
        return np.array(self).__reduce__()

    def __reduce_ex__(self, protocol):
        return np.array(self).__reduce_ex__(protocol)

    def __copy__(self):
        return np.array(self)

    def __deepcopy__(self, memo):
        return np.array(self)


class _Statistics(type):
    """Gives the stand-in for ``HistoryBuffer`` its statistics, for a ``getattr`` that another package declared."""

    def __getattr__(cls, name):
        from mmengine.logging import HistoryBuffer

        if name in STATISTICS:
            return getattr(HistoryBuffer, name)
        raise AttributeError(name)


class _Buffer(metaclass=_Statistics):
    """What a file gets for ``HistoryBuffer``: becomes one when its state is set, if the state is a buffer's."""

    def __new__(cls, *args, **kwargs):
        """Refuse arguments, which mmengine's files have none of."""
        if args or kwargs:
            _refuse('a HistoryBuffer that is not made as mmengine saves one')
        return super().__new__(cls)

    @_checked
    def __setstate__(self, state):
        from mmengine.logging import HistoryBuffer

        names = {'max_length', '_log_history', '_count_history'}
        if type(state) is not dict or not names <= state.keys() <= names | {'statistics_methods'}:
            _refuse('a HistoryBuffer with other attributes than mmengine writes')
        # mmengine would put these into the class, for all buffers
        methods = state.get('statistics_methods', {})
        if type(methods) is not dict or not methods.keys() <= set(STATISTICS):
            _refuse('a HistoryBuffer with statistics that are not its own')
        if not all(method is getattr(HistoryBuffer, name) for name, method in methods.items()):
            _refuse('a HistoryBuffer with statistics that are not its own')
        if not _is_int(state['max_length'], 1, 2**63):
            _refuse('a HistoryBuffer with an odd length')
        history = {name: state[name] for name in ('_log_history', '_count_history')}
        if not all(isinstance(value, np.ndarray) and value.ndim == 1 for value in history.values()):
            _refuse('a HistoryBuffer of other things than two arrays')
        if any(value.dtype.kind not in 'biuf' for value in history.values()) or len({*map(len, history.values())}) > 1:
            _refuse('a HistoryBuffer of other things than two arrays of numbers and of one length')
        self.__class__ = HistoryBuffer
        self.max_length = state['max_length']
        for name, value in history.items():
            setattr(self, name, np.array(value))
        self._set_default_statistics()


def _numpy_names():
    multiarray = np.core.multiarray if np.__version__ < '2' else np._core.multiarray
    return np.dtype, np.ndarray, multiarray._reconstruct, multiarray.scalar


def _plain_dtype(dtype):
    """Return numpy's dtype for one of ours, or one that others' declarations made, if it is plain."""
    if type(dtype) is _DType:
        return np.dtype(dtype._code).newbyteorder(dtype._order)
    if isinstance(dtype, np.dtype) and dtype.str[1:] in CODES and dtype.metadata is None:
        return np.dtype(dtype.str)
    _refuse('a numpy dtype that is not one of plain numbers')


def _check_data(data, dtype, count):
    if type(data) is not bytes or len(data) != count * dtype.itemsize:
        _refuse('numpy data of another size than their shape and dtype say')
    if dtype.kind == 'b' and data.translate(None, b'\0\1'):
        _refuse('truth values that are neither 0 nor 1')  # numpy counts them by adding bytes


@_checked
def _reconstruct(subtype, shape, code):
    """Stand in for numpy's function of this name: return an empty array whose values follow."""
    if (
        (subtype is not LoadedArray and subtype is not np.ndarray)
        or type(shape) is not tuple
        or code not in (b'b', 'b')
    ):
        _refuse('an array that is not made as numpy pickles one')
    if len(shape) != 1 or not _is_int(shape[0], 0, 0):
        _refuse('an array that is not made as numpy pickles one')
    return np.ndarray.__new__(LoadedArray, (0,), bool, _NOTHING)


@_checked
def _scalar(dtype, data):
    """Stand in for numpy's function of this name: return a scalar of a plain type."""
    dtype = _plain_dtype(dtype)
    _check_data(data, dtype, 1)
    return np.frombuffer(data, dtype)[0]


@_checked
def _history_buffer_getattr(owner, name):
    """Stand in for ``getattr``: return one of ``HistoryBuffer``'s own statistics."""
    from mmengine.logging import HistoryBuffer

    if (owner is not _Buffer and owner is not HistoryBuffer) or type(name) is not str or name not in STATISTICS:
        asked = repr(name[:50]) if type(name) is str else type(name).__name__
        _refuse(f'getattr({type(owner).__name__}, {asked}), which is code')
    return getattr(HistoryBuffer, name)


def apply():
    """Declare what mmengine's checkpoints hold besides tensors as safe for ``torch.load``."""
    if tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 6):
        return  # torch.load accepts everything by default there, and its list takes no names for functions
    names = [
        (_Buffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_history_buffer_getattr, 'builtins.getattr'),
        (_DType, 'numpy.dtype'),
        (LoadedArray, 'numpy.ndarray'),
        # no file can ask for this name; the class may set its state even where another package has declared numpy's own
        # array under the name above
        (LoadedArray, 'array of mmext'),
    ]
    # numpy 1 and 2 write different module names for the same functions, and either may read the other's file
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        names += [(_reconstruct, f'{module}._reconstruct'), (_scalar, f'{module}.scalar')]
    torch.serialization.add_safe_globals(names)
