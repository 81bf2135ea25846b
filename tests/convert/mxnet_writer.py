"""A writer of MXNet's .params files, made from a description of the format and not from the reader."""

import struct

import numpy as np

MAGIC = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}
FLAGS = dict(float32=0, float64=1, float16=2, uint8=3, int32=4, int8=5, int64=6, bool=7)
FLAGS |= dict(int16=8, uint16=9, uint32=10, uint64=11)
BFLOAT16 = 12
CPU = (1, 0)


def _shape(shape, version):
    if version == 0:
        return struct.pack(f'<I{len(shape)}I', len(shape), *shape)
    return struct.pack(f'<i{len(shape)}q', len(shape), *shape)


def _data(value):
    return np.asarray(value, order='C').tobytes()


def dense(value, version=2, context=CPU, flag=None):
    """The bytes of one array; flag overrides the one of its type, for values given as raw words."""
    value = np.asarray(value)
    head = struct.pack('<I', MAGIC[version]) if version else b''
    if version >= 2:
        head += struct.pack('<i', 0)
    flag = FLAGS[value.dtype.name] if flag is None else flag
    return head + _shape(value.shape, version) + struct.pack('<3i', *context, flag) + _data(value)


def sparse(shape, data, *indices, context=CPU):
    """The bytes of a row_sparse array, given the row indices, or of a csr one, given indptr and column indices."""
    found = struct.pack('<Ii', MAGIC[2], len(indices)) + _shape(data.shape, 2) + _shape(shape, 2)
    found += struct.pack('<3i', *context, FLAGS[data.dtype.name])
    for values in indices:
        found += struct.pack('<i', FLAGS[values.dtype.name]) + _shape(values.shape, 2)
    return found + _data(data) + b''.join(map(_data, indices))


def listed(arrays, names=()):
    """The bytes of a file of some arrays' bytes."""
    found = struct.pack('<3Q', 0x112, 0, len(arrays)) + b''.join(arrays) + struct.pack('<Q', len(names))
    for name in names:
        found += struct.pack('<Q', len(name.encode())) + name.encode()
    return found


def write(path, state, version=2, context=CPU):
    """Write {name: array} and return the path; goes array by array, so that large files take no more memory."""
    with open(path, 'wb') as file:
        file.write(struct.pack('<3Q', 0x112, 0, len(state)))
        for value in state.values():
            file.write(dense(value, version, context))
        file.write(listed([], list(state))[24:])
    return path
