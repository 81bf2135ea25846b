"""The files of ``torch.save``, checked before PyTorch reads them: they take no more memory than they are long."""

import io
import mmap
import struct
import zipfile
import zlib
from itertools import pairwise

from .pickles import PickleError, follow

__all__ = ['check_archive']

MAGIC = 0x1950A86A20F9469CFC6C  # starts the format before PyTorch 1.6, which is five pickles and the storages
END, END64, LOCATOR = b'PK\x05\x06', b'PK\x06\x06', b'PK\x06\x07'
END_SIZE, END64_SIZE, LOCATOR_SIZE, LOCAL_SIZE = 22, 56, 20, 30


def check_archive(file):
    """Check a checkpoint's structure and follow its pickle, without making anything that it asks for.

    Args:
        file (BinaryIO): A file of the operating system, not empty.

    Raises:
        PickleError: If it asks for code, would take more memory than it is long, or is damaged.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] == b'PK\x03\x04':
            _check_zip(file, data)
        else:
            _check_legacy(data)


def _check_zip(file, data):
    count = _check_directory(data)
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    if len(records) != count:
        raise PickleError('its directory is damaged')
    spans, names = [], set()
    for record in records:
        name = record.filename
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
            raise PickleError(
                f'its record {name!r} is compressed ({record.compress_size} bytes for {record.file_size}); torch.save '
                'writes records as they are: unpack it and zip it without compression (zip -0), or save it again'
            )
        if record.flag_bits & 0x1:
            raise PickleError(f'its record {name!r} is encrypted')
        if record.orig_filename != name or name.lower() in names:  # PyTorch looks names up without regard to case
            raise PickleError(f'it has two records {name!r}, or one of an odd name')
        names.add(name.lower())
        spans.append(_span(data, record))
    folder = records[0].filename.partition('/')[0] if records else ''
    sizes = {
        record.filename.removeprefix(f'{folder}/'): span
        for record, span in zip(records, spans)
        if record.filename.startswith(f'{folder}/')
    }
    if 'data.pkl' not in sizes:
        raise PickleError('it is a zip archive without the data.pkl of torch.save')
    if any(name.endswith('/constants.pkl') for name in names):
        raise PickleError(
            'it is a TorchScript archive, which holds a program; load it with torch.jit.load if you trust its origin, '
            'and save its state_dict()'
        )
    _check_overlap(spans, records)
    summed = any(record.CRC for record in records)  # torch.serialization.set_crc32_options(False) writes zeros
    with memoryview(data) as view:
        for record, (_, start, stop) in zip(records, spans):
            if summed and zlib.crc32(view[start:stop]) != record.CRC:
                raise PickleError(f'its record {record.filename!r} is damaged (another checksum than written)')

    def storage_size(key):
        if f'data/{key}' not in sizes:
            raise PickleError(f'its storage {key[:50]!r} is missing')
        _, start, stop = sizes[f'data/{key}']
        return stop - start

    _, start, stop = sizes['data.pkl']
    follow(io.BytesIO(data[start:stop]), storage_size)


def _check_directory(data):
    """Return the number of records, after checking that every reader of zip archives finds the same directory."""
    end = len(data) - END_SIZE
    if end < 0 or data[end : end + 4] != END or data[-2:] != b'\0\0':
        raise PickleError('it ends too early, or has something after its end')
    count, size, offset = struct.unpack_from('<10xHLL', data, end)
    locator = end - LOCATOR_SIZE
    if locator >= 0 and data[locator : locator + 4] == LOCATOR:
        (end64,) = struct.unpack_from('<8xQ', data, locator)
        end = locator - END64_SIZE
        if end < 0 or end64 != end or data[end : end + 4] != END64:
            raise PickleError('its directory is damaged')
        count, size, offset = struct.unpack_from('<32xQQQ', data, end)
    if offset + size != end:
        raise PickleError('its directory is damaged')
    return count


def _span(data, record):
    """Return where a record starts, where its bytes do, and where they end."""
    header = record.header_offset
    if header < 0 or data[header : header + 4] != b'PK\x03\x04' or header + LOCAL_SIZE > len(data):
        raise PickleError(f'its record {record.filename!r} is damaged')
    name, extra = struct.unpack_from('<26xHH', data, header)
    start = header + LOCAL_SIZE + name + extra
    if start + record.file_size > len(data):
        raise PickleError(f'its record {record.filename!r} ends after the file does')
    return header, start, start + record.file_size


def _check_overlap(spans, records):
    order = sorted(range(len(spans)), key=lambda index: spans[index])
    for before, after in pairwise(order):
        if spans[before][2] > spans[after][0]:
            raise PickleError(
                f'its records {records[before].filename!r} and {records[after].filename!r} share bytes of the file'
            )


def _check_legacy(data):
    magic, _ = follow(data)
    if getattr(magic, 'items', None) != MAGIC:
        raise PickleError('it does not start as files of torch.save do')
    for _ in range(2):  # version of the protocol, sizes of types
        follow(data)
    _, storages = follow(data)
    keys, _ = follow(data)
    listed = keys.items if getattr(keys, 'kind', '') == 'list' else []
    if not all(isinstance(key, str) for key in listed) or sorted(listed) != sorted(storages):
        raise PickleError('its list of storages is not that of its pickle')
    held = len(data) - data.tell()
    if sum(storages.values()) + 8 * len(storages) > held:
        raise PickleError(f'its storages have {sum(storages.values())} bytes, but only {held} bytes of them are there')
