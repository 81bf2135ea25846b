"""The mutation check: what it draws, that the checkout stays as it is, and that faults are told from no faults."""

import ast
import importlib
import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools' / 'checks')


@pytest.fixture
def faults():
    return importlib.import_module('faults')


@pytest.fixture
def mutations():
    return importlib.import_module('mutations')


SOURCE = '''"""Docstring: 1 < 2, True and False."""

import logging


def area(height, width, margin=2, exact=True):
    """Not a fault: 3 + 4."""
    if height < 0 or width < 0:
        raise ValueError(f'{height + 1} x {width} is below 0')
    logging.getLogger(__name__).warning('at most %d', 5)
    whole = grow(height, width, padding=margin, fill=None)
    sides = 'a b' if not exact else 'c'
    return whole.shape[0] * whole.shape[1] if exact and sides is not None else ('ä', whole.shape[-1] // 7)
'''


def lines(faults, source):
    return {(fault.kind, fault.before, fault.after) for fault in faults.find_faults(source, 'x.py')}


def test_every_kind_is_found(faults):
    found = lines(faults, SOURCE)
    test = 'if height < 0 or width < 0:'
    call = 'whole = grow(height, width, padding=margin, fill=None)'
    define = 'def area(height, width, margin=2, exact=True):'
    start = "return whole.shape[0] * whole.shape[1] if exact and sides is not None else ('ä', whole.shape[-1] // 7)"
    assert {
        ('comparison', test, 'if height <= 0 or width < 0:'),
        ('and / or', test, 'if height < 0 and width < 0:'),
        ('constant', test, 'if height < 0 or width < 1:'),
        ('branch dropped', test, 'if False:'),
        ('height / width', test, 'if width < 0 or width < 0:'),
        ('order', call, 'whole = grow(width, height, padding=margin, fill=None)'),
        ('setting dropped', call, 'whole = grow(height, width, fill=None)'),
        ('argument dropped', call, 'whole = grow(height, width, padding=margin)'),
        ('default', define, 'def area(height, width, margin=3, exact=True):'),
        ('default', define, 'def area(height, width, margin=2, exact=False):'),
        ('axis', start, start.replace('[0]', '[1]')),
        ('axis', start, start.replace('[-1]', '[-2]')),
        ('arithmetic', start, start.replace('//', '*')),
        ('comparison', start, start.replace('is not', 'is')),
        ('branch dropped', start, start.replace('exact and sides is not None', 'True')),
        ('order', start, start.replace("'ä', whole.shape[-1] // 7", "whole.shape[-1] // 7, 'ä'")),
    } <= found
    assert ('not', 'if not x:', 'if x:') in lines(faults, 'if not x:\n    y = 1\n')
    assert ('True / False', 'x = True', 'x = False') in lines(faults, 'x = True\n')


def test_words_are_left_alone(faults):
    touched = {before for _, before, _ in lines(faults, SOURCE)}
    assert not [line for line in touched if '"""' in line or 'raise' in line or 'warning' in line or "'a b'" in line]


def test_draws_are_reproducible_and_every_kind_has_its_turn(faults, mutations):
    sources = mutations.read_sources(['mmext/ops', 'mmext/layers'])
    drawn = faults.draw(sources, 60, 3)
    assert drawn == faults.draw(dict(reversed(sources.items())), 60, 3)
    assert drawn != faults.draw(sources, 60, 4)
    assert len({(fault.path, fault.line) for fault in drawn}) == 60
    kinds = [fault.kind for fault in drawn]
    assert len(set(kinds)) > 10
    assert max(map(kinds.count, kinds)) < 15


def test_a_fault_changes_one_line_into_other_code(faults, mutations):
    sources = mutations.read_sources(['mmext/layers', 'mmext/models/wider_resnet.py'])
    for fault in faults.draw(sources, 40, 0):
        old = sources[fault.path]
        new = faults.plant(old, fault)
        differing = [(a, b) for a, b in zip(old.split('\n'), new.split('\n'), strict=True) if a != b]
        assert [(a.strip(), b.strip()) for a, b in differing] == [(fault.before, fault.after)]
        assert ast.dump(ast.parse(new)) != ast.dump(ast.parse(old))
    with pytest.raises(ValueError, match=r'wider_resnet\.py:\d+ has .*, not '):
        faults.plant('\n' * 500, fault)


def test_known_equivalents_are_not_drawn_and_exist(faults, mutations):
    sources = mutations.read_sources(['mmext'])
    known = mutations.load_equivalent()
    for path, before, _ in known:
        assert before in map(str.strip, sources[path].splitlines()), f'{path} has no line {before!r} any more'
    first = faults.draw(sources, 5, 0)
    again = faults.draw(sources, 5, 0, known=lambda fault: fault in first)
    assert not set(first) & set(again)


@pytest.fixture
def checkout(tmp_path):
    """A small checkout with one module and its test."""
    root = tmp_path / 'checkout'
    for name, text in {
        '.gitignore': 'secret\n',
        'mmext/fusing.py': 'def larger(a, b):\n    return a if a > b else b\n\n\ndef unused(a):\n    return not a\n',
        'tests/test_fusing.py': 'from mmext.fusing import larger\n\n\n'
        'def test_larger():\n    assert (larger(1, 2), larger(2, 1)) == (2, 2)\n',
        'secret': '',
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(['git', 'init', '-q', root], check=True)
    return root


def test_a_fault_is_caught_by_a_test_or_survives(checkout, faults, mutations, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mutations, 'ROOT', checkout)
    monkeypatch.setattr(mutations.Copy.__init__, '__defaults__', (checkout,))
    monkeypatch.setattr(mutations.read_sources, '__defaults__', (checkout,))
    monkeypatch.setattr(mutations, 'load_equivalent', set)
    before = {path: path.read_bytes() for path in checkout.rglob('*') if path.is_file()}
    report = tmp_path / 'report.json'
    assert mutations.main(['--paths', 'mmext/fusing.py', '--count', '2', '--json', str(report)]) == 1
    assert {path: path.read_bytes() for path in checkout.rglob('*') if path.is_file()} == before
    found = json.loads(report.read_text())['faults']
    assert [(one['line'], one['caught_by']) for one in found] == [(2, 'tests/test_fusing.py::test_larger'), (6, None)]
    printed = capsys.readouterr().out
    assert 'caught 1 of 2 planted' in printed
    assert '- return not a\n  + return a' in printed


def test_tests_that_fail_without_a_fault_are_no_evidence(checkout, faults, mutations, tmp_path):
    (checkout / 'tests' / 'test_fusing.py').write_text('def test_red():\n    assert False\n')
    copy = mutations.Copy(tmp_path / 'copy', checkout)
    assert not (copy.root / 'secret').exists()
    fault = faults.find_faults((checkout / 'mmext' / 'fusing.py').read_text(), 'mmext/fusing.py')[0]
    (tmp_path / 'copy').mkdir(exist_ok=True)
    with pytest.raises(SystemExit, match='test_red fails without a fault, too'):
        copy.check(fault, 100)


def test_a_time_limit_counts_as_caught_only_if_the_fault_is_the_cause(checkout, mutations, faults, tmp_path):
    (checkout / 'tests' / 'test_fusing.py').write_text(
        'from time import sleep\nfrom mmext.fusing import larger\n\n\n'
        'def test_slow():\n    sleep(100 * (larger(1, 2) == 1))\n'
    )
    copy = mutations.Copy(tmp_path / 'copy', checkout)
    fault = next(
        fault
        for fault in faults.find_faults((checkout / 'mmext' / 'fusing.py').read_text(), 'mmext/fusing.py')
        if fault.after == 'return a if True else b'
    )
    assert copy.check(fault, 10)['caught_by'] == 'time limit'


def test_every_file_has_tests(mutations):
    for path in mutations.read_sources(['mmext']):
        assert mutations.find_tests(path)
    with pytest.raises(SystemExit, match=r'tools/demo\.py has no tests'):
        mutations.find_tests('tools/demo.py')
    with pytest.raises(SystemExit, match='no such Python file'):
        mutations.read_sources(['mmext/nothing.py'])
