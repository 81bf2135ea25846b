"""What a symbolic trace shows of the order in which a network runs, on all of its branches."""

import dis
import gc
import inspect
import itertools
import weakref

import torch
from mmcv.cnn import ConvModule
from torch import fx, nn

from mmext.ops import inception_conv2d, involution

from .conv_module import FusedConvModule
from .flow import HARMLESS, Reads, owners_of
from .folding import is_conv, is_norm, is_whole, layers_of
from .values import Value

__all__ = ['study']

MAX_RUNS = 64  # traces of one network: branches, ways to call it
MAX_BRANCHES = 100  # on one way through it, else it is taken for a loop without end


def study(root, flow, uncertain, guarded):
    """Trace a network on all of its branches and note where outputs go.

    Args:
        root (nn.Module): The network, in evaluation mode. Tracing may change what it stores, other than parameters.
        flow (Flow): Gets what is seen.
        uncertain (dict[nn.Module, str]): Gets the modules of which not everything is seen, and why.
        guarded (list[nn.Module]): Gets the modules for which that holds only as :class:`FusedConvModule`.
    """
    if type(root) is ConvModule:
        guarded.append(root)
        root.__class__ = FusedConvModule
    for module, reason in _all_ways(root, flow).items():
        if isinstance(module, fx.GraphModule):  # its graph is there, although what the graph calls cannot be traced
            _read(module.graph, module, layers_of(module), flow)
            called = {module.get_submodule(node.target) for node in module.graph.nodes if node.op == 'call_module'}
        elif type(module).__module__.startswith('mmext.'):  # runs its parts as wholes, which we know of our own
            called = set(_parts(module))
            uncertain.update((part, reason) for part in called if is_conv(part) or is_norm(part))
        else:
            uncertain.update((part, reason) for part in module.modules())
            continue
        for part in called:
            if part is not module and _has_pairs(part):
                study(part, flow, uncertain, guarded)


def _parts(module):
    for child in module.children():
        if type(child).forward in (nn.ModuleList.forward, nn.ModuleDict.forward):  # is a list, and does not run
            yield from _parts(child)
        else:
            yield child


def _has_pairs(module):
    layers = layers_of(module)
    return any(map(is_conv, layers)) and any(map(is_norm, layers))


def _all_ways(root, flow):
    """Trace a network in every way; return the modules that could not be traced, and why."""
    opaque = {}
    runs = 0
    ways = list(_ways_to_call(root))
    if not ways:
        return {root: f'{type(root).__name__}.forward takes any number of arguments, or very many'}
    finished = False
    for call, enabled in itertools.product(ways, (False, True)):
        branches = []
        while root not in opaque:
            runs += 1
            if runs > MAX_RUNS:
                return {root: f'there are more than {MAX_RUNS} ways through it'}
            with torch.set_grad_enabled(enabled):
                error = _one_way(call, flow, opaque, branches)
            finished = finished or error is None
            while branches and not branches[-1]:
                branches.pop()
            if not branches:
                break
            branches[-1] = False
    if not finished and root not in opaque:
        return {root: error}
    return opaque


class _Call(nn.Module):
    """A call of a network with some arguments that are to be traced, by position or name, and fixed ones."""

    def __init__(self, module, positions, names, fixed):
        super().__init__()
        self.module = module
        self.positions = positions
        self.names = names
        self.fixed = fixed

    def forward(self, inputs):
        args = [inputs[position] for position in range(self.positions)]
        return self.module(*args, **{name: inputs[name] for name in self.names}, **self.fixed)


def _ways_to_call(module):
    """Yield the calls of a module: both values of a bool, an argument with a default left out and given."""
    positions, optional = 0, []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind == parameter.VAR_POSITIONAL:
            return
        if parameter.kind == parameter.VAR_KEYWORD:
            continue
        if parameter.default is not parameter.empty:
            values = (False, True) if isinstance(parameter.default, bool) else (parameter.default, _GIVEN)
            optional.append([(parameter.name, value) for value in values])
        elif parameter.kind == parameter.KEYWORD_ONLY:
            optional.append([(parameter.name, _GIVEN)])
        else:
            positions += 1
    if 2 ** len(optional) > MAX_RUNS // 2:
        return
    for choice in itertools.product(*optional):
        names = [name for name, value in choice if value is _GIVEN]
        yield _Call(module, positions, names, {name: value for name, value in choice if value is not _GIVEN})


_GIVEN = object()


def _one_way(call, flow, opaque, branches):
    """Trace one way through a network and read the graph; return the error in which the way ends, or None."""
    layers = layers_of(call)
    tracer = _Tracer(opaque, branches, set(layers))
    try:
        with Reads(flow, owners_of(layers)):
            graph = tracer.trace(call)
    except Exception as error:
        problem = f'{type(error).__name__}: {error}'
        if not _is_raised(error):  # what the network returns is nothing that can be in a graph
            opaque[call.module] = problem
        return problem
    finally:
        branches[:] = tracer.branches
    _read(graph, call, layers, flow)
    if any(value() is not None for value, _ in tracer.outputs):
        gc.collect()
    for value, conv in tracer.outputs:
        if value() is not None:  # something kept it: an attribute, a list, a hook
            flow.spoil(conv)
    return None


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


class _Tracer(fx.Tracer):
    """Traces a network on one of its branches; what cannot be traced becomes a call in the graph.

    Args:
        opaque (dict[nn.Module, str]): Gets the modules that cannot be traced, and why.
        branches (list[bool]): What to decide where a value decides; True beyond.
        layers (set[nn.Module]): The convolutions and norms.
    """

    def __init__(self, opaque, branches, layers):
        super().__init__(autowrap_functions=(inception_conv2d, involution))
        self.proxy_buffer_attributes = True
        self.opaque = opaque
        self.layers = layers
        self.given = list(branches)
        self.branches = []
        self.problems = []
        self.outputs = []  # of convolutions

    def give_up(self, reason):
        """End the trace of the module that is running, whether or not it catches the error."""
        self.problems.append(reason)
        raise fx.proxy.TraceError(reason)

    def proxy(self, node):
        return Value(node, self)

    def to_bool(self, obj):
        number = len(self.branches)
        if number >= MAX_BRANCHES:
            self.give_up(f'values decide more than {MAX_BRANCHES} times what runs')
        self.branches.append(self.given[number] if number < len(self.given) else True)
        return bool(self.branches[-1])

    def iter(self, obj):
        self.give_up('the length of a value decides what runs')

    def keys(self, obj):
        self.give_up('the keys of a value decide what runs')

    def is_leaf_module(self, module, name):
        return module in self.layers or is_whole(module) or super().is_leaf_module(module, name)

    def call_module(self, module, forward, args, kwargs):
        name = self.path_of_module(module)
        if self.is_leaf_module(module, name):
            if module not in self.layers and not is_whole(module) and _has_pairs(module):
                self.opaque[module] = f'{type(module).__name__} is a module of PyTorch'
            value = self.create_proxy('call_module', name, args, kwargs)
            if is_conv(module):
                self.outputs.append((weakref.ref(value), module))
            return value
        if module not in self.opaque:
            problems, start = len(self.problems), len(self.branches)
            try:
                value = forward(*args, **kwargs)
                if len(self.problems) == problems:
                    return value
            except Exception as error:
                if len(self.problems) == problems:
                    if _is_raised(error):
                        raise
                    self.problems.append(f'{type(error).__name__}: {error}')
            self.opaque[module] = self.problems[problems]
            # from now on it is a call, in which nothing is decided
            del self.branches[start:], self.given[start:]
        return self.create_proxy('call_module', name, args, kwargs)


def _read(graph, root, layers, flow):
    """Note what a graph shows of some convolutions and norms."""
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
