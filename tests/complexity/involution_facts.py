"""The reference's counts of the involution rows, and the configs they belong to."""

import copy
import functools
import json
from pathlib import Path

import pytest

from mmext import zoo

FACTS = json.loads((Path(__file__).parent.parent / 'data' / 'complexity_involution.json').read_text())['rows']
NAMES = {zoo.get_entry(name)['Metadata']['Published']['config']: name for name in zoo.list_models('*red*')}
each_row = pytest.mark.parametrize('fact', FACTS, ids=lambda fact: fact['row'])

_load = functools.cache(zoo.get_config)


def config(fact):
    """Return the config of a row of :data:`FACTS`, to be changed at will."""
    return copy.deepcopy(_load(NAMES[fact['config']]))
