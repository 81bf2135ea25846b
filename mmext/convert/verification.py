"""Comparison of a file with the MD5 sums that its authors published."""

import hashlib
from collections.abc import Mapping

from .files import existing_file
from .report import ConversionError

__all__ = ['published_name']

BLOCK = 2**20


def published_name(path_or_mapping, source, sums):
    """Say which published file this one is, byte for byte.

    The sum must be one of those published, whatever name the file has here. MD5 shows damage of a download; it is no
    protection against a file that was made to deceive.

    Args:
        path_or_mapping (str, Path or Mapping): The file.
        source (str): Name of the format.
        sums (Mapping[str, str]): Name of a published file -> its MD5 sum in hexadecimal digits.

    Returns:
        str: The published file's name.

    Raises:
        ConversionError: If there are no published sums, there is no file to compare, or its sum is another one; the
            message has the sum found and those known.
        OSError: If there is no such file.
    """
    if not sums:
        raise ConversionError(f'source {source!r} has no published MD5 sums to verify a file with; leave --verify out')
    if isinstance(path_or_mapping, Mapping):
        raise ConversionError('a mapping has no MD5 sum; give the path of the file to verify, or leave verify out')
    path = existing_file(path_or_mapping)
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, 'rb') as file:
        while block := file.read(BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    names = {published: name for name, published in sums.items()}
    if found not in names:
        known = ', '.join(f'{published} {name}' for name, published in sums.items())
        raise ConversionError(
            f'{path} ({path.stat().st_size} bytes) is none of the published files: its MD5 sum is {found}, known are '
            f'{known}; download it again, or leave --verify (verify=True) out for weights of your own'
        )
    return names[found]
