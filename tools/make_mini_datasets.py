"""Makes small datasets in the standard formats of the OpenMMLab toolboxes, without any download.

Real photographs and handwritten digits that ship with scikit-learn are combined with drawn figures into datasets that
small networks learn in minutes. Run with --help for the options.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import NoReturn

from mini_datasets import coco, scene, sheet, store
from mini_datasets.catalog import DATASETS, Dataset

_DESCRIPTION = """\
Make small datasets in the standard formats of the OpenMMLab toolboxes, without any download.

{table}

Each goes to a folder of its name under --out, with a picture of its contents, contact_sheet.png. The same options give
the same bytes. A dataset that is there already with the same options is left alone; one made with other options is
replaced once the new one is complete; any other folder is never touched.
"""
_EXAMPLES = """\
examples:
  python tools/make_mini_datasets.py                                     all of them, into data/mini
  python tools/make_mini_datasets.py coco --train 64 --val 16            a small detection dataset
  python tools/make_mini_datasets.py coco --coco-categories disc star    other categories
  python tools/make_mini_datasets.py imagenet kinetics400 --out /tmp/d   two datasets, elsewhere
"""
_FRAMES = 32
_FEWEST_FRAMES = 8


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Ends the program with one line; the usage that argparse would add hides it."""
        self.exit(2, f'error: {message}; see --help\n')


def _parser() -> argparse.ArgumentParser:
    table = '\n'.join(
        f'  {name:<15}{kind.train:>5} + {kind.val:>3} {kind.unit}, {kind.size} pixels wide'
        for name, kind in DATASETS.items()
    )
    parser = _Parser(
        description=_DESCRIPTION.format(table=table),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('names', nargs='*', metavar='NAME', help=f'{", ".join(DATASETS)} (default: all)')
    parser.add_argument('--out', type=Path, default=Path('data/mini'), help='folder to write to (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='any integer >= 0 (default: %(default)s)')
    parser.add_argument('--train', type=int, metavar='N', help='training samples of each dataset (default: see above)')
    parser.add_argument('--val', type=int, metavar='N', help='validation samples of each dataset (default: see above)')
    parser.add_argument('--size', type=int, metavar='PIXELS', help='width of the pictures (default: see above)')
    parser.add_argument(
        '--coco-categories',
        nargs='+',
        metavar='CATEGORY',
        default=list(coco.DEFAULT_CATEGORIES),
        help=f'categories of coco, out of: {" ".join(coco.CATEGORIES)} (default: the digits 0 to 4)',
    )
    parser.add_argument(
        '--frames', type=int, default=_FRAMES, help='frames per kinetics400 clip (default: %(default)s)'
    )
    return parser


def _options(kind: Dataset, arguments: argparse.Namespace) -> scene.Options:
    given = {
        'categories': tuple(name for name in coco.CATEGORIES if name in arguments.coco_categories),
        'frames': arguments.frames,
    }
    return scene.Options(
        seed=arguments.seed,
        train=kind.train if arguments.train is None else arguments.train,
        val=kind.val if arguments.val is None else arguments.val,
        size=kind.size if arguments.size is None else arguments.size,
        **{name: given[name] for name in kind.extras},
    )


def _check(parser: argparse.ArgumentParser, names: list[str], arguments: argparse.Namespace) -> None:
    """Ends the program with exit code 2 and one line if an option is out of range."""
    for name in names:
        if name not in DATASETS:
            parser.error(f'unknown dataset {name!r}: choose from {", ".join(DATASETS)}')
    for name in arguments.coco_categories:
        if name not in coco.CATEGORIES:
            parser.error(
                f'--coco-categories: unknown category {name!r}: choose from {" ".join(coco.CATEGORIES)}, and give '
                'dataset names before this option'
            )
    least = {'seed': 0, 'train': 1, 'val': 1, 'frames': _FEWEST_FRAMES}
    for option, lowest in least.items():
        value = getattr(arguments, option)
        if value is not None and value < lowest:
            parser.error(f'--{option} is {value}: give an integer >= {lowest}')
    if arguments.out.exists() and not arguments.out.is_dir():
        parser.error(f'--out is {arguments.out}, which is a file: give a folder, which is made if missing')
    for name in names:
        smallest = DATASETS[name].smallest
        if arguments.size is not None and (arguments.size < smallest or arguments.size % 2):
            parser.error(f'--size is {arguments.size}: {name} needs an even number of pixels >= {smallest}')


def main(argv: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments without the program's name; None takes them from the command line.

    Returns:
        The exit code: 0 when every dataset is in place, 2 when a folder or the disk is in the way.

    Raises:
        SystemExit: With code 2 on a bad option, 0 on --help.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    names = list(dict.fromkeys(arguments.names)) or list(DATASETS)
    _check(parser, names, arguments)
    for name in names:
        kind = DATASETS[name]
        options = _options(kind, arguments)
        recorded = {key: getattr(options, key) for key in ('seed', 'train', 'val', 'size', *kind.extras)}
        recorded = {key: list(value) if isinstance(value, tuple) else value for key, value in recorded.items()}
        start = time.monotonic()
        try:
            made = store.put(arguments.out, name, recorded, lambda folder: kind.build(folder, options))  # noqa: B023
        except (store.StoreError, OSError) as problem:
            print(f'error: {problem}', file=sys.stderr)
            return 2
        target = arguments.out / name
        if made:
            count = f'{options.train} + {options.val} {kind.unit}'
            print(f'{target}: {count} in {time.monotonic() - start:.1f} s; see {target / sheet.NAME}', flush=True)
        else:
            print(f'{target}: up to date', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
