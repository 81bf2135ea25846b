"""What every reader asks of a path before it reads, without any toolbox or PyTorch."""

from pathlib import Path

from .addresses import is_address, local_file
from .report import ConversionError

__all__ = ['existing_file']


def existing_file(path):
    """Return a path that is a file with something in it.

    Args:
        path (str or Path): The checkpoint. An address (``https://...``, ``torchvision://resnet50``) is downloaded, see
            :func:`mmext.convert.addresses.local_file`.

    Returns:
        Path: The same, or the file of the address.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        ConversionError: If it is empty, or an address that is unknown.
        OSError: If an address cannot be reached.
    """
    path = local_file(path) if is_address(path) else Path(path)
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder; give the checkpoint file inside it')
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}; download the checkpoint first, or correct the path')
    if path.stat().st_size == 0:
        raise ConversionError(f'{path} is empty (0 bytes); download it again')
    return path
