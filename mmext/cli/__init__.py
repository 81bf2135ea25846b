"""The ``mmext`` command: one module per subcommand, this one only dispatches.

A command is a module with ``HELP`` (one line), ``add_arguments(parser)`` and ``run(args)``, whose return value is the
exit status (None is 0). It is imported when it is called, or for ``mmext --help``. What it raises as one of
:data:`USER_ERRORS` is shown as one line, without a traceback.
"""

import argparse
import sys
import warnings
from importlib import import_module

from mmext.version import __version__

from .table import printable

__all__ = ['main']

COMMANDS = ('complexity', 'convert', 'env', 'inflate-check', 'models', 'pattern', 'search')
USER_ERRORS = (ValueError, LookupError, OSError, ImportError)


def main(argv=None):
    """Run the command line.

    Args:
        argv (list[str], optional): Arguments without the program's name. Default: None, those of the process.

    Returns:
        int: Exit status: 0, 1 where the command failed, 2 (by SystemExit) for a mistake in the arguments.
    """
    parser = argparse.ArgumentParser(prog='mmext', description='Published networks in the OpenMMLab toolboxes.')
    parser.add_argument('--version', action='version', version=f'mmext {__version__}')
    parser.add_argument('--traceback', action='store_true', help='show where an error comes from')
    subparsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    modules = {}
    for name in COMMANDS:
        modules[name] = module = import_module(f'mmext.cli.{name.replace("-", "_")}')
        doc = argparse.RawDescriptionHelpFormatter
        subparser = subparsers.add_parser(name, help=module.HELP, description=module.__doc__, formatter_class=doc)
        module.add_arguments(subparser)
    args = parser.parse_args(argv)
    # what the toolboxes say of their own code; no user of a command can help it
    warnings.filterwarnings('ignore', 'pkg_resources is deprecated')
    warnings.filterwarnings('ignore', category=UserWarning, module=r'mm(action|cv|det|engine|pose|pretrain|seg)\.')
    try:
        return modules[args.command].run(args) or 0
    except USER_ERRORS as error:
        if args.traceback:
            raise
        # str() of a KeyError is the repr of its message
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f'mmext {args.command}: error: {printable(message)}', file=sys.stderr)
        return 1
