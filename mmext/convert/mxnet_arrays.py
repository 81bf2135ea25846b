"""The arrays in an MXNet ``.params`` file: how each one is stored and where.

Source: the NDArray format of Apache MXNet 0.x and 1.x. The first four bytes of an array are the magic number of version
1, 2 or 3; in version 0, which has none, they are the number of dimensions.
"""

import math
import struct
from dataclasses import dataclass

import numpy as np

from .report import ConversionError

__all__ = ['BFLOAT16', 'BOOL', 'TYPES', 'Cursor', 'MXNetParamsError', 'Part', 'StoredArray', 'scan_array']

VERSIONS = {0xF993FAC8: 1, 0xF993FAC9: 2, 0xF993FACA: 3}
MAX_DIMS = 32
MAX_BYTES = 2**63 - 1
BOOL, BFLOAT16 = 7, 12
TYPES = dict(enumerate(('<f4', '<f8', '<f2', 'u1', '<i4', 'i1', '<i8', '?', '<i2', '<u2', '<u4', '<u8', '<u2')))
INDEX_TYPES = (4, 6)
# Storage type -> its name and those of its parts, in the order of the file.
STORAGES = {0: ('dense', ('data',)), 1: ('row_sparse', ('data', 'indices')), 2: ('csr', ('data', 'indptr', 'indices'))}


class MXNetParamsError(ConversionError):
    """A file that is no whole MXNet ``.params`` file.

    Attributes:
        offset (int): First byte of the field that is wrong, counted from 0.
    """

    def __init__(self, message, offset):
        super().__init__(message, offset)
        self.offset = offset

    def __str__(self):
        return f'{self.args[0]} (at byte {self.offset})'


@dataclass(frozen=True, slots=True)
class Part:
    """One block of values: type flag, shape and the byte where it starts."""

    flag: int
    shape: tuple
    offset: int


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array as it is stored.

    Attributes:
        version: Of its layout, 0 to 3.
        storage: 'dense', 'row_sparse' or 'csr'.
        shape: Of the dense array.
        parts: Name -> block of values; 'data' of a dense array, also 'indices' of a row_sparse one, also 'indptr' and
            'indices' of a csr one.
    """

    version: int
    storage: str
    shape: tuple
    parts: dict


class Cursor:
    """A place in a file that moves on with what is read; never beyond the end.

    Args:
        path (Path): Name for messages.
        buffer (mmap): The whole file.
    """

    def __init__(self, path, buffer):
        self.path = path
        self.buffer = buffer
        self.size = len(buffer)
        self.offset = 0

    @property
    def left(self):
        """int: Bytes from here to the end of the file."""
        return self.size - self.offset

    def error(self, text, offset):
        """Return the error to raise about the field at that byte."""
        return MXNetParamsError(f'{self.path}: {text}', offset)

    def skip(self, count, what):
        """Move on by some bytes; returns the place before.

        Raises:
            MXNetParamsError: If the file ends earlier.
        """
        if count > self.left:
            raise self.error(
                f'the file ends too early: {what} takes {count} bytes and {self.left} are left; it is cut short or '
                'damaged, so download it again',
                self.offset,
            )
        self.offset += count
        return self.offset - count

    def numbers(self, layout, what):
        """Read little-endian numbers, given as :mod:`struct` has them.

        Raises:
            MXNetParamsError: If the file ends earlier.
        """
        layout = f'<{layout}'
        return struct.unpack_from(layout, self.buffer, self.skip(struct.calcsize(layout), what))


def scan_array(cursor, what):
    """Read the header of an array and move behind its values, which are not read.

    Args:
        cursor (Cursor): At the array.
        what (str): Name of the array for messages, such as ``'array 3'``.

    Returns:
        StoredArray: Where its values are.

    Raises:
        MXNetParamsError: If a field has a value that is not legal, the parts do not fit together, or the values reach
            beyond the end of the file. Arrays without a value ("none", an empty handle) are refused, too: no
            checkpoint has them.
    """
    start = cursor.offset
    (first,) = cursor.numbers('I', f'the start of {what}')
    version = VERSIONS.get(first, 0)
    if not version and first > MAX_DIMS:
        raise cursor.error(
            f'{what} starts with 0x{first:08X}, neither the magic number of a version nor a number of dimensions up to '
            f'{MAX_DIMS}; the file is damaged, so download it again',
            start,
        )
    storage, names, stored_shape = 'dense', ('data',), None
    if version >= 2:
        (kind,) = cursor.numbers('i', f'the storage type of {what}')
        if kind not in (STORAGES if version == 2 else (0,)):
            allowed = '0 (dense), 1 (row_sparse) or 2 (csr)' if version == 2 else '0 (dense) in version 3'
            raise cursor.error(f'{what} has storage type {kind}, it must be {allowed}', cursor.offset - 4)
        storage, names = STORAGES[kind]
        if kind:
            stored_shape = _shape(cursor, version, f'the stored part of {what}')
    shape = _shape(cursor, version, what, None if version else first)
    cursor.skip(8, f'the context of {what}')  # the device it was on says nothing about the values
    flags = [_type_flag(cursor, what, TYPES)]
    shapes = [shape if stored_shape is None else stored_shape]
    for name in names[1:]:
        flags.append(_type_flag(cursor, f'{name} of {what}', INDEX_TYPES))
        shapes.append(_shape(cursor, version, f'{name} of {what}'))
    if storage != 'dense' and not _fit(storage, shape, shapes):
        raise cursor.error(
            f'{what} is a {storage} array of shape {list(shape)}, which '
            + ', '.join(f'{name} {list(found)}' for name, found in zip(names, shapes))
            + ' do not make',
            start,
        )
    parts = {}
    for name, flag, size in zip(names, flags, shapes):
        dtype = np.dtype(TYPES[flag])
        _check_size(cursor, shape, dtype, what, start)
        text = f'{name} of {what}, {list(size)} {"bfloat16" if flag == BFLOAT16 else dtype.name},'
        parts[name] = Part(flag, size, cursor.skip(math.prod(size) * dtype.itemsize, text))
    return StoredArray(version, storage, shape, parts)


def _shape(cursor, version, what, dims=None):
    """Read a shape; ``dims`` is given in version 0, where the number of dimensions has been read."""
    start = cursor.offset
    if dims is None:
        (dims,) = cursor.numbers('i', f'the number of dimensions of {what}')
    else:
        start -= 4
    if dims == (-1 if version == 3 else 0):
        raise cursor.error(f'{what} is "none", an array that never got a value; no checkpoint has such arrays', start)
    if not 0 <= dims <= MAX_DIMS:
        raise cursor.error(f'{what} has {dims} dimensions, it must be 0 to {MAX_DIMS}', start)
    start = cursor.offset
    shape = cursor.numbers(f'{dims}{"q" if version else "I"}', f'the shape of {what}')
    if any(size < 0 for size in shape):
        raise cursor.error(f'{what} has the shape {list(shape)}, no dimension may be negative', start)
    return shape


def _type_flag(cursor, what, known):
    (flag,) = cursor.numbers('i', f'the type flag of {what}')
    if flag not in known:
        raise cursor.error(
            f'{what} has the type flag {flag}, it must be one of {", ".join(map(str, known))}', cursor.offset - 4
        )
    return flag


def _check_size(cursor, shape, dtype, what, start):
    # also where a dimension is 0, as numpy cannot make such arrays
    if math.prod(size for size in shape if size) * dtype.itemsize > MAX_BYTES:
        raise cursor.error(f'{what} has the shape {list(shape)}, more than any memory holds', start)


def _fit(storage, shape, shapes):
    data, *indices = shapes
    if storage == 'row_sparse':
        return len(shape) >= 1 and len(data) == len(shape) and data[1:] == shape[1:] and indices == [data[:1]]
    # an array that holds nothing may lack the starts of its rows
    starts = ((shape[0] + 1,), (0,)) if data == (0,) else ((shape[0] + 1,),)
    return len(shape) == 2 and len(data) == 1 and indices[0] in starts and indices[1] == data
