"""The type of a dilation pattern, and what makes one legal."""

import reprlib
from itertools import islice
from numbers import Integral

__all__ = ['MAX_CHANNELS', 'MAX_DILATION', 'MAX_LAYERS', 'Pattern', 'PatternError', 'check_layer', 'runs_text']

MAX_LAYERS = 4096
MAX_DILATION = 256  # pixels; published are up to 6
MAX_CHANNELS = 2**20


class PatternError(ValueError):
    """A pattern that cannot be read, is not legal or does not fit. The message names the layer and what to do."""


class Pattern(tuple):
    """The dilations of a network's inception convolutions: immutable, hashable, equal where its layers are.

    Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), section 3.

    Layer ``i`` is a tuple of runs ``(dilation_h, dilation_w, channels)``: the first ``channels`` output channels of the
    layer's convolution have that dilation, in pixels, the next run's channels follow. Runs keep the order they are
    given in, which is the order of the published weights; runs without channels are left out. A dilation is 1 to 256
    pixels, a layer has up to 2^20 channels, a pattern up to 4096 layers.

    Args:
        layers (Iterable): A sequence of runs for each layer, in the network's order.

    Raises:
        PatternError: If there is no layer, or a layer is not legal; the message names the layer.

    Examples:
        >>> pattern = Pattern([[(1, 1, 48), (1, 2, 16)], [(1, 1, 64)]])
        >>> pattern.widths
        (64, 64)
        >>> pattern[0]
        ((1, 1, 48), (1, 2, 16))
    """

    __slots__ = ()

    def __new__(cls, layers):  # noqa: D102  the class docstring documents it
        if isinstance(layers, cls):
            return layers
        checked = [check_layer(layer, f'layer {index}') for index, layer in enumerate(islice(layers, MAX_LAYERS + 1))]
        if len(checked) > MAX_LAYERS:
            raise PatternError(f'the pattern has more than {MAX_LAYERS} layers, the most that are accepted')
        if not checked:
            raise PatternError('the pattern has no layer; give one for each inception convolution')
        return super().__new__(cls, checked)

    def __getnewargs__(self):
        return (tuple(self),)

    def __repr__(self):
        return f'Pattern({len(self)} layers, {min(self.widths)} to {max(self.widths)} channels)'

    @property
    def widths(self):
        """tuple[int, ...]: Output channels of each layer."""
        return tuple(sum(run[2] for run in layer) for layer in self)

    @property
    def max_dilation(self):
        """int: The largest dilation of all, in pixels."""
        return max(max(run[:2]) for layer in self for run in layer)

    def share(self, dilation_h, dilation_w):
        """Return the share of a dilation, the mean over the layers.

        Args:
            dilation_h (int): In pixels.
            dilation_w (int): In pixels.

        Returns:
            float: From 0 to 1.
        """
        wanted = (dilation_h, dilation_w)
        shares = [sum(run[2] for run in layer if run[:2] == wanted) / width for layer, width in zip(self, self.widths)]
        return sum(shares) / len(self)

    def check_widths(self, widths, name='the pattern', layer_names=None):
        """Check that the pattern fits a network.

        Args:
            widths (Sequence[int]): Output channels of the network's convolutions, in order.
            name (str): What messages call the pattern. Default: ``'the pattern'``.
            layer_names (Sequence[str], optional): What messages call the convolutions. Default: None, their index.

        Returns:
            Pattern: self.

        Raises:
            PatternError: If the number of layers or the channels of one differ.
        """
        widths = tuple(widths)
        if len(widths) != len(self):
            raise PatternError(
                f'{name} has {len(self)} layers, the network has {len(widths)} inception convolutions: it is the '
                f'pattern of another depth{_fitting(widths)}'
            )
        for index, (expected, found) in enumerate(zip(widths, self.widths)):
            if expected != found:
                which = f'layer {index}' + (f' ({layer_names[index]})' if layer_names else '')
                raise PatternError(
                    f'{which} of {name}: the channels add up to {found}, the convolution has {expected} '
                    f'({runs_text(self[index])}){_fitting(widths)}'
                )
        return self


def _fitting(widths):
    from .files import PUBLISHED, load_pattern

    fitting = [name for name in PUBLISHED if load_pattern(name).widths == widths]
    return f'; published ones that fit: {", ".join(fitting)}' if fitting else '; make one with `mmext pattern make`'


def check_layer(runs, name='the layer'):
    """Return the runs of one layer as tuples of int.

    Args:
        runs (Iterable): ``(dilation_h, dilation_w, channels)`` of each run; channels may be 0.
        name (str): What messages call the layer. Default: ``'the layer'``.

    Returns:
        tuple[tuple[int, int, int], ...]: The runs with channels.

    Raises:
        PatternError: If a run is not three integers, a dilation is below 1 or above 256, channels are negative, or the
            layer has none or more than 2^20.
    """
    if isinstance(runs, (str, bytes)) or not hasattr(runs, '__iter__'):
        raise PatternError(f'{name} is {reprlib.repr(runs)}; a list of [dilation_h, dilation_w, channels] is needed')
    checked, channels = [], 0
    for run in runs:
        values = tuple(run) if hasattr(run, '__iter__') and not isinstance(run, (str, bytes)) else (run,)
        if len(values) != 3 or any(isinstance(v, bool) or not isinstance(v, Integral) for v in values):
            raise PatternError(
                f'{name} has the run {reprlib.repr(run)}; three integers [dilation_h, dilation_w, channels] are needed'
            )
        values = tuple(int(value) for value in values)
        if min(values[:2]) < 1:
            raise PatternError(f'{name} has the run {values}: dilations are in pixels and at least 1')
        if values[2] < 0:
            raise PatternError(f'{name} has the run {values}: {values[2]} channels; at least 0 are needed')
        if max(values[:2]) > MAX_DILATION:
            raise PatternError(
                f'{name} has the run {reprlib.repr(values)}: dilations are in pixels and at most {MAX_DILATION}'
            )
        channels += values[2]
        if channels > MAX_CHANNELS:
            raise PatternError(f'{name} has more than {MAX_CHANNELS} channels, the most that are accepted')
        if values[2]:
            checked.append(values)
    if not checked:
        raise PatternError(f'{name} has no channels; give at least one run [dilation_h, dilation_w, channels]')
    return tuple(checked)


def runs_text(runs):
    """Describe the runs of a layer in a few words.

    Args:
        runs (Sequence): ``(dilation_h, dilation_w, channels)`` of each run.

    Returns:
        str: For example ``'1x1: 48, 1x2: 16'``, cut after the first few.
    """
    shown = ', '.join(f'{h}x{w}: {channels}' for h, w, channels in runs[:4])
    return shown + (', ...' if len(runs) > 4 else '')
