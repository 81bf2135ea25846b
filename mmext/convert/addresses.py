"""Checkpoints at addresses: which file an address stands for, downloaded once and kept where PyTorch keeps its own."""

import difflib
import http.client
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from .report import ConversionError

__all__ = ['cached_file', 'is_address', 'local_file', 'url_of']

# Scheme -> the function of mmengine.runner.checkpoint that returns its names and their addresses
TABLES = {
    'torchvision': 'get_torchvision_models',
    'modelzoo': 'get_torchvision_models',
    'open-mmlab': 'get_external_models',
    'openmmlab': 'get_external_models',
    'mmcls': 'get_mmcls_models',
}
HASH = re.compile(r'-([0-9a-f]{8,64})\.[^-]*$')  # as torch.hub names files; eight digits may also be a date
DATE = re.compile(r'20\d{6}')


def is_address(path):
    """Return whether a path is an address, as ``https://...`` or ``torchvision://resnet50`` are."""
    return isinstance(path, str) and re.match(r'[A-Za-z][\w.+:-]*://', path) is not None


def local_file(address):
    """Return the file of an address, downloaded if it is not there yet.

    The file is kept in the cache of ``torch.hub`` under the last part of the address, as
    ``torch.hub.load_state_dict_from_url`` keeps it. It appears whole or not at all. If its name ends in a hash, as in
    ``resnet50-0676ba61.pth``, it must be that of the downloaded file.

    Args:
        address (str): ``http://`` or ``https://``, or a name of mmengine's: ``torchvision://resnet50``,
            ``open-mmlab://...``, ``mmcls://...``.

    Returns:
        Path: The file.

    Raises:
        ConversionError: If the scheme or the name is unknown, or the file has another hash than its name says.
        OSError: If the address cannot be reached; the message names the file to put in place instead.
    """
    import torch

    url = url_of(address)
    path = cached_file(url)
    if path.is_file():
        return path
    hashed = HASH.search(path.name)
    prefix = hashed[1] if hashed and not DATE.fullmatch(hashed[1]) else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # writes to a temporary file of its own, so that several processes may do it at once
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    except RuntimeError as error:
        raise ConversionError(
            f'{url} is not the file that its name says: {error}; it was damaged on the way or changed, so try again '
            'or ask who publishes it'
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:  # urllib's errors are of these kinds
        raise OSError(
            f'{url} cannot be downloaded ({error}); get the file in another way and put it at {path}'
        ) from None
    return path


def cached_file(url):
    """Return where the file of a URL is kept.

    Args:
        url (str): ``http://`` or ``https://``.

    Returns:
        Path: In the cache of ``torch.hub``.

    Raises:
        ConversionError: If it is no address, or does not end in a name that a file can have.
    """
    import torch

    try:
        name = PurePosixPath(unquote(urlsplit(url).path)).name
    except ValueError as error:
        raise ConversionError(f'{url} is no address ({error}); correct it') from None
    if not name or name in ('.', '..') or not name.isprintable() or '\\' in name:
        raise ConversionError(f'{url} does not end in the name of a file; give the address of a checkpoint')
    return Path(torch.hub.get_dir()) / 'checkpoints' / name


def url_of(address):
    """Return the URL that an address stands for; raises as `local_file`."""
    scheme, _, name = address.partition('://')
    if scheme in ('http', 'https'):
        return address
    if scheme not in TABLES:
        raise ConversionError(
            f'{address!r} cannot be read: known are http://, https://, {", ".join(f"{s}://" for s in TABLES)} and '
            'paths; download the file and give its path'
        )
    from mmengine.runner import checkpoint

    table = getattr(checkpoint, TABLES[scheme])()
    if scheme in ('open-mmlab', 'openmmlab'):
        name = checkpoint.get_deprecated_model_names().get(name, name)
    url = table.get(name)
    if not isinstance(url, str) or not url.startswith(('http://', 'https://')):
        close = difflib.get_close_matches(name, [key for key, value in table.items() if value], n=1, cutoff=0.3)
        hint = f'; did you mean {scheme}://{close[0]}?' if close else ''
        raise ConversionError(f'mmengine knows no address for {address!r}{hint}')
    return url
