"""Damaged files: each ends in values or in a clear error, and takes no more memory than the file is large."""

import tracemalloc

import golden
import numpy as np
import pytest

from mmext.convert.mxnet_params import MXNetParamsError, read_params

FILES = sorted((golden.FOLDER / 'mxnet_params').glob('*.params'))
EXTREMES = [
    0,
    1,
    2**7,
    2**15,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
    0xF993FAC8,
    32,
    33,
]
MUTATIONS = 250  # of each file
# What the index and the messages take; the dense form of a sparse array may take 65,536 bytes in a small file.
FIXED_BYTES = 2**16 + 2**13


def flipped(rng, content):
    for _ in range(rng.integers(1, 4)):
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))


def truncated(rng, content):
    del content[rng.integers(1, len(content)) :]


def inserted(rng, content):
    place = rng.integers(len(content))
    content[place:place] = rng.bytes(rng.integers(1, 20))


def removed(rng, content):
    place = rng.integers(1, len(content))
    del content[place : place + rng.integers(1, 20)]


def overwritten(rng, content):
    size = int(rng.choice([4, 8]))
    # headers stand on multiples of 4 in most files; the first bytes and the names are fields, too
    place = int(rng.integers(max(1, len(content) // 4))) * 4
    if rng.random() < 0.5:
        place = int(rng.integers(16, min(len(content), 160)))
    value = EXTREMES[rng.integers(len(EXTREMES))] % 256**size
    content[place : place + size] = value.to_bytes(size, 'little')


def doubled(rng, content):
    start = rng.integers(len(content))
    end = rng.integers(start, len(content)) + 1
    content[start:start] = content[start:end]


def read(path):
    """Touch every value of a file; return the error, or None."""
    try:
        params = read_params(path)
        for name in params:
            for part in params.parts(name).values():
                part.tobytes()
            params[name].tobytes()
    except MXNetParamsError as error:
        return error.with_traceback(None)  # which would keep the arrays
    return None


KINDS = (flipped, truncated, inserted, removed, overwritten, overwritten, doubled)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_damaged_files(path, tmp_path):
    rng = np.random.default_rng([17, *path.stem.encode()])
    original = path.read_bytes()
    refused = 0
    tracemalloc.start()
    try:
        for turn in range(MUTATIONS):
            content = bytearray(original)
            KINDS[turn % len(KINDS)](rng, content)
            target = tmp_path / f'{turn}.params'  # a new one each time: writing over a file waits for the disk
            target.write_bytes(content)
            size = len(content)
            del content
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            error = read(target)
            peak = tracemalloc.get_traced_memory()[1] - before
            target.unlink()
            refused += error is not None
            assert error is None or (0 <= error.offset <= size and f'(at byte {error.offset})' in str(error))
            # tobytes() copies one array, and a view of bfloat16 has been widened
            assert peak <= 3 * size + FIXED_BYTES, f'{peak} bytes for a file of {size}'
    finally:
        tracemalloc.stop()
    assert MUTATIONS // 3 < refused <= MUTATIONS
