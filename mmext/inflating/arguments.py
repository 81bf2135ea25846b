"""The arguments of a call by name, however they were given."""

__all__ = ['arguments', 'integers']

ALIASES = {'axis': 'dim', 'axes': 'dims', 'self': 'input', 'axis0': 'dim0', 'axis1': 'dim1'}


def arguments(node, *names):
    """Return the arguments of a call by name, None where none was given.

    Args:
        node (fx.Node): The call.
        *names (str): Parameters in their order; the last may start with ``*`` for all that follows.

    Returns:
        list: The values in the order of ``names``.
    """
    given = {ALIASES.get(name, name): value for name, value in node.kwargs.items()}
    values = []
    for index, name in enumerate(names):
        if name.startswith('*'):
            rest = node.args[index:]
            if not rest:
                rest = given.get(name[1:], ())
            elif len(rest) == 1 and isinstance(rest[0], (tuple, list)):
                rest = rest[0]
            values.append(rest)
        else:
            values.append(node.args[index] if index < len(node.args) else given.get(name))
    return values


def integers(value):
    """Return one or several integers as a tuple; None if there are others, such as what is computed."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values if all(isinstance(item, int) for item in values) else None
