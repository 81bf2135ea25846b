"""Convert a checkpoint of an original project into one that the configs of this package load.

    mmext convert rednet50.pth checkpoints/ --source involution
    mmext convert red.pth checkpoints/frcnn.pth --source involution --config configs/involution/faster-rcnn_....py
    mmext convert ilsvrc-cls_rna-a1_cls1000_ep-0001.params checkpoints/ --source ademxapp --verify

The output is named after its content, such as checkpoints/rednet50-1a2b3c4d.pth. With --config, every key and shape is
compared with that config's model before anything is written; with --verify, the file with the published MD5 sums.
"""

from .table import printable

HELP = 'convert a published checkpoint'


def add_arguments(parser):
    """Declare the arguments."""
    import argparse

    from mmengine.config import DictAction

    from mmext.convert import SOURCES

    class Overrides(DictAction):
        def __call__(self, parser, namespace, values, option_string=None):
            try:
                super().__call__(parser, namespace, values, option_string)
            except ValueError as error:
                raise argparse.ArgumentError(self, f'{" ".join(values)!r} is not KEY=VALUE ...') from error

    parser.add_argument('src', metavar='SRC', help='the checkpoint, .pth, .pt or .params')
    parser.add_argument('dst', metavar='DST', help='new file name (.pth), which gets a hash, or an existing folder')
    parser.add_argument('--source', required=True, metavar='NAME', help=f'format of SRC: {", ".join(SOURCES)}')
    parser.add_argument('--allow-missing', action='store_true', help='go on if SRC lacks keys, and list them')
    parser.add_argument('--verify', action='store_true', help="go on only if SRC's MD5 sum is a published one")
    parser.add_argument('--config', help='config whose model the result must fit, key by key')
    parser.add_argument('--cfg-options', nargs='+', action=Overrides, metavar='KEY=VALUE', help='overrides of CONFIG')


def run(args):
    """Run the command."""
    from mmext.convert import convert
    from mmext.convert.config_check import check_against_config
    from mmext.convert.writing import destination, write_checkpoint

    if args.cfg_options and not args.config:
        raise ValueError('--cfg-options overrides a config, and none is given; add --config CONFIG')
    path = destination(args.src, args.dst)
    state_dict, report = convert(args.src, args.source, allow_missing=args.allow_missing, verify=args.verify)
    if args.config:
        check_against_config(state_dict, report, args.config, args.cfg_options, allow_missing=args.allow_missing)
    path = write_checkpoint(state_dict, report, path)
    for line in (*str(report).split('\n'), f'written  {path}'):
        print(printable(line))
