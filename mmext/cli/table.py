"""Tables that the commands print."""

__all__ = ['format_table']


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
