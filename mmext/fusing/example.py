"""What a run on an example shows of the order in which a network runs, and whether two networks agree on it."""

import contextlib
import copy
import gc
import operator
import weakref

import torch

from .flow import Reads, owners_of, state_of, tensors_in
from .folding import is_conv, is_norm, layers_of

__all__ = ['compare', 'record', 'run']

# Largest difference over the largest value of an output. Folding rounds every weight once more.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}


def run(model, example):
    """Run a model without gradients, always with the same random numbers.

    Args:
        model (nn.Module): The model.
        example: Its positional arguments as a tuple, its keyword arguments as a dict, or its only argument.

    Returns:
        What it returns.

    Raises:
        ValueError: If it cannot be run on the example.
    """
    example = copy.deepcopy(example)  # a network may write into its input
    args, kwargs = (example,), {}
    if isinstance(example, dict):
        args, kwargs = (), example
    elif isinstance(example, tuple):
        args = example
    devices = sorted({p.device.index for p in model.parameters() if p.is_cuda})
    cudnn = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)
    with torch.no_grad(), torch.random.fork_rng(devices), cudnn:
        torch.manual_seed(0)
        try:
            return model(*args, **kwargs)
        except Exception as error:
            raise ValueError(
                f'{type(model).__name__} cannot be run on the example ({type(error).__name__}: {error}); give what the '
                'model takes: its only argument, a tuple of arguments, or a dict of keyword arguments. Detectors of '
                'two stages need data samples as well: model.data_preprocessor(batch, False)'
            ) from error


def record(model, example, flow):
    """Run a model and note where the outputs of its convolutions go.

    Args:
        model (nn.Module): The model, in evaluation mode.
        example: As in :func:`run`.
        flow (Flow): Gets what is seen.

    Returns:
        What the model returns.
    """
    layers = layers_of(model)
    recorder = _Recorder(flow, layers)
    with contextlib.ExitStack() as stack:
        for layer in layers:
            handles = (
                layer.register_forward_pre_hook(recorder.enter, prepend=True, with_kwargs=True),
                layer.register_forward_hook(recorder.leave),
            )
            for handle in handles:
                stack.callback(handle.remove)
        stack.enter_context(recorder)
        outputs = run(model, example)
    recorder.finish()
    return outputs


class _Recorder(Reads):
    """Follows the outputs of convolutions through a run."""

    def __init__(self, flow, layers):
        super().__init__(flow, owners_of(layers))
        self.states = {layer: state_of(layer) for layer in layers}
        self.outputs = {}  # id of an output -> weak reference to it, its convolution
        self.taken = []  # the input of each active module if a norm has it from a convolution

    def enter(self, module, args, kwargs):
        """Before a convolution or norm."""
        taken = None
        if not all(map(operator.is_, state_of(module), self.states[module])):
            self.flow.spoil(module)
        if is_norm(module):
            values = [*args, *kwargs.values()]
            conv = self.source(values[0]) if len(values) == 1 else None
            self.flow.link(conv, module)
            taken = values[0] if conv is not None else None
        else:
            for tensor in tensors_in((args, kwargs)):
                self.look_at(tensor)
        self.active.append(module)
        self.taken.append(taken)

    def leave(self, module, args, output):
        """After a convolution or norm."""
        self.active.pop()
        self.taken.pop()
        if is_conv(module):
            if isinstance(output, torch.Tensor):
                self.outputs[id(output)] = weakref.ref(output), module
            else:
                self.flow.spoil(module)

    def source(self, value):
        """Return the convolution whose output a value is, or None."""
        kept, conv = self.outputs.get(id(value), (None, None))
        return conv if kept is not None and kept() is value else None

    def look_at(self, tensor):
        """Take note of one tensor that a function takes."""
        super().look_at(tensor)
        conv = self.source(tensor)
        if conv is not None and not any(tensor is taken for taken in self.taken):
            self.flow.spoil(conv)

    def finish(self):
        """Take note of outputs that something still has: the model's output, an attribute, a list."""
        if any(kept() is not None for kept, _ in self.outputs.values()):
            gc.collect()
        for kept, conv in self.outputs.values():
            if kept() is not None:
                self.flow.spoil(conv)


def compare(expected, found):
    """Check that two networks agree.

    Args:
        expected: What the network returned.
        found: What it returns with norms folded.

    Raises:
        ValueError: If there is nothing to compare.
        RuntimeError: If they differ by more than rounding.
    """
    expected, found = tensors_in(expected), tensors_in(found)
    if not any(map(_is_compared, expected)):
        raise ValueError(
            'the model returns no floating-point tensor with values for the example (no detections?), so that '
            'nothing can be compared; give an example for which it does (of a model of the toolboxes, with '
            "mode='tensor')"
        )
    if len(expected) != len(found):
        raise RuntimeError(f'the model returns {len(expected)} tensors, with norms folded {len(found)}; {_REPORT}')
    for number, (one, other) in enumerate(zip(expected, found)):
        if one.shape != other.shape:
            raise RuntimeError(
                f'output {number} has shape {list(one.shape)}, with norms folded {list(other.shape)}; {_REPORT}'
            )
        if not _is_compared(one):
            continue
        tolerance = TOLERANCES.get(one.dtype, 2e-1)
        wide = torch.complex128 if one.is_complex() else torch.float64
        one, other = one.to(wide), other.to(wide)
        same = (one == other) | (one.isnan() & other.isnan())
        scale = one[one.isfinite()].abs().max().item() if one.isfinite().any() else 0.0
        difference = torch.where(same, 0, (one - other).abs()).max().item()
        if not difference <= tolerance * scale:
            raise RuntimeError(
                f'with norms folded, output {number} differs by {difference:.2g}, values are up to {scale:.2g}; '
                f'{_REPORT}'
            )


_REPORT = 'leave this model as it is, and report it with the network'


def _is_compared(tensor):
    return tensor.numel() > 0 and (tensor.is_floating_point() or tensor.is_complex())
