"""How a pass of the CUDA backend is compiled and launched, worked out from the sizes alone, without a GPU."""

import itertools
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

__all__ = ['PASSES', 'SCALARS', 'Plan', 'Problem', 'make_plan']

PASSES = ('FORWARD', 'GRAD_X', 'GRAD_WEIGHT')
# dtype -> its type in kernels.cu, bytes of a sum, most channels whose sums fit into a thread's registers
SCALARS = {
    'float64': ('double', 8, 4),
    'float32': ('float', 4, 16),
    'float16': ('Half', 4, 16),
    'bfloat16': ('BFloat16', 4, 16),
}
ROWS = 4  # sites that a thread owns
COLUMNS = 1, 2, 4, 7, 8, 14, 16, 28, 32  # of a tile; whole maps of 7, 14, 28 and 56 pixels are frequent
MAX_THREADS = 256
SHARED_BYTES = 48 * 1024  # what every GPU gives a block without being asked for more
# A large GPU: its multiprocessors, the shared memory of one, and the threads that keep one busy.
PROCESSORS, PROCESSOR_BYTES, BUSY_THREADS = 132, 220 * 1024, 256


@dataclass(frozen=True)
class Problem:
    """The sizes of one call.

    Attributes:
        step: One of :data:`PASSES`.
        dtype: A key of :data:`SCALARS`.
        maps: N * G, groups of all images.
        channels: C / G, channels of a group.
        height: Rows of x, in pixels.
        width: Columns of x.
        out_height: Rows of the output.
        out_width: Columns of the output.
        kernel_size: Taps along one side of the window.
        stride: Step of the window in pixels.
        dilation: Distance of taps in pixels.
    """

    step: str
    dtype: str
    maps: int
    channels: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel_size: int
    stride: int
    dilation: int


@dataclass(frozen=True)
class Plan:
    """One compilation and launch.

    Attributes:
        name: The kernel's name.
        macros: What kernels.cu wants defined, as (name, value).
        grid: Number of blocks.
        block: Threads of a block.
        shared_bytes: Shared memory that a block takes.
    """

    name: str
    macros: tuple
    grid: int
    block: int
    shared_bytes: int


def _divide_up(a, b):
    return -(-a // b)


def _powers_of_two(largest):
    return [1 << n for n in range(largest.bit_length())]


@lru_cache(maxsize=4096)
def make_plan(problem):
    """Choose the tile and the channels of a block, such that the work is small and the GPU busy.

    Args:
        problem (Problem): The sizes.

    Returns:
        Plan: What to compile and launch.
    """
    p = problem
    scalar, sum_bytes, most_channels = SCALARS[p.dtype]
    gather = p.step == 'GRAD_X'
    sums_channels = p.step == 'GRAD_WEIGHT'  # the sums of all channels of a group are one thread's
    # the geometry as the kernel sees it, under the names used there
    common = gcd(p.stride, p.dilation)
    taps = _divide_up(p.kernel_size, p.stride // common) if gather else p.kernel_size
    site_step, tap_step = (1, p.dilation // common) if gather else (p.stride, p.dilation)
    phases = p.stride**2 if gather else 1
    site_height = _divide_up(p.height, p.stride) if gather else p.out_height
    site_width = _divide_up(p.width, p.stride) if gather else p.out_width
    columns_of_sites = p.maps * phases * site_width * _divide_up(site_height, ROWS)
    largest = max(p.channels * p.height * p.width, (p.kernel_size**2 + p.channels) * p.out_height * p.out_width)
    # half of what 32 bits hold, as the kernel also forms addresses around a map, which it does not read
    offset = 'int' if largest < 1 << 29 else 'long long'
    image_rows_per_thread = len({q * site_step + t * tap_step for q, t in itertools.product(range(ROWS), range(taps))})

    def choice(tiled, channels, rows, columns, maps):
        """Return (cost, plan), or None where a block cannot be so."""
        threads = rows * columns * maps
        tiles = _divide_up(site_height, rows * ROWS) * _divide_up(site_width, columns)
        image_rows = (rows * ROWS - 1) * site_step + (taps - 1) * tap_step + 1
        image_columns = (columns - 1) * site_step + (taps - 1) * tap_step + 1
        area = image_rows * _divide_up(image_columns, site_step) * site_step
        shared = maps * area * channels * sum_bytes if tiled else 0
        chunks = max(1, _divide_up(p.channels, channels))
        if threads > MAX_THREADS or shared > SHARED_BYTES or (maps > 1 and tiles > 1):
            return None
        if (chunks > 1 and sums_channels) if tiled else channels * sum_bytes > 16:  # untiled: not more than one pack
            return None
        grid = phases * tiles * _divide_up(p.maps, maps) * (1 if sums_channels else chunks)
        # Words that a block reads and writes: in global memory, which is taken as four times as slow, and in shared.
        lanes = _divide_up(threads, 32) * 32
        windows = lanes * taps * image_rows_per_thread * channels
        maps_words = lanes * ROWS * (taps**2 + channels)
        words = 4 * (maps * area * channels + maps_words) + windows if tiled else 4 * maps_words + 8 * windows
        if sums_channels:
            words *= chunks
        resident = threads * min(PROCESSOR_BYTES // (shared + 1024), 1024 // lanes)
        working = columns_of_sites * (1 if sums_channels else chunks)
        busy = min(1, resident / BUSY_THREADS, working / (PROCESSORS * BUSY_THREADS)) * min(1, grid / PROCESSORS)
        name = f'involution_{p.step.lower()}'
        macros = {
            'NAME': name,
            'PASS': p.step,
            'SCALAR': scalar,
            'KERNEL_SIZE': p.kernel_size,
            'STRIDE': p.stride,
            'DILATION': p.dilation,
            'CHANNELS': channels,
            'ROWS': ROWS,
            'TILE_ROWS': rows,
            'TILE_COLUMNS': columns,
            'MAPS': maps,
            'TILED': int(tiled),
            'OFFSET': offset,
        }
        return grid * words / busy, Plan(name, tuple(macros.items()), grid, threads, shared)

    most = next((c for c in _powers_of_two(most_channels) if c >= p.channels), most_channels)
    sides = _powers_of_two(8), COLUMNS, _powers_of_two(64)
    choices = itertools.starmap(choice, itertools.product((True, False), _powers_of_two(most), *sides))
    return min((c for c in choices if c is not None), key=lambda c: c[0])[1]
