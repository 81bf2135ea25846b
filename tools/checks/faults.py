"""One-line faults of Python sources: what the line reads with one, and a reproducible draw of them."""

import ast
import math
import random
from collections import Counter
from dataclasses import dataclass

from fault_places import find_places

__all__ = ['Fault', 'draw', 'find_faults', 'plant']


@dataclass(frozen=True)
class Fault:
    """A part of one line and what stands there instead.

    Attributes:
        path: The file, relative to the checkout.
        line: Its number, from 1.
        start: First column of the part, in characters from 0.
        end: Column behind it.
        old: The part.
        new: What replaces it.
        kind: What the fault is, in a few words.
        text: The whole line without the fault.
    """

    path: str
    line: int
    start: int
    end: int
    old: str
    new: str
    kind: str
    text: str

    @property
    def before(self):
        """The line without the fault and without the blanks around it."""
        return self.text.strip()

    @property
    def after(self):
        """The line with the fault, without the blanks around it."""
        return (self.text[: self.start] + self.new + self.text[self.end :]).strip()


def plant(source, fault):
    """Return the source text with the fault."""
    lines = source.splitlines(keepends=True)
    line = lines[fault.line - 1]
    if line[fault.start : fault.end] != fault.old:
        raise ValueError(f'{fault.path}:{fault.line} has {line[fault.start : fault.end]!r}, not {fault.old!r}')
    lines[fault.line - 1] = line[: fault.start] + fault.new + line[fault.end :]
    return ''.join(lines)


def find_faults(source, path):
    """Find the places of a file where a fault can be planted.

    Args:
        source (str): The file's text.
        path (str): Its name in the results.

    Returns:
        list[Fault]: In the order of the lines. Rarely the text with one of them does not compile; :func:`draw` looks.
    """
    lines = source.splitlines()
    faults = []
    for line, start, end, new, kind in find_places(source):
        text = lines[line - 1]
        if text[start:end] != new:
            faults.append(Fault(path, line, start, end, text[start:end], new, kind, text))
    return sorted(set(faults), key=lambda fault: (fault.line, fault.start, fault.end, fault.new))


def draw(sources, count, seed, weight=lambda path: 1.0, known=lambda fault: False):
    """Draw faults, no two of one line, with every kind as likely as any other.

    A fault's place in the order depends on the seed and on its own line only: changes elsewhere hardly move it. The
    text with any one of the faults compiles, into other code.

    Args:
        sources (Mapping[str, str]): Name of each file -> its text.
        count (int): How many; fewer if there are not as many lines.
        seed (int): Same seed, same faults.
        weight (Callable): Name of a file -> share of its faults relative to others of their kind, above 0.
        known (Callable): Fault -> whether to leave it out.

    Returns:
        list[Fault]: By file and line.
    """
    faults = [fault for path, source in sources.items() for fault in find_faults(source, path)]
    of_kind = Counter(fault.kind for fault in faults)

    def rank(fault):
        chance = random.Random(f'{seed} {fault.path} {fault.before} {fault.after}').random()
        return -math.log(1 - chance) * of_kind[fault.kind] / weight(fault.path)

    drawn = {}
    for fault in sorted(faults, key=lambda fault: (rank(fault), fault.path, fault.line, fault.start)):
        if len(drawn) == count:
            break
        place = fault.path, fault.line
        if place not in drawn and not known(fault) and _changes_code(sources[fault.path], fault):
            drawn[place] = fault
    return [drawn[place] for place in sorted(drawn)]


def _changes_code(source, fault):
    try:
        changed = ast.parse(plant(source, fault))
        compile(changed, fault.path, 'exec', dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return ast.dump(changed) != ast.dump(ast.parse(source))
