"""Where one-line faults can be planted in a Python source.

A fault replaces a part of one line. Docstrings, messages, what only prints, annotations and decorators get none.
"""

import ast
import itertools
import re

__all__ = ['find_places']

COMPARISONS = {
    ast.Lt: ('<', '<='),
    ast.LtE: ('<=', '<'),
    ast.Gt: ('>', '>='),
    ast.GtE: ('>=', '>'),
    ast.Eq: ('==', '!='),
    ast.NotEq: ('!=', '=='),
    ast.Is: ('is', 'is not'),
    ast.IsNot: ('is not', 'is'),
    ast.In: ('in', 'not in'),
    ast.NotIn: ('not in', 'in'),
}
ARITHMETIC = {
    ast.Add: ('+', '-'),
    ast.Sub: ('-', '+'),
    ast.Mult: ('*', '+'),
    ast.FloorDiv: ('//', '*'),
    ast.Div: ('/', '*'),
    ast.Mod: ('%', '//'),
    ast.Pow: ('**', '*'),
}
SIDES = [
    ('height', 'width'),
    ('h', 'w'),
    ('rows', 'columns'),
    ('row', 'column'),
    ('dilation_h', 'dilation_w'),
    ('top', 'left'),
    ('bottom', 'right'),
]
OTHER_SIDE = {one: other for pair in SIDES for one, other in (pair, pair[::-1])}
SYMMETRIC = {'max', 'min', 'isinstance', 'issubclass', 'gcd', 'allclose', 'equal'}  # or only types and names change
SETTINGS = {
    'padding',
    'stride',
    'dilation',
    'groups',
    'eps',
    'training',
    'momentum',
    'ceil_mode',
    'align_corners',
    'mode',
}
PRINTING = re.compile(r'(^|\.)(print|warn|warn_once|debug|info|warning|error|exception|log|print_log)$')
SAYING = {'__repr__', '__str__', 'extra_repr'}


def find_places(source):
    """Return the places as (line, first column, column behind, what stands there instead, kind of the fault).

    Lines count from 1, columns are in characters from 0.
    """
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return finder.places


class _Finder(ast.NodeVisitor):
    def __init__(self, source):
        self.lines = source.splitlines()
        self.names = set()  # of the function that is looked at
        self.in_default = False  # of an argument
        self.places = []

    def _add(self, line, start, end, new, kind):
        self.places.append((line, start, end, new, kind))

    def _span(self, node):
        """Line, first column and column behind a node, in characters; None if it has several lines."""
        if node.lineno != node.end_lineno:
            return None
        line = self.lines[node.lineno - 1].encode()
        start, end = (len(line[:offset].decode()) for offset in (node.col_offset, node.end_col_offset))
        return node.lineno, start, end

    def _text(self, node):
        line, start, end = self._span(node)
        return self.lines[line - 1][start:end]

    def _replace(self, node, new, kind):
        span = self._span(node)
        if span:
            self._add(*span, new, kind)

    def _between(self, left, right, old, new, kind):
        """Replace the operator between two nodes that stand on one line."""
        spans = [self._span(node) for node in (left, right)]
        if None in spans or spans[0][0] != spans[1][0]:
            return
        (line, _, start), (_, end, _) = spans
        found = re.search(rf'(?<![\w*/<>=!]){re.escape(old)}(?![\w*/<>=])', self.lines[line - 1][start:end])
        if found:
            self._add(line, start + found.start(), start + found.end(), new, kind)

    def _swap(self, nodes, kind):
        """Exchange neighbours that stand on one line."""
        for one, other in itertools.pairwise(nodes):
            spans = [self._span(node) for node in (one, other)]
            if None in spans or spans[0][0] != spans[1][0] or any(isinstance(n, ast.Starred) for n in (one, other)):
                continue
            (line, start, left), (_, right, end) = spans
            between = self.lines[line - 1][left:right]
            self._add(line, start, end, self._text(other) + between + self._text(one), kind)

    def visit_Raise(self, node):  # a message
        pass

    visit_JoinedStr = visit_Assert = visit_Raise  # noqa: N815  named by ast

    def visit_AnnAssign(self, node):
        if node.value:
            self.visit(node.value)

    def visit_ClassDef(self, node):
        for part in node.body:
            self.visit(part)

    def visit_FunctionDef(self, node):
        if node.name in SAYING:
            return
        outer = self.names
        self.names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        self.names |= {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
        self.in_default = True
        for part in filter(None, (*node.args.defaults, *node.args.kw_defaults)):
            self.visit(part)
        self.in_default = False
        for part in node.body:
            self.visit(part)
        self.names = outer

    def visit_Compare(self, node):
        operands = node.left, *node.comparators
        for left, operator, right in zip(operands, node.ops, node.comparators):
            self._between(left, right, *COMPARISONS[type(operator)], 'comparison')
            self.visit(left)
            if isinstance(operator, (ast.In, ast.NotIn)) and isinstance(right, ast.Tuple):
                for element in right.elts:  # whose order says nothing
                    self.visit(element)
        if not isinstance(node.ops[-1], (ast.In, ast.NotIn)):
            self.visit(operands[-1])

    def visit_BoolOp(self, node):
        operators = ('and', 'or') if isinstance(node.op, ast.And) else ('or', 'and')
        for left, right in zip(node.values, node.values[1:]):
            self._between(left, right, *operators, 'and / or')
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        span = self._span(node)
        if isinstance(node.op, ast.Not) and span:
            self._add(*span, self._text(node).removeprefix('not').strip(), 'not')
        self.generic_visit(node)

    def visit_BinOp(self, node):
        if type(node.op) in ARITHMETIC and not (_is_text(node.left) or _is_text(node.right)):
            self._between(node.left, node.right, *ARITHMETIC[type(node.op)], 'arithmetic')
        self.generic_visit(node)

    def visit_Constant(self, node):
        value = node.value
        kind = 'default' if self.in_default else 'True / False' if isinstance(value, bool) else 'constant'
        if isinstance(value, bool):
            self._replace(node, str(not value), kind)
        elif isinstance(value, int):
            self._replace(node, str(value + 1), kind)
            if value > 1:
                self._replace(node, str(value - 1), kind)
        elif isinstance(value, float):
            self._replace(node, str(value * 2 if value else 0.5), kind)

    def visit_Name(self, node):
        other = OTHER_SIDE.get(node.id)
        if isinstance(node.ctx, ast.Load) and other in self.names:
            self._replace(node, other, 'height / width')

    def visit_Subscript(self, node):
        swapped = {'0': '1', '1': '0', '-1': '-2', '-2': '-1'}.get(ast.unparse(node.slice))
        if swapped and isinstance(node.ctx, ast.Load):
            self._replace(node.slice, swapped, 'axis')
            self.visit(node.value)
        else:
            self.generic_visit(node)

    def visit_Tuple(self, node):
        if isinstance(node.ctx, ast.Load):
            self._swap(node.elts, 'order')
        self.generic_visit(node)

    def visit_Call(self, node):
        name = ast.unparse(node.func)
        if PRINTING.search(name):
            return
        if name.rpartition('.')[2] not in SYMMETRIC:
            self._swap(node.args, 'order')
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != 'inplace']  # the values are the same
        for keyword in node.keywords:
            if keyword.arg and self._span(keyword):
                self._drop_keyword(keyword)
        if name.rpartition('.')[2] in ('isinstance', 'issubclass'):
            self.visit(node.args[0])
        else:
            self.generic_visit(node)

    def _drop_keyword(self, keyword):
        line, start, end = self._span(keyword)
        text = self.lines[line - 1]
        comma = re.match(r'\s*,\s*', text[end:])
        if comma:
            end += comma.end()
        else:
            before = re.search(r'\s*,\s*$', text[:start])
            start = before.start() if before else start
        self._add(line, start, end, '', 'setting dropped' if keyword.arg in SETTINGS else 'argument dropped')

    def visit_If(self, node):
        self._replace(node.test, 'False', 'branch dropped')
        self.generic_visit(node)

    def visit_IfExp(self, node):
        if _is_message(node.body) or _is_message(node.orelse):
            return
        for value in 'True', 'False':
            self._replace(node.test, value, 'branch dropped')
        self.generic_visit(node)


def _is_text(node):
    constants = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
    return any(isinstance(value, str) for value in constants)


def _is_message(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return ' ' in node.value or not node.value
    return isinstance(node, ast.JoinedStr)
