"""Where the time axis of a tensor stands, and what its other axes are."""

from dataclasses import dataclass

__all__ = ['IMAGE', 'Layout', 'layouts_in', 'output_layout', 'reshaped', 'times_of']


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor of clips: those of the 2D network's tensor, and time.

    Args:
        frame (tuple[str]): The axes of one frame's tensor: 'N', 'C', 'H', 'W', joined names such as 'HW', or '?'.
        time (int): Place of the time axis in the tensor of clips, from 1 to ``len(frame)``.
    """

    frame: tuple
    time: int

    @property
    def rank(self):
        """int: Number of axes of a frame's tensor."""
        return len(self.frame)

    def axis(self, axis):
        """Return the axis of clips for an axis of frames, which may count from the end."""
        axis = axis % self.rank
        return axis + (axis >= self.time)

    def at(self, time):
        """Return the same axes with time in another place."""
        return Layout(self.frame, time)

    def covers_picture(self, axes):
        """Say whether some axes (of frames) hold all of a picture's height and width."""
        names = ''.join(self.frame[axis % self.rank] for axis in axes)
        return 'H' in names and 'W' in names

    def permuted(self, order):
        """Return the layout and the order of the clips' axes for an order of the frames' axes.

        Time stays in front of the axis that it is in front of now.
        """
        order = [axis % self.rank for axis in order]
        time = order.index(self.time) if self.time < self.rank else self.rank
        axes = [self.axis(axis) for axis in order]
        axes.insert(time, self.time)
        return Layout(tuple(self.frame[axis] for axis in order), time), axes


IMAGE = Layout(('N', 'C', 'H', 'W'), 2)


def output_layout(shape, given=None):
    """Return the layout that a result of frames gets in clips.

    Args:
        shape (Sequence[int]): Shape of the result in the 2D network.
        given (Layout, optional): Layout of what it was made of. Default: None.

    Returns:
        Layout: ``given`` where the number of axes is the same; else [N, C, T, H, W] or [N, T, ...].
    """
    if given is not None and given.rank == len(shape):
        return given
    if len(shape) == 4:
        return IMAGE
    return Layout(('N', *'?' * (len(shape) - 1)), 1)


def reshaped(frame, before, after):
    """Return the names of axes after a reshape.

    Args:
        frame (tuple[str]): Names of the axes before.
        before (Sequence[int]): Sizes before.
        after (Sequence[int]): Sizes after, of the same product.

    Returns:
        tuple[str]: One name for each axis: that of the axis that it was, those of the axes joined in it, or '?'.
    """
    names = []
    start = old = 0
    while len(names) < len(after):
        sizes = [after[len(names)]]
        count, product = before[start] if start < len(before) else 1, sizes[0]
        old = min(start + 1, len(before))
        while count != product:  # until the same elements lie behind both
            if count < product:
                count *= before[old]
                old += 1
            else:
                sizes.append(after[len(names) + len(sizes)])
                product *= sizes[-1]
        joined = ''.join(frame[start:old])
        many = [size != 1 for size in sizes].count(True)
        if len(sizes) == 1:
            parts = [joined]
        else:
            # of a picture's pixels, two parts are all of it together, be they its height and width or others
            parts = [joined] if many == 1 else ['H', 'W'] if (many, joined) == (2, 'HW') else []
        pending = iter(parts)
        names += [next(pending, '?') or '?' if size != 1 or len(sizes) == 1 else '?' for size in sizes]
        start = old
    return tuple(names)


def layouts_in(value):
    """Return all layouts in a nested structure of them and None."""
    if isinstance(value, Layout):
        return [value]
    return [layout for item in value for layout in layouts_in(item)] if isinstance(value, tuple) else []


def times_of(layouts):
    """Return the places of the time axis in a nested structure of layouts and None."""
    if isinstance(layouts, tuple):
        return tuple(times_of(layout) for layout in layouts)
    return None if layouts is None else layouts.time
