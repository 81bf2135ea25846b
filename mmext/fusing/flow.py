"""What was seen of where the outputs of convolutions go and where the inputs of norms come from."""

from collections import defaultdict

import torch
from torch.overrides import TorchFunctionMode

from .folding import is_conv, is_norm

__all__ = ['Flow', 'Reads', 'owners_of', 'read_graph', 'state_of', 'tensors_in']

# What may be asked of a convolution's output or weight besides: the answer is the same after folding.
HARMLESS = {
    *('device', 'dim', 'dtype', 'element_size', 'is_complex', 'is_cpu', 'is_cuda', 'is_floating_point', 'is_meta'),
    *('is_sparse', 'itemsize', 'layout', 'ndim', 'ndimension', 'nelement', 'numel', 'requires_grad', 'shape', 'size'),
}

STATE = 'weight', 'bias', 'running_mean', 'running_var'


class Flow:
    """Where outputs of convolutions were seen to go, and inputs of norms to come from.

    Attributes:
        consumers (dict[nn.Module, set]): Norms that took a convolution's output; None for anything else.
        producers (dict[nn.Module, set]): Convolutions that made a norm's input; None for anything else.
    """

    def __init__(self):
        self.consumers = defaultdict(set)
        self.producers = defaultdict(set)

    def link(self, conv, norm):
        """Note that a norm, or something else (None), takes the output of a convolution, or of something else."""
        if conv is not None:
            self.consumers[conv].add(norm)
        if norm is not None:
            self.producers[norm].add(conv)

    def spoil(self, module):
        """Note that a convolution or norm is used in another way than by calls alone."""
        self.consumers[module].add(None)
        self.producers[module].add(None)

    def partner(self, conv):
        """Return the norm that takes every output of a convolution and nothing else; None if there is none."""
        if len(self.consumers.get(conv, ())) != 1:
            return None
        (norm,) = self.consumers[conv]
        return norm if norm is not None and self.producers[norm] == {conv} else None

    def renamed(self, modules):
        """Return the same with other modules: ``modules`` maps those of here."""
        flow = Flow()
        for mine, its in ((self.consumers, flow.consumers), (self.producers, flow.producers)):
            for module, others in mine.items():
                its[modules[module]] |= {other and modules[other] for other in others}
        return flow

    def update(self, other):
        """Add what another one saw."""
        for mine, its in ((self.consumers, other.consumers), (self.producers, other.producers)):
            for module, others in its.items():
                mine[module] |= others


class Reads(TorchFunctionMode):
    """Calls of PyTorch's functions that read weights or statistics of convolutions and norms, but by their forward.

    Args:
        flow (Flow): Where to note it.
        owners (dict): As of :func:`owners_of`.
    """

    def __init__(self, flow, owners):
        super().__init__()
        self.flow = flow
        self.owners = owners
        self.active = []  # convolutions and norms whose forward runs now

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _called(func) not in HARMLESS:
            for tensor in tensors_in((args, kwargs), objects=False):
                self.look_at(tensor)
        return func(*args, **kwargs)

    def look_at(self, tensor):
        """Take note of one tensor that a function takes."""
        owners = self.owners.get(id(tensor), ())  # several of a weight that is tied
        if not any(owner in self.active for owner in owners):
            for owner in owners:
                self.flow.spoil(owner)


def _called(func):
    name = getattr(func, '__name__', '')
    if name == '__get__':  # of a property such as Tensor.shape
        name = getattr(getattr(func, '__self__', None), '__name__', name)
    return name


def read_graph(graph, root, layers, flow):
    """Note what a graph shows.

    Args:
        graph (torch.fx.Graph): Calls of modules, methods and functions.
        root (nn.Module): What the names in it belong to.
        layers (Iterable[nn.Module]): The convolutions and norms to look for.
        flow (Flow): Where to note it.
    """
    layers = set(layers)
    modules = {name: module for name, module in root.named_modules(remove_duplicate=False) if module in layers}
    owners = owners_of(layers)

    def called(node):
        return modules.get(node.target) if node.op == 'call_module' else None

    for node in graph.nodes:
        layer = called(node)
        if layer is not None and is_conv(layer):
            for user in filter(_takes_values, node.users):
                norm = called(user)
                alone = [*user.args, *user.kwargs.values()] == [node]
                flow.link(layer, norm if norm is not None and is_norm(norm) and alone else None)
        elif layer is not None:
            sources = [called(source) for source in node.all_input_nodes]
            conv = sources[0] if len(sources) == 1 else None
            flow.link(conv if conv is not None and is_conv(conv) else None, layer)
        elif node.op == 'get_attr' and any(map(_takes_values, node.users)):
            prefix, _, name = node.target.rpartition('.')
            for owner in owners.get(id(getattr(root.get_submodule(prefix), name)), ()):
                flow.spoil(owner)


def _takes_values(node):
    if node.op == 'call_function' and node.target is getattr:
        return node.args[1] not in HARMLESS
    return not (node.op == 'call_method' and node.target in HARMLESS)


def owners_of(modules):
    """Return the modules that own a tensor, by the tensor's ``id``."""
    owners = defaultdict(list)
    for module in modules:
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            owners[id(tensor)].append(module)
    return owners


def state_of(layer):
    """Return what a convolution or norm computes with, which a forward may exchange for a call."""
    stored = {**layer._parameters, **layer._buffers}
    return [layer.training, getattr(layer, 'eps', None), *(stored.get(name) for name in STATE)]


def tensors_in(value, objects=True):
    """Return the tensors in nested tuples, lists and dicts, and in the attributes of objects, in a fixed order."""
    found, seen, stack = [], set(), [value]
    while stack:
        value = stack.pop()
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif id(value) in seen or isinstance(value, (str, bytes, type, torch.nn.Module)):
            continue
        elif isinstance(value, dict):
            stack += reversed(value.values())
        elif isinstance(value, (tuple, list, set)):
            stack += reversed(list(value))
        elif objects and hasattr(value, '__dict__') and not callable(value):
            stack += reversed(vars(value).values())
        seen.add(id(value))
    return found
