"""Small downloads, bounded in size and in time."""

import queue
import threading
import time
import urllib.request
from http.client import HTTPException

from mmext.version import __version__

__all__ = ['fetch']

SILENCE = 10  # seconds without a byte
BLOCK = 2**16


def fetch(url, most_bytes, seconds=60):
    """Download a small file into memory.

    Args:
        url (str): An ``http://`` or ``https://`` address.
        most_bytes (int): The largest size accepted, in bytes.
        seconds (float): The longest time that all of it may take, whatever the server sends. Default: 60.

    Returns:
        bytes: The content.

    Raises:
        OSError: If the address cannot be reached, is too large or takes too long.
        ValueError: If the address is none.
    """
    answers = queue.SimpleQueue()

    def work():
        try:
            answers.put((_read(url, most_bytes, time.monotonic() + seconds), None))
        except HTTPException as error:  # no OSError, though of the same kind
            answers.put((None, OSError(f'{type(error).__name__}: {error}')))
        except Exception as error:
            answers.put((None, error))

    # In a thread of its own, as a server that sends its headers byte by byte holds urllib for as long as it likes.
    threading.Thread(target=work, name='mmext download', daemon=True).start()
    try:
        content, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f'no answer within {seconds} seconds') from None
    if error is not None:
        raise error
    return content


def _read(url, most_bytes, deadline):
    request = urllib.request.Request(url, headers={'User-Agent': f'mmext/{__version__}'})
    blocks, size = [], 0
    with urllib.request.urlopen(request, timeout=SILENCE) as response:
        while block := response.read1(BLOCK):
            size += len(block)
            if size > most_bytes:
                raise OSError(f'it has more than the {most_bytes} bytes that are accepted')
            if time.monotonic() > deadline:
                raise TimeoutError('it takes too long')
            blocks.append(block)
    return b''.join(blocks)
