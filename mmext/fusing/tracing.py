"""What a symbolic trace shows of the order in which a network runs, on all of its branches."""

import contextlib
import dis
import gc
import itertools
import operator
import weakref

import torch
from mmcv.cnn import ConvModule
from torch import fx, nn

from mmext.ops import inception_conv2d, involution

from .calls import MAX_WAYS, ways_to_call
from .flow import Reads, owners_of, read_graph, state_of
from .folding import is_conv, is_norm, is_whole, layers_of
from .products import FoldedNorm, FusedConvModule
from .questions import Asked, same_random_numbers
from .values import Value

__all__ = ['study']

MAX_CALLS = 20000  # of modules, in one trace
MAX_BRANCHES = 100  # on one way through a module, else it is taken for a loop without end


def study(root, flow, uncertain, guarded, graphs):
    """Trace a network on all of its branches and note where outputs go.

    Args:
        root (nn.Module): The network, in evaluation mode. Tracing may change what it stores, other than parameters.
        flow (Flow): Gets what is seen.
        uncertain (dict[nn.Module, str]): Gets the modules of which not everything is seen, and why.
        guarded (list[nn.Module]): Gets the modules for which that holds only as :class:`FusedConvModule`.
        graphs (list): Gets what runs on each way, in a form that can be compared.
    """
    if type(root) is ConvModule:
        guarded.append(root)
        root.__class__ = FusedConvModule
    for module, problem in _all_ways(root, flow, graphs).items():
        reason = f'torch.fx cannot trace {type(module).__name__}: {problem}'
        if isinstance(module, fx.GraphModule):  # its graph is there, although what the graph calls cannot be traced
            read_graph(module.graph, module, layers_of(module), flow)
            called = {module.get_submodule(node.target) for node in module.graph.nodes if node.op == 'call_module'}
        elif type(module).__module__.startswith('mmext.'):  # runs its parts as wholes, which we know of our own
            called = set(_parts(module))
            uncertain.update((part, reason) for part in called if is_conv(part) or is_norm(part))
        else:
            uncertain.update((part, reason) for part in module.modules())
            continue
        for part in called:
            if part is not module and _has_pairs(part):
                study(part, flow, uncertain, guarded, graphs)


def _parts(module):
    for child in module.children():
        if type(child).forward in (nn.ModuleList.forward, nn.ModuleDict.forward):  # is a list, and does not run
            yield from _parts(child)
        else:
            yield child


def _has_pairs(module):
    layers = layers_of(module)
    folded = any(isinstance(part, FoldedNorm) for part in module.modules())
    return any(map(is_conv, layers)) and (folded or any(map(is_norm, layers)))


def _all_ways(root, flow, graphs):
    """Trace a network in every way to call it; return the modules that could not be traced, and why."""
    opaque, errors, outputs = {}, [], []
    ways = list(itertools.product(ways_to_call(root), (False, True)))
    before = [_numbers(module) for module in root.modules()]
    for call, enabled in ways:
        with torch.set_grad_enabled(enabled):
            errors.append(_one_way(call, flow, opaque, outputs, graphs))
        if root in opaque:
            return opaque
    if any(value() is not None for value, _ in outputs):
        gc.collect()
    for value, conv in outputs:
        if value() is not None:  # something keeps it: an attribute, a list, a hook
            flow.spoil(conv)
    if before != [_numbers(module) for module in root.modules()]:
        return {root: 'its forward changes what it stores, which may decide what runs'}
    if None in errors:
        return opaque
    return {root: errors[0] if errors else f'{type(root).__name__}.forward takes any number of arguments, or very many'}


def _numbers(module):
    """Return what a module stores that may decide what runs."""
    stored = {name: value for name, value in vars(module).items() if name not in OF_EVERY_MODULE}
    return _plain(stored)


OF_EVERY_MODULE = set(vars(nn.Module()))


def _plain(value):
    if type(value) in (list, tuple):  # without the images that a hook keeps in it
        return [_plain(part) for part in value if type(part) in PLAIN]
    if type(value) is dict:
        return {key: _plain(part) for key, part in value.items() if type(key) in PLAIN and type(part) in PLAIN}
    return value if type(value) in PLAIN else None


PLAIN = {bool, int, float, str, type(None), list, tuple, dict}


def _one_way(call, flow, opaque, outputs, graphs):
    """Trace one call of a network and read the graph; return the error in which it always ends, or None."""
    layers = layers_of(call)
    tracer = _Tracer(opaque, layers, outputs, flow)
    random = []
    try:
        with same_random_numbers(random.append), Reads(flow, owners_of(layers)), Asked(tracer.problems.append):
            graph = tracer.trace(call)
    except Exception as error:
        problem = f'{type(error).__name__}: {error}'
        if not _is_raised(error):  # what the network returns is nothing that can be in a graph
            opaque[call.module] = problem
        return problem
    if random:
        opaque[call.module] = random[0]
        return random[0]
    read_graph(graph, call, layers, flow)
    graphs.append((type(call.module).__name__, [_described(node) for node in graph.nodes]))
    return None


def _described(node):
    target = getattr(node.target, '__qualname__', None) or str(node.target)
    return node.op, target, repr(node.args), repr(node.kwargs)


def _is_raised(error):
    """Say whether a ``raise`` or ``assert`` of the network made an error, so that this way through it has no output."""
    traceback = error.__traceback__
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code, package = traceback.tb_frame.f_code, traceback.tb_frame.f_globals.get('__name__', '')
    raised = dis.opname[code.co_code[traceback.tb_lasti]] == 'RAISE_VARARGS'
    if not raised or package.split('.')[0] == 'torch' or package in (__name__, Value.__module__):
        return False
    return error.__context__ is None or _is_raised(error.__context__)


class _DifferentError(Exception):
    """Branches of a module return what has another form."""


def _either_of(*values):
    """Stand in a graph for one of some values; it is never run."""


class _Ways:
    """The branches of one call of a module, each of which is traced in turn."""

    def __init__(self):
        self.given = []  # decisions of the way before, up to the one that is changed
        self.taken = []
        self.count = 1

    def decide(self):
        """Return what to decide now."""
        number = len(self.taken)
        self.taken.append(self.given[number] if number < len(self.given) else True)
        return self.taken[-1]

    def go_on(self):
        """Say whether there is another way, and go to it."""
        while self.taken and not self.taken[-1]:
            self.taken.pop()
        if not self.taken:
            return False
        self.given, self.taken = [*self.taken[:-1], False], []
        self.count += 1
        return True


class _Tracer(fx.Tracer):
    """Traces all branches of every module into one graph; modules that cannot be traced are a call in it.

    Args:
        opaque (dict[nn.Module, str]): Gets the modules that cannot be traced, and why.
        layers (list[nn.Module]): The convolutions and norms.
        outputs (list): Gets a weak reference to each output of a convolution, and the convolution.
        flow (Flow): Gets the layers that run with other weights than their own.
    """

    def __init__(self, opaque, layers, outputs, flow):
        super().__init__(autowrap_functions=(inception_conv2d, involution))
        self.proxy_buffer_attributes = True
        self.opaque = opaque
        self.layers = {layer: state_of(layer) for layer in layers}
        self.flow = flow
        self.ways = [_Ways()]  # of the calls that are running, innermost last
        self.calls = 0
        self.problems = []
        self.outputs = outputs

    def give_up(self, reason):
        """End the trace of the module that is running, whether or not it catches the error."""
        self.problems.append(reason)
        raise fx.proxy.TraceError(reason)

    def proxy(self, node):
        return Value(node, self)

    def to_bool(self, obj):
        if len(self.ways[-1].taken) >= MAX_BRANCHES:
            self.give_up(f'values decide more than {MAX_BRANCHES} times what runs')
        return self.ways[-1].decide()

    def iter(self, obj):
        self.give_up('the length of a value decides what runs')

    def keys(self, obj):
        self.give_up('the keys of a value decide what runs')

    def is_leaf_module(self, module, name):
        if module in self.layers or is_whole(module) or isinstance(module, FoldedNorm):
            return True
        return super().is_leaf_module(module, name) and 'forward' not in vars(module)

    def call_module(self, module, forward, args, kwargs):
        name = self.path_of_module(module)
        if self.is_leaf_module(module, name):
            if module not in self.layers and not is_whole(module) and _has_pairs(module):
                self.opaque[module] = f'{type(module).__name__} is a module of PyTorch'
            if module in self.layers and not all(map(operator.is_, state_of(module), self.layers[module])):
                self.flow.spoil(module)
            value = self.create_proxy('call_module', name, args, kwargs)
            if module in self.layers and is_conv(module):
                self.outputs.append((weakref.ref(value), module))
            return value
        if module not in self.opaque:
            known = len(self.problems)
            values, errors = self._run_all_ways(forward, args, kwargs)
            if len(self.problems) == known:
                for error in {type(error): error for error in errors}.values():
                    if not self.ways[-1].decide():  # a branch of the caller, which may catch it
                        raise error
                if not values:
                    raise errors[0]
                with contextlib.suppress(_DifferentError):
                    return self._either(values)
                self.problems.append('what it returns has another form on another branch')
            self.opaque[module] = self.problems[known]
            del self.problems[known:]  # not those of the module around this one
        return self.create_proxy('call_module', name, args, kwargs)

    def _run_all_ways(self, forward, args, kwargs):
        """Run a module on all of its branches; return the results and the errors that it raises itself."""
        values, errors, known = [], [], len(self.problems)
        self.ways.append(_Ways())
        while len(self.problems) == known:
            self.calls += 1
            if self.calls > MAX_CALLS or self.ways[-1].count > MAX_WAYS:
                self.problems.append('there are very many ways through it')
                break
            try:
                values.append(forward(*args, **kwargs))
            except Exception as error:
                if len(self.problems) == known and _is_raised(error):
                    errors.append(error)
                else:
                    self.problems.append(f'{type(error).__name__}: {error}')
            if not self.ways[-1].go_on():
                break
        self.ways.pop()
        return values, errors

    def _either(self, values):
        """Return what stands for all results of a module."""
        first, *others = values
        if all(type(value) is type(first) for value in others):
            if all(value is first for value in others):
                return first
            if type(first) in (tuple, list) and len({*map(len, values)}) == 1:
                return type(first)(self._either(parts) for parts in zip(*values))
            if type(first) is dict and all(value.keys() == first.keys() for value in others):
                return {key: self._either([value[key] for value in values]) for key in first}
            if type(first) in (bool, int, float, str) and all(value == first for value in others):
                return first
        if all(issubclass(type(value), Value) for value in values):
            return self.create_proxy('call_function', _either_of, tuple(values), {})
        raise _DifferentError
