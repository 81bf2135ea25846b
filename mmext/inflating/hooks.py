"""Hooks of modules: which ones an inflated network loses, and whether they change what the 2D network gives."""

import copy
import warnings

import torch
from torch.nn.modules import module as registry

from .checking import equal, random_images
from .probing import devices
from .tracing import trace

__all__ = ['check_hooks', 'refuse_non_full_hooks']

FORWARD = ('_forward_pre_hooks', '_forward_hooks')
BACKWARD = ('_backward_pre_hooks', '_backward_hooks')


def refuse_non_full_hooks(model):
    """Raise if a module has a backward hook of the old kind, which never ends while ``torch.fx`` traces.

    Args:
        model (nn.Module): The 2D network.

    Raises:
        ValueError: If there is one.
    """
    found = [
        f'{name!r} ({type(module).__name__})' if name else type(module).__name__
        for name, module in model.named_modules()
        if module._backward_hooks and module._is_full_backward_hook is False
    ]
    if registry._global_backward_hooks and registry._global_is_full_backward_hook is False:
        found.append('all modules (torch.nn.modules.module.register_module_backward_hook)')
    if found:
        raise ValueError(
            f'{", ".join(found)} has a hook of register_backward_hook, which torch.fx cannot trace; remove the hook '
            'or use register_full_backward_hook'
        )


def check_hooks(network, rewriter, image_size, model):
    """Warn about hooks that the inflated network does not call; raise if it is another network without them.

    Layers that are replaced and containers lose their hooks. Those of layers and of the whole network are run here,
    with and without, in the mode of ``model`` and in evaluation mode: what follows a layer, such as a batch
    normalisation in training, may hide a difference. What the hooks of containers do to tensors is traced, which is
    compared in evaluation mode, too.

    Args:
        network (fx.GraphModule): The traced network.
        rewriter (Rewriter): What has rewritten it.
        image_size (int or tuple): As of :func:`mmext.inflate`.
        model (nn.Module): What was traced.

    Raises:
        ValueError: If a hook that is lost changes what its module gives.
    """
    called = {node.target for node in network.graph.nodes if node.op == 'call_module'}
    kept = called - rewriter.inflated  # a rule's function gets the hooks with the module
    lost, layers, containers = [], [], []
    for name, module in model.named_modules():
        above = name.split('.')
        if any('.'.join(above[: count + 1]) in kept for count in range(len(above))):
            continue
        if any(getattr(module, hooks) for hooks in FORWARD + BACKWARD):
            lost.append(name)
        if any(getattr(module, hooks) for hooks in FORWARD):
            (layers if not name or name in called else containers).append(name)
    example = random_images(network, image_size, model)
    changing = []
    if not example.is_meta:
        changing = _changing(layers, example, model) if layers else []
        if not changing and containers and not _traced_as_evaluated(rewriter.rules, image_size, example, model):
            changing = containers
    if changing:
        raise ValueError(
            f'{_shown(changing, model)}: a hook changes what it gives, and is lost when it is inflated; remove the '
            "hook, or put what it does into a module of its own and give that one the rule 'frames'"
        )
    if lost:
        warnings.warn(
            f'the hooks of {_shown(lost, model)} are lost: the inflated network has other layers in their place and '
            'calls no containers (what their hooks did to tensors is traced); register hooks on the layers of the '
            'result',
            stacklevel=3,
        )


def _traced_as_evaluated(rules, image_size, example, model):
    """Say whether the network in evaluation mode gives the same when it is traced."""
    evaluated = copy.deepcopy(model).eval()
    results = []
    for network in (trace(evaluated, rules, image_size), evaluated, evaluated):
        with torch.no_grad(), torch.random.fork_rng(devices(model)):
            torch.manual_seed(0)
            results.append(copy.deepcopy(network)(example.clone()))
    return equal(*results[:2]) or not equal(*results[1:])


def _changing(names, example, model):
    """Return the names of those modules whose forward hooks change what they give."""
    changing = []

    def watch(name, module):
        bare = copy.deepcopy(module)
        for hooks in FORWARD:
            getattr(bare, hooks).clear()
        given = []

        def before(module, args, kwargs):
            given.append(copy.deepcopy((args, kwargs)))

        def after(module, args, kwargs, output):
            args, kwargs = given.pop()

            def alone():
                return copy.deepcopy(bare)(*copy.deepcopy(args), **copy.deepcopy(kwargs))

            expected = alone()
            if not equal(output, expected) and equal(alone(), expected):  # the same each time, but not this
                changing.append(name)

        module.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
        module.register_forward_hook(after, with_kwargs=True)

    for training in (model.training, False):
        watched = copy.deepcopy(model)
        if not training:
            watched.eval()
        for name in names:
            watch(name, watched.get_submodule(name))
        with torch.no_grad(), torch.random.fork_rng(devices(model)):
            watched(example.clone())
    return list(dict.fromkeys(changing))


def _shown(names, model):
    return ', '.join(repr(name) if name else f'{type(model).__name__} itself' for name in names)
