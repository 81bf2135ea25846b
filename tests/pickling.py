"""Pickles written instruction by instruction, and files around them, for tests of what a hostile file can do."""

import struct
import zipfile

MARK, REDUCE, NEWOBJ, BUILD, TUPLE = b'(', b'R', b'\x81', b'b', b't'


def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def put(value):
    """Return the instructions that make a value; bytes in the value are instructions already."""
    if isinstance(value, bytes):
        return value
    if value is None or isinstance(value, bool):
        return {None: b'N', True: b'\x88', False: b'\x89'}[value]
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b'J' + struct.pack('<i', value)
        data = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
        return b'\x8a' + bytes([len(data)]) + data
    if isinstance(value, float):
        return b'G' + struct.pack('>d', value)
    if isinstance(value, str):
        data = value.encode()
        return b'X' + struct.pack('<I', len(data)) + data
    if isinstance(value, tuple):
        return MARK + b''.join(map(put, value)) + TUPLE
    if isinstance(value, list):
        return b']' + MARK + b''.join(map(put, value)) + b'e'
    if isinstance(value, dict):
        return b'}' + MARK + b''.join(put(key) + put(item) for key, item in value.items()) + b'u'
    raise TypeError(type(value))


def call(function, *args):
    return function + put(args) + REDUCE


def new(cls, *args):
    return cls + put(args) + NEWOBJ


def build(target, state):
    return target + put(state) + BUILD


def raw(data):
    """Return the instructions that make bytes, as pickle writes them for protocol 2."""
    return call(name('_codecs', 'encode'), data.decode('latin1'), 'latin1')


def storage(key='0', count=4, kind='FloatStorage', legacy=False):
    return put(('storage', name('torch', kind), key, 'cpu', count) + (None,) * legacy) + b'Q'


def tensor(shape=(4,), stride=(1,), offset=0, **options):
    hooks = call(name('collections', 'OrderedDict'))
    return call(name('torch._utils', '_rebuild_tensor_v2'), storage(**options), offset, shape, stride, False, hooks)


def pickled(value):
    return b'\x80\x02' + put(value) + b'.'


def write(path, value, storages=(bytes(16),), records=(), compression=zipfile.ZIP_STORED):
    """Write a file of today's format around a pickle."""
    with zipfile.ZipFile(path, 'w', compression) as archive:
        archive.writestr('a/data.pkl', pickled(value))
        archive.writestr('a/byteorder', b'little')
        for key, data in enumerate(storages):
            archive.writestr(f'a/data/{key}', data)
        archive.writestr('a/version', b'3\n')
        for record, data in records:
            archive.writestr(record, data)
    return path


def write_legacy(path, value, keys=('0',), storages=((4, bytes(16)),)):
    """Write a file of the format before PyTorch 1.6 around a pickle."""
    header = (0x1950A86A20F9469CFC6C, 1001, {'protocol_version': 1001, 'little_endian': True})
    parts = [pickled(part) for part in (*header, value, list(keys))]
    parts += [struct.pack('<q', count) + data for count, data in storages]
    path.write_bytes(b''.join(parts))
    return path
