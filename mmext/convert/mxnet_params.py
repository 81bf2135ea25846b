"""Reading of MXNet ``.params`` files, with numpy and nothing else.

Source: the NDArray list format of Apache MXNet 0.x and 1.x (``mx.nd.save``, ``mx.model.save_checkpoint``), in all its
versions: V0 (to about 0.10), V1 (about 0.11), V2 (0.12 and later) and V3 (numpy shapes). A file may mix them.
"""

import mmap
from collections.abc import Mapping

from .files import existing_file
from .mxnet_arrays import Cursor, MXNetParamsError, scan_array
from .mxnet_values import dense_values, part_values

__all__ = ['LIST_MAGIC', 'MXNetParams', 'MXNetParamsError', 'is_params_file', 'read_params']

LIST_MAGIC = 0x112
LEAST_ARRAY = 20  # bytes of the shortest array: version 0 with one dimension of size 0
LEAST_NAME = 8
MOST_ARRAYS = 2**16  # the index of a file of tiny arrays takes more memory than the file
MOST_NAME_BYTES = 2**16
LEAST_DENSE_LIMIT = 2**16


def is_params_file(path):
    """Return whether a file starts as an MXNet ``.params`` file does.

    Args:
        path (str or Path): An existing file.

    Returns:
        bool: True for a file with the list's magic number.

    Raises:
        OSError: If it cannot be read.
    """
    with open(path, 'rb') as file:
        return file.read(8) == LIST_MAGIC.to_bytes(8, 'little')


def read_params(path, max_dense_bytes=None):
    """Open an MXNet ``.params`` file.

    The file is checked and indexed as a whole, header by header, and its values are not read. An array is a view of a
    private map of the file, so that it takes no memory of its own until it is read (then pages that the system can drop
    again) or written (which changes the copy in memory, never the file). Only arrays that do not lie at a multiple of
    their element's size are copied, and bfloat16 is widened to float32, which keeps every value. Each look-up of such
    an array makes a new copy. Do not shorten a file while it is open.

    Args:
        path (str or Path): The file.
        max_dense_bytes (int, optional): Most bytes that the dense form of one sparse array may take, 0 or more. A
            sparse array can claim any shape, whatever the file's size. Default: None, the size of the file or 65,536,
            whichever is larger.

    Returns:
        MXNetParams: Name -> array.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        MXNetParamsError: If the file is damaged, cut short or of another format, has more than 65,536 arrays, two of
            one name, one that is "none", or a name of more than 65,536 bytes; its ``offset`` says where.
        ConversionError: If the file is empty.
        ValueError: If ``max_dense_bytes`` is negative.

    Examples:
        >>> params = read_params('ilsvrc-cls_rna-a1_cls1000_ep-0001.params')
        >>> params['arg:conv1a_weight'].shape
        (64, 3, 3, 3)
    """
    if max_dense_bytes is not None and max_dense_bytes < 0:
        raise ValueError(f'max_dense_bytes={max_dense_bytes} must be 0 or more; None takes the size of the file')
    path = existing_file(path)
    with open(path, 'rb') as file:
        cursor = Cursor(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    # headers are far apart, and what the system reads ahead of each would be most of the file
    _advise(cursor.buffer, 'MADV_RANDOM')
    index = _index(cursor)
    _advise(cursor.buffer, 'MADV_NORMAL')
    return MXNetParams(cursor, *index, max_dense_bytes)


def _advise(buffer, name):
    if hasattr(mmap, name):  # not everywhere
        buffer.madvise(getattr(mmap, name))


class MXNetParams(Mapping):
    """The arrays of one file by name, in the order of the file; made by :func:`read_params`.

    Names are those of the file, such as ``'arg:conv1a_weight'``. A file without names has ``'0'``, ``'1'``, ....

    Attributes:
        path (Path): The file.
        named (bool): Whether the names are those of the file.
    """

    def __init__(self, cursor, arrays, named, max_dense_bytes):
        self.path = cursor.path
        self.named = named
        self._cursor = cursor
        self._arrays = arrays
        self._limit = max(cursor.size, LEAST_DENSE_LIMIT) if max_dense_bytes is None else max_dense_bytes

    def __getitem__(self, name):
        return dense_values(self._cursor, self._arrays[name], name, self._limit)

    def __iter__(self):
        return iter(self._arrays)

    def __len__(self):
        return len(self._arrays)

    def __contains__(self, name):
        return name in self._arrays

    def __repr__(self):
        return f'MXNetParams({str(self.path)!r}, {len(self)} arrays)'

    def stored(self, name):
        """Return how an array is stored, without its values.

        Args:
            name (str): Name of the array.

        Returns:
            StoredArray: Version, storage, shape and the places of its parts.

        Raises:
            KeyError: If there is no such array.
        """
        return self._arrays[name]

    def parts(self, name):
        """Return what is stored of an array, whatever size its dense form has.

        Args:
            name (str): Name of the array.

        Returns:
            dict[str, ndarray]: 'data' of a dense array; 'data' and 'indices' (of rows) of a row_sparse one; 'data',
            'indptr' and 'indices' (of columns) of a csr one. Indices are as stored, they are not checked.

        Raises:
            KeyError: If there is no such array.
            MXNetParamsError: If a truth value is neither 0 nor 1.
        """
        return {key: part_values(self._cursor, part) for key, part in self._arrays[name].parts.items()}


def _index(cursor):
    """Return {name: array} of a file and whether it has the names."""
    (magic,) = cursor.numbers('Q', 'the magic number of the list')
    if magic != LIST_MAGIC:
        raise cursor.error(
            f'this is no MXNet .params file: it starts with 0x{magic:X} where 0x{LIST_MAGIC:X} is needed; give the '
            'file as published',
            0,
        )
    cursor.skip(8, 'the reserved field')
    count = _count(cursor, 'arrays', LEAST_ARRAY)
    arrays = [scan_array(cursor, f'array {index}') for index in range(count)]
    place = cursor.offset
    names = _count(cursor, 'names', LEAST_NAME)
    if names not in (0, count):
        raise cursor.error(f'{count} arrays have {names} names; there must be as many or none', place)
    found = {}
    for index in range(names):
        (length,) = cursor.numbers('Q', f'the length of name {index}')
        start = cursor.skip(length, f'name {index}')
        if length > MOST_NAME_BYTES:
            raise cursor.error(f'name {index} has {length} bytes, it may have {MOST_NAME_BYTES}', start - 8)
        try:
            name = cursor.buffer[start : cursor.offset].decode()
        except UnicodeDecodeError as error:
            raise cursor.error(f'name {index} is no UTF-8 text ({error.reason})', start + error.start) from None
        if name in found:
            raise cursor.error(
                f'the name {name[:80]!r} is there twice, of arrays {list(found).index(name)} and {index}', start
            )
        found[name] = arrays[index]
    if cursor.left:
        raise cursor.error(f'{cursor.left} bytes follow the last name; the file is damaged', cursor.offset)
    return (found, True) if names else ({str(index): array for index, array in enumerate(arrays)}, not arrays)


def _count(cursor, what, least):
    (count,) = cursor.numbers('Q', f'the number of {what}')
    if count * least > cursor.left:
        raise cursor.error(
            f'{count} {what} take {count * least} bytes or more and {cursor.left} are left; the file is cut short or '
            'damaged, so download it again',
            cursor.offset - 8,
        )
    if count > MOST_ARRAYS:
        raise cursor.error(f'{count} {what} are too many; no checkpoint has more than {MOST_ARRAYS}', cursor.offset - 8)
    return count
