"""List the rows of the model zoo with their published figures, or find or copy the config of one.

Any script of the row's toolbox takes the path. A copy stands alone: all that the config inherits is merged in.

Examples:
  mmext models
  mmext models '*red50*cityscapes*'
  mmext models --path rednet26_64xb32-130e_in1k
  mmext models --copy rednet26_64xb32-130e_in1k my_rednet26.py
"""

import difflib
import os
from pathlib import Path

from mmext.utils.whole_files import write_whole

from .table import format_table

HELP = 'list the rows of the model zoo, find or copy a config'


def add_arguments(parser):
    """Declare the arguments of the command."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument('pattern', nargs='?', default='*', metavar='PATTERN', help='names to list, * and ? allowed')
    what.add_argument('--path', metavar='NAME', help="print the path of a row's config")
    what.add_argument('--copy', nargs=2, metavar=('NAME', 'DST'), help='copy a config to a new file or into a folder')


def run(args):
    """Print rows or a path, or write a copy."""
    from mmext import zoo

    if args.path:
        print(zoo.config_path(args.path))
    elif args.copy:
        print(copy_config(*args.copy))
    else:
        names = zoo.list_models(args.pattern)
        if not names:
            close = difflib.get_close_matches(args.pattern.strip('*'), zoo.list_models(), n=1, cutoff=0.3)
            hint = f'did you mean {close[0]!r}? ' if close else ''
            raise ValueError(f'no row matches {args.pattern!r}: {hint}`mmext models` lists all')
        print(table([zoo.get_entry(name) for name in names]))


def table(entries):
    """Format rows of the zoo.

    Args:
        entries (list[dict]): See :func:`mmext.zoo.get_entry`.

    Returns:
        str: Several lines of aligned columns, with a heading.
    """
    rows = []
    for entry in entries:
        published = entry['Metadata']['Published']
        figures = [f'{value} {metric}' for result in entry['Results'] for metric, value in result['Metrics'].items()]
        rows.append(
            (
                entry['Name'],
                entry['Toolbox'],
                entry['Results'][-1]['Task'],
                str(published.get('params_m', '')),
                str(published.get('flops_g', '')),
                ', '.join(figures),
            )
        )
    header = ('name', 'toolbox', 'task', 'params (M)', 'FLOPs (G)', 'as published, not trained here')
    return format_table(header, rows, 'lllrrl')


def copy_config(name, destination):
    """Write a row's config to a file of its own, all that it inherits merged in.

    Args:
        name (str): A row of the zoo.
        destination (str or Path): The new file (``.py``), or an existing folder to put ``<name>.py`` in.

    Returns:
        Path: The file written.

    Raises:
        KeyError: If there is no such row.
        ImportError: If the row's toolbox is not installed.
        FileExistsError: If the file exists already.
        FileNotFoundError: If its folder does not exist.
        OSError: If the file cannot be written.
        ValueError: If the name does not end in ``.py``.
    """
    from mmext import zoo

    target = Path(destination)
    if target.is_dir():
        target /= f'{name}.py'
    if target.suffix != '.py':
        raise ValueError(f'{target} is no folder that exists and no .py file; choose another destination')
    if os.path.lexists(target):  # said before the work is done
        raise FileExistsError(f'{target} exists and is left as it is; delete it or choose another destination')
    if not target.parent.is_dir():
        raise FileNotFoundError(f'the folder {target.parent} does not exist; make it first')
    return write_whole(target, zoo.get_config(name).pretty_text, overwrite=False)
