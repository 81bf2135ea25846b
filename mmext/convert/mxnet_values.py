"""The values of the arrays in an MXNet ``.params`` file, as views of the file wherever that is possible."""

import math

import numpy as np

from .mxnet_arrays import BFLOAT16, BOOL, TYPES

__all__ = ['dense_values', 'part_values']


def part_values(cursor, part):
    """Return the values of one block.

    Args:
        cursor (Cursor): Of the file.
        part (Part): The block.

    Returns:
        ndarray: A view of the file; a copy where the values do not lie at a multiple of their size, and of bfloat16,
        which becomes float32.

    Raises:
        MXNetParamsError: If a truth value is neither 0 nor 1.
    """
    dtype = np.dtype('u1' if part.flag == BOOL else TYPES[part.flag])
    if math.prod(part.shape) == 0:
        return np.zeros(part.shape, '<f4' if part.flag == BFLOAT16 else TYPES[part.flag])
    values = np.ndarray(part.shape, dtype, buffer=cursor.buffer, offset=part.offset)
    if part.flag == BOOL:
        if values.max() > 1:
            wrong = int(np.argmax(values > 1))
            raise cursor.error(
                f'a truth value is {values.flat[wrong]}, it must be 0 or 1; the file is damaged', part.offset + wrong
            )
        return values.view(bool)
    if part.flag == BFLOAT16:
        wide = values.astype('<u4')
        return np.left_shift(wide, np.uint32(16), out=wide).view('<f4')
    return values if values.flags.aligned else values.copy()


def dense_values(cursor, array, what, limit):
    """Return an array in dense form.

    Args:
        cursor (Cursor): Of the file.
        array (StoredArray): The array.
        what (str): Its name for messages.
        limit (int): Most bytes that the dense form of a sparse array may take.

    Returns:
        ndarray: A view of the file, see :func:`part_values`; of a sparse array a new array.

    Raises:
        MXNetParamsError: If the indices of a sparse array are out of range, not ascending or do not fit together, or
            its dense form would take more than ``limit`` bytes.
    """
    data = array.parts['data']
    if array.storage == 'dense':
        return part_values(cursor, data)
    found = {name: part_values(cursor, part) for name, part in array.parts.items()}
    size = math.prod(array.shape) * found['data'].itemsize
    if size > limit:
        raise cursor.error(
            f'{what} is a {array.storage} array whose dense form takes {size} bytes, more than the limit of {limit}; '
            'take its parts, or raise max_dense_bytes',
            data.offset,
        )
    rows, columns = _places(cursor, array, found, what)
    dense = np.zeros(array.shape, found['data'].dtype)
    dense[rows if columns is None else (rows, columns)] = found['data']
    return dense


def _places(cursor, array, found, what):
    """Return the row, and the column or None, of every stored value or row; checks the indices."""

    def check(name, wrong, text):
        if wrong.any():
            index = int(np.argmax(wrong))
            part = array.parts[name]
            raise cursor.error(
                f'{name} of {what} has {found[name][index]} as element {index}, {text}; the file is damaged',
                part.offset + index * found[name].itemsize,
            )

    def descending(values):
        return np.concatenate([np.zeros(min(1, len(values)), bool), values[1:] <= values[:-1]])

    indices, limit = found['indices'], array.shape[0 if array.storage == 'row_sparse' else 1]
    check('indices', (indices < 0) | (indices >= limit), f'it must be 0 to {limit - 1}')
    if array.storage == 'row_sparse':
        check('indices', descending(indices), 'it must be above the one before')
        return indices, None
    starts = found['indptr']
    if not len(starts):
        return indices, indices
    wanted = np.zeros(len(starts), bool)
    wanted[0] = starts[0] != 0
    wanted[-1] |= starts[-1] != len(indices)
    check('indptr', wanted, f'the first must be 0 and the last {len(indices)}, the number of values')
    check('indptr', (starts < 0) | (starts > len(indices)), f'it must be 0 to {len(indices)}')
    check('indptr', np.concatenate([[False], starts[1:] < starts[:-1]]), 'it must not be below the one before')
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    wrong = descending(indices)
    wrong[1:] &= rows[1:] == rows[:-1]
    check('indices', wrong, 'it must be above the one before in the same row')
    return rows, indices
