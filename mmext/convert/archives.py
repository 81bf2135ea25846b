"""The files of ``torch.save``, checked before PyTorch reads them: they take no more memory than they are long."""

import io
import os
import struct
import zipfile
import zlib
from itertools import pairwise

from .pickles import follow
from .standins import PickleError

__all__ = ['check_archive']

MAGIC = 0x1950A86A20F9469CFC6C  # starts the format before PyTorch 1.6, which is five pickles and the storages
RECORD, END, END64, LOCATOR = b'PK\x03\x04', b'PK\x05\x06', b'PK\x06\x06', b'PK\x06\x07'
END_SIZE, END64_SIZE, LOCATOR_SIZE, RECORD_SIZE = 22, 56, 20, 30
MAX_RECORDS = 100_000  # a storage each
MAX_DIRECTORY = 2**24  # bytes
BLOCK = 2**20


def check_archive(file):
    """Check a checkpoint's structure and follow its pickle, without making anything that it asks for.

    Args:
        file (BinaryIO): A file that can be read anywhere, not empty.

    Raises:
        PickleError: If it asks for code, would take more memory than it is long, or is damaged.
    """
    length = file.seek(0, os.SEEK_END)
    if _read(file, 0, 4, length) == RECORD:
        _check_zip(file, length)
    else:
        file.seek(0)
        _check_legacy(file, length)


def _read(file, start, size, length):
    """Return bytes of the file; fewer where it ends."""
    if start < 0:
        raise PickleError('it ends too early')
    file.seek(start)
    return file.read(min(size, max(length - start, 0)))


def _check_zip(file, length):
    count = _check_directory(file, length)
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    if len(records) != count:
        raise PickleError('its directory is damaged')
    spans, names = [], set()
    for record in records:
        name = record.filename
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
            raise PickleError(
                f'its record {name[:50]!r} is compressed ({record.compress_size} bytes for {record.file_size}); '
                'torch.save writes records as they are: unpack it and zip it without compression (zip -0), or save it '
                'again'
            )
        if record.flag_bits & 0x1:
            raise PickleError(f'its record {name[:50]!r} is encrypted')
        if record.orig_filename != name or name.lower() in names:  # PyTorch looks names up without regard to case
            raise PickleError(f'it has two records {name[:50]!r}, or one of an odd name')
        names.add(name.lower())
        spans.append(_span(file, record, length))
    folder = records[0].filename.partition('/')[0] if records else ''
    places = {
        record.filename.removeprefix(f'{folder}/'): span[1:]
        for record, span in zip(records, spans)
        if record.filename.startswith(f'{folder}/')
    }
    if 'data.pkl' not in places:
        raise PickleError('it is a zip archive without the data.pkl of torch.save')
    if any(name.endswith('/constants.pkl') for name in names):
        raise PickleError(
            'it is a TorchScript archive, which holds a program; load it with torch.jit.load if you trust its origin, '
            'and save its state_dict()'
        )
    _check_overlap(spans, records)
    _check_sums(file, records, spans, length)

    def storage_size(key):
        if f'data/{key}' not in places:
            raise PickleError(f'its storage {key[:50]!r} is missing')
        start, stop = places[f'data/{key}']
        return stop - start

    start, stop = places['data.pkl']
    follow(io.BytesIO(_read(file, start, stop - start, length)), storage_size)


def _check_directory(file, length):
    """Return the number of records, after checking that every reader of zip archives finds the same directory."""
    end = length - END_SIZE
    last = _read(file, end, END_SIZE, length)
    if last[:4] != END or last[-2:] != b'\0\0':
        raise PickleError('it ends too early, or has something after its end')
    count, size, offset = struct.unpack_from('<10xHLL', last)
    if end >= LOCATOR_SIZE + END64_SIZE:
        locator = _read(file, end - LOCATOR_SIZE, LOCATOR_SIZE, length)
        if locator[:4] == LOCATOR:
            end -= LOCATOR_SIZE + END64_SIZE
            last = _read(file, end, END64_SIZE, length)
            if struct.unpack_from('<8xQ', locator)[0] != end or last[:4] != END64:
                raise PickleError('its directory is damaged')
            count, size, offset = struct.unpack_from('<32xQQQ', last)
    if offset + size != end or count > MAX_RECORDS or size > MAX_DIRECTORY:
        raise PickleError('its directory is damaged, or far larger than that of a checkpoint')
    return count


def _span(file, record, length):
    """Return where a record starts, where its bytes do, and where they end."""
    header = _read(file, record.header_offset, RECORD_SIZE, length)
    if header[:4] != RECORD or len(header) < RECORD_SIZE:
        raise PickleError(f'its record {record.filename[:50]!r} is damaged')
    name, extra = struct.unpack_from('<26xHH', header)
    start = record.header_offset + RECORD_SIZE + name + extra
    if start + record.file_size > length:
        raise PickleError(f'its record {record.filename[:50]!r} ends after the file does')
    return record.header_offset, start, start + record.file_size


def _check_overlap(spans, records):
    order = sorted(range(len(spans)), key=lambda index: spans[index])
    for before, after in pairwise(order):
        if spans[before][2] > spans[after][0]:
            names = [records[index].filename[:50] for index in (before, after)]
            raise PickleError(f'its records {names[0]!r} and {names[1]!r} share bytes of the file')


def _check_sums(file, records, spans, length):
    if not any(record.CRC for record in records):
        return  # torch.serialization.set_crc32_options(False) writes zeros
    for record, (_, start, stop) in zip(records, spans):
        found = 0
        for position in range(start, stop, BLOCK):
            found = zlib.crc32(_read(file, position, min(BLOCK, stop - position), length), found)
        if found != record.CRC:
            raise PickleError(f'its record {record.filename[:50]!r} is damaged (another checksum than written)')


def _check_legacy(file, length):
    magic, _ = follow(file)
    if getattr(magic, 'items', None) != MAGIC:
        raise PickleError('it does not start as files of torch.save do')
    for _ in range(2):  # version of the protocol, sizes of types
        follow(file)
    _, storages = follow(file)
    keys, _ = follow(file)
    listed = keys.items if getattr(keys, 'kind', '') == 'list' else []
    if not all(isinstance(key, str) for key in listed) or sorted(listed) != sorted(storages):
        raise PickleError('its list of storages is not that of its pickle')
    held = length - file.tell()
    if sum(storages.values()) + 8 * len(storages) > held:
        raise PickleError(f'its storages have {sum(storages.values())} bytes, but only {held} bytes of them are there')
