"""Tables and lines that the commands print."""

__all__ = ['format_table', 'printable']


def printable(text):
    r"""Return a text that is one line on any terminal, whatever names from files are in it.

    Args:
        text (object): What to print, for example an exception.

    Returns:
        str: The lines joined by spaces; control characters and what cannot be encoded as escapes such as ``\x1b``.
    """
    line = ' '.join(filter(None, (line.strip() for line in str(text).split('\n'))))
    return ''.join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def format_table(header, rows, align):
    """Align columns under their titles.

    Args:
        header (Sequence[str]): Titles.
        rows (Sequence[Sequence[str]]): Cells.
        align (str): One letter a column, 'l' for cells at the left, 'r' for cells at the right.

    Returns:
        str: One line each, without spaces at the end.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    place = {'l': str.ljust, 'r': str.rjust}
    lines = []
    for cells in (header, *rows):
        lines.append('  '.join(place[a](cell, width) for a, cell, width in zip(align, cells, widths)).rstrip())
    return '\n'.join(lines)
