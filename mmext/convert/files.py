"""What every reader asks of a path before it reads, without any toolbox or PyTorch."""

from pathlib import Path

from .report import ConversionError

__all__ = ['existing_file']


def existing_file(path):
    """Return a path that is a file with something in it.

    Args:
        path (str or Path): The checkpoint.

    Returns:
        Path: The same.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        ConversionError: If it is empty.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder; give the checkpoint file inside it')
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}; download the checkpoint first, or correct the path')
    if path.stat().st_size == 0:
        raise ConversionError(f'{path} is empty (0 bytes); download it again')
    return path
