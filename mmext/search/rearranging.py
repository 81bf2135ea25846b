"""The weights of a trained supernet in a searched network, whose filters of one dilation stand together."""

import itertools

import torch
from torch import fx, nn
from torch.nn import functional as F

from mmext.patterns import Pattern, PatternError

from .choice import dilations, kept_taps

__all__ = ['consumers', 'rearranged']

# what treats each channel by itself, and all in the same way
CHANNEL_WISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Identity),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Upsample),
)
FUNCTIONS = (F.relu, F.relu_, torch.relu, F.relu6, F.leaky_relu, F.silu, F.gelu, F.hardswish, torch.sigmoid, torch.tanh)
NORMS = nn.BatchNorm2d, nn.SyncBatchNorm


def rearranged(model, names, pattern, orders, weights, source):
    """Take the weights of a trained supernet over, so that the outputs are those of the supernet with masked kernels.

    The filters of a layer are permuted where tracing shows that their channels go through norms and activations to
    convolutions alone: these are permuted, too. In any other layer, such as one whose output is added to another, each
    filter stays in its place, in a run for each change of the dilation.

    Args:
        model (nn.Module): The plain model.
        names (Sequence[str]): The layers that were searched.
        pattern (Pattern): What was found.
        orders (Sequence[Sequence[int]]): For each layer, the filter of the supernet that each output channel is.
        weights (dict[str, Tensor]): State dict of the supernet.
        source (str or Path): Its name, for messages.

    Returns:
        tuple[dict[str, Tensor], Pattern, list[str]]: State dict of the searched network, the pattern that goes with
        it, and the layers whose filters stay in their place.

    Raises:
        ValueError: If a weight is missing or of another shape, or the filters of a grouped convolution would have to
            stay in their place.
    """
    modules = dict(model.named_modules())
    found = _found(model, names)
    state, layers, kept = dict(weights), [], []
    for name, layer, order in zip(names, pattern, orders):
        conv = modules[name]
        taken = _taken(weights, name, conv, layer, order, source)
        if name in found:
            layers.append(layer)
        elif conv.groups > 1:
            raise PatternError(
                f'{name} is a grouped convolution, and it is not known what consumes its channels; train the searched '
                'network from scratch, without --reuse-weights'
            )
        else:
            taken, layer = _in_place(taken, layer, order)
            layers.append(layer)
            kept.append(name)
        state[f'{name}.weight'] = taken
    for name, order in zip(names, orders):
        if name in found:
            norms, convs = found[name]
            index = torch.tensor(order)
            own = [key for norm in norms for key in state if key.startswith(f'{norm}.') and state[key].ndim == 1]
            for key in (*own, f'{name}.bias'):
                if key in state:
                    state[key] = state[key][index]
            for conv in convs:
                state[f'{conv}.weight'] = state[f'{conv}.weight'][:, index]
    return state, Pattern(layers), kept


def _taken(weights, name, conv, layer, order, source):
    """Return the kept taps of each filter, in the order of the runs."""
    size, most = conv.kernel_size[0], 0
    weight = weights.get(f'{name}.weight')
    if weight is not None and weight.ndim == 4 and weight.shape[:2] == conv.weight.shape[:2]:
        most = (weight.shape[-1] - 1) // (size - 1)
    if most < max(max(run[:2]) for run in layer):
        raise PatternError(f'{source} has no {name}.weight of the supernet; give the checkpoint that was searched')
    taps = dict(zip(dilations(most), kept_taps(size, most)))
    taken, begin = [], 0
    for height, width, channels in layer:
        rows, columns = taps[height, width]
        filters = weight[list(order[begin : begin + channels])]
        taken.append(filters[:, :, torch.as_tensor(rows)][:, :, :, torch.as_tensor(columns)])
        begin += channels
    return torch.cat(taken)


def _in_place(taken, layer, order):
    """Undo the order of the runs: the filters of the supernet in their places, and their runs."""
    pairs = [pair for *pair, channels in layer for _ in range(channels)]
    places = sorted(range(len(order)), key=order.__getitem__)
    runs = [(*pair, len(list(same))) for pair, same in itertools.groupby(pairs[place] for place in places)]
    return taken[places], tuple(runs)


def _found(model, names):
    """Return the consumers of those layers that are known, of each part of the model that can be traced."""
    found = {}
    for part in dict.fromkeys(name.partition('.')[0] for name in names):
        known = consumers(getattr(model, part))
        full = {f'{part}.{name}': value for name, value in known.items()}
        for name in names:
            if name in full:
                found[name] = tuple([f'{part}.{inner}' for inner in group] for group in full[name])
    return found


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module, name):
        return isinstance(module, (nn.Conv2d, *CHANNEL_WISE, *NORMS)) or super().is_leaf_module(module, name)


def consumers(network):
    """Find what takes the channels of each convolution, where that is only norms, activations and convolutions.

    Args:
        network (nn.Module): A part of a model.

    Returns:
        dict[str, tuple[list[str], list[str]]]: Name of a convolution -> names of the norms of its output and of the
        convolutions that take it. Empty where ``torch.fx`` cannot trace the network.
    """
    training = network.training
    network.train(False)
    try:
        graph = _Tracer().trace(network)
    except Exception:  # whatever a forward makes of what stands in for a tensor
        return {}
    finally:
        network.train(training)
    modules = dict(network.named_modules(remove_duplicate=False))
    calls = {}
    for node in graph.nodes:
        if node.op == 'call_module':
            calls.setdefault(modules[node.target], []).append(node)
        elif node.op == 'get_attr':  # a weight that is read elsewhere
            calls.setdefault(modules.get(node.target.rpartition('.')[0]), []).append(node)
    found = {}
    for node in graph.nodes:
        if (
            node.op == 'call_module'
            and type(modules[node.target]) is nn.Conv2d
            and len(calls[modules[node.target]]) == 1
        ):
            result = _follow(node, modules, calls)
            if result is not None:
                found[node.target] = result
    return found


def _follow(node, modules, calls):
    norms, convs, pending = [], [], [node]
    while pending:
        current = pending.pop()
        if not current.users:
            return None
        for user in current.users:
            module = modules.get(user.target) if user.op == 'call_module' else None
            if user.op == 'call_function' and user.target in FUNCTIONS:
                pending.append(user)
            elif module is None or user.args != (current,) or user.kwargs:
                return None
            elif isinstance(module, CHANNEL_WISE):
                pending.append(user)
            elif isinstance(module, NORMS) and len(calls[module]) == 1:
                norms.append(user.target)
                pending.append(user)
            elif type(module) is nn.Conv2d and module.groups == 1 and len(calls[module]) == 1:
                convs.append(user.target)
            else:
                return None
    return norms, convs
