"""Small clips for tests with mmaction2."""

import sys

import running

sys.path.insert(0, str(running.ROOT / 'tools'))

CLASSES = ('rise', 'fall', 'slide', 'rest')


def make(folder, train=4, val=2, frames=16):
    """Make mini Kinetics clips of 64 x 64 pixels in a folder; return the folder of the data set."""
    import make_mini_datasets

    options = ['--train', str(train), '--val', str(val), '--frames', str(frames)]
    assert make_mini_datasets.main(['kinetics400', '--out', str(folder), *options]) == 0
    return folder / 'kinetics400'
