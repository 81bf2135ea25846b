"""Reading of the golden cases in tests/data/golden: weights and inputs rebuilt from names, outputs compared."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / 'data' / 'golden'

_spec = importlib.util.spec_from_file_location('golden_fill', FOLDER / 'fill.py')
fill = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill)

TOLERANCE = 1e-5  # relative to the largest value of the array compared


class Case:
    """One golden case: ``case['options']`` and so on give the fields of the JSON file."""

    def __init__(self, family, name):
        path = FOLDER / family / f'{name}.json'
        self.fields = json.loads(path.read_text())
        npz = path.with_suffix('.npz')
        self.arrays = dict(np.load(npz)) if npz.exists() else {}
        self.compared = set()

    def __getitem__(self, key):
        return self.fields[key]

    def inputs(self):
        """Return {name: tensor} of the case's inputs."""
        return {i['name']: torch.from_numpy(fill.fill_input(i['name'], i['shape'], i['seed'])) for i in self['input']}

    def state_dict(self, rename=lambda name: name):
        """Return the weights under the reference's names, as rename maps them, scales applied."""
        state = {}
        for name, shape in self['state']:
            value = fill.fill_param(name, shape, self['weights_seed'])
            for pattern, factor in self.fields.get('scales', []):
                if re.search(pattern, name):
                    value = (value * factor).astype(value.dtype)
            state[rename(name)] = torch.from_numpy(np.asarray(value))
        return state

    def keys_and_shapes(self):
        """Return the reference's state dict as [(name, shape)] in its order."""
        return [(name, tuple(shape)) for name, shape in self['state']]

    def load(self, module):
        """Load the weights into a module; every key of either side must find its counterpart. Returns it in eval
        mode."""
        module.load_state_dict(self.state_dict(), strict=True)
        return module.eval()

    def check(self, key, value):
        """Compare a tensor with the array of that key, given whole or as mean, std and every Nth element."""
        value = value.detach().numpy()
        subsets = [name for name in self.arrays if re.fullmatch(re.escape(key) + r'/sub\d+', name)]
        if not subsets:
            self._compare(key, value)
            return
        axes = (0, *range(2, value.ndim))
        self._compare(f'{key}/mean', value.mean(axes, dtype=np.float64))
        self._compare(f'{key}/std', value.astype(np.float64).std(axes))
        step = int(subsets[0].rpartition('/sub')[2])
        self._compare(subsets[0], value.reshape(-1)[::step])

    def _compare(self, name, value):
        expected = self.arrays[name]
        assert value.shape == expected.shape, name
        error = np.abs(value - expected).max() / np.abs(expected).max()
        assert error < TOLERANCE, f'{name}: relative error {error:.2e}'
        self.compared.add(name)

    def check_complete(self, *given):
        """Assert that every array of the case was compared; ``given`` names those that are inputs."""
        assert set(self.arrays) == self.compared | set(given)


def names(family, pattern):
    """Return the names of a family's cases that match a glob pattern."""
    found = sorted(path.stem for path in (FOLDER / family).glob(f'{pattern}.json'))
    assert found, f'no golden case {family}/{pattern}'
    return found
