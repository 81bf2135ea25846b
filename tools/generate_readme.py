#!/usr/bin/env python3
"""Write the model tables of the READMEs in ``configs/`` from the metafiles beside them.

A table stands between ``<!-- table: DATASET -->`` and ``<!-- end of table -->`` and has the rows with results on that
dataset. Everything else in a README is left as it is.
"""

import argparse
import re
import sys
from pathlib import Path

import yaml

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'
TABLE = re.compile(r'(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)', re.S)


def table(models, dataset):
    """Format the table of one dataset.

    Args:
        models (list[dict]): Rows of a metafile, all with results on the dataset.
        dataset (str): Its name, for messages.

    Returns:
        str: Lines of Markdown, the last one ended.

    Raises:
        ValueError: If there are no rows.
    """
    if not models:
        raise ValueError(f'no row of the metafile has results on {dataset!r}')
    figures = [{k: v for result in model['Results'] for k, v in result['Metrics'].items()} for model in models]
    metrics = list(figures[0] | {metric: None for row in figures for metric in row})
    sizes = [_sizes(model['Metadata']) for model in models]
    heading = ['config', *sizes[0], *(f'{metric}, published' for metric in metrics)]
    lines = [heading, ['---'] + ['---:'] * (len(heading) - 1)]
    for model, size, row in zip(models, sizes, figures):
        link = f'[`{model["Name"]}`]({Path(model["Config"]).name})'
        lines.append([link, *size.values(), *(f'{row.get(metric, "")}' for metric in metrics)])
    lines[0] = [title.removesuffix(' ') for title in lines[0]]
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)


def _sizes(metadata):
    """Title -> cell: published figures beside their reproduction, or where none were published those counted here."""
    published, reproduced = metadata['Published'], metadata['Reproduced']
    if 'params_m' not in published:
        return {
            'Params (M)': f'{metadata["Parameters"] / 1e6:.2f}',
            'multiply-adds (G)': f'{metadata["FLOPs"] / 1e9:.2f}',
        }
    return {
        'Params (M), published': f'{published["params_m"]}',
        'reproduced': f'{reproduced["params"] / 1e6:.3f}',
        'FLOPs (G), published': f'{published["flops_g"]}',
        'reproduced ': f'{reproduced["flops"] / 1e9:.3f}',
    }


def generate(readme):
    """Return the text that a README should have, its tables made anew from the metafile in its folder."""
    models = yaml.safe_load((readme.parent / 'metafile.yml').read_text())['Models']

    def fill(match):
        begin, dataset, end = match.groups()
        rows = [model for model in models if any(result['Dataset'] == dataset for result in model['Results'])]
        return begin + table(rows, dataset) + end

    return TABLE.sub(fill, readme.read_text())


def main(argv=None):
    """Write or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='write nothing; exit with 1 where a README differs')
    parser.add_argument('readmes', nargs='*', type=Path, help='default: beside every metafile')
    args = parser.parse_args(argv)
    status = 0
    for readme in args.readmes or sorted(path.with_name('README.md') for path in CONFIGS.glob('*/metafile.yml')):
        text = generate(readme)
        if text == readme.read_text():
            continue
        if args.check:
            print(f'{readme} differs from its metafile; run: python tools/generate_readme.py', file=sys.stderr)
            status = 1
        else:
            temporary = readme.with_name(f'.{readme.name}.partial')
            try:
                temporary.write_text(text)
                temporary.replace(readme)
            finally:
                temporary.unlink(missing_ok=True)
            print(f'{readme}: tables written')
    return status


if __name__ == '__main__':
    sys.exit(main())
