"""The pattern file of a search: our format, with where it is from."""

import json
from pathlib import Path

from mmext.patterns import Pattern, PatternError, load_pattern
from mmext.patterns.files import row_lines
from mmext.utils.whole_files import write_whole

__all__ = ['counts_of', 'read_search', 'write_search']


def write_search(path, pattern, choices, search, about):
    """Write the pattern of a search in our format.

    Args:
        path (str or Path): The file. One that exists is left as it is.
        pattern (Pattern): The layers.
        choices (dict[str, Choice]): Name of each layer in the model -> what was chosen.
        search (dict): Where it is from: config, sha256 of the checkpoint, max_dilation, criterion, version.
        about (str): A line for people.

    Returns:
        Path: The file written.

    Raises:
        FileExistsError: If it exists.
        OSError: If it cannot be written.
    """
    layers = row_lines(Pattern(pattern))
    head = ',\n '.join(f'"{key}": {json.dumps(value)}' for key, value in dict(about=about, search=search).items())
    orders = row_lines(choice.order for choice in choices.values())
    names = json.dumps(list(choices))
    text = f'{{\n {head},\n "names": {names},\n "layers": [\n{layers}\n ],\n "orders": [\n{orders}\n ]\n}}\n'
    return write_whole(path, text, overwrite=False)


def read_search(path):
    """Read what a search wrote beside the layers.

    Args:
        path (str or Path): The file.

    Returns:
        dict: 'names' of the layers in the model, 'orders', for each layer the filter of the supernet that each output
        channel is, and 'search'.

    Raises:
        PatternError: If a search did not write it.
        OSError: If it cannot be read.
    """
    pattern = load_pattern(path)
    try:
        content = json.loads(Path(path).read_text('utf-8'))
    except OSError:
        raise PatternError(f'{path} is no file; give one that `mmext search pattern` wrote') from None
    names = content.get('names') if isinstance(content, dict) else None
    if not isinstance(names, list) or len(names) != len(pattern) or not all(isinstance(name, str) for name in names):
        raise PatternError(
            f'{path} does not name the convolution of each layer; give a file that `mmext search pattern` wrote, or '
            'use the pattern in a config yourself: mmext.ICResNet(pattern=...)'
        )
    orders = content.get('orders')
    widths = pattern.widths
    if not isinstance(orders, list) or [sorted(order) for order in orders] != [list(range(width)) for width in widths]:
        raise PatternError(f'the orders of {path} are not those of its layers; write it again: mmext search pattern')
    return dict(names=names, orders=orders, search=content.get('search', {}))


def counts_of(pattern):
    """Return a pattern in the published format: for each layer, the channels of every dilation in a fixed order.

    Args:
        pattern (Pattern): Each dilation stands once in a layer, in ascending order.

    Returns:
        list[dict[str, int]]: ``{"(i, j)": n}`` for dilation (i + 1, j + 1), none left out.
    """
    most = pattern.max_dilation
    return [
        {
            f'({row}, {column})': sum(run[2] for run in layer if run[:2] == (row + 1, column + 1))
            for row in range(most)
            for column in range(most)
        }
        for layer in pattern
    ]
