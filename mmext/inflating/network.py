"""Inflation of whole networks."""

import copy
import difflib
import fnmatch
import re
import warnings
from collections import Counter

import torch
from torch import fx, nn

from .checking import check, check_tracing
from .hooks import check_hooks, refuse_non_full_hooks
from .probing import record_shapes
from .rewriting import Rewriter
from .rules import Rules, shown
from .tracing import trace

__all__ = ['inflate']


def inflate(model, rules=None, image_size=224):
    """Turn a 2D network, for images [N, C, H, W], into one for clips [N, C, T, H, W].

    The network is traced by ``torch.fx`` and written anew: its layers are inflated by :mod:`mmext.ops.inflate`, its
    functions get the time axis where they need it. On a static clip the new network gives what the given one gives for
    the image, unless a rule asks for a kernel that does not keep it (see :func:`mmext.ops.inflate.inflate_conv`).

    Without rules, every kernel is one frame wide and pooling is within frames only. Adaptive pooling, means and maxima
    over height and width (at once, or one after the other), average pooling whose only window is the whole map, and
    maximum pooling whose window is computed from the shape of the map are over time as well; from there on tensors have
    no time axis, and layers stay as they are. Other functions over a whole picture, such as sums, are refused. Where
    nothing pools over time, results are those of every frame: time is then axis 2 of maps, [N, C, T, H, W], and axis 1
    of vectors, [N, T, classes]. Involutions, inception convolutions, transposed convolutions and convolutions with
    another padding than zeros run on every frame. Group and instance normalisation, and batch normalisation in
    training, take their statistics over all frames of a clip.

    Every call of a function is bound by the function's signature; what is not known for clips (a function, an argument)
    is an error that names it. Before the network is returned, every function is run on random values beside the 2D
    one, and the traced network beside ``model``; a difference is an error, too.

    Args:
        model (nn.Module): A network that ``torch.fx`` can trace: its conditions may depend on shapes, not on values.
            Its ``forward`` takes an image, and may have further arguments with defaults. It is not changed, nothing is
            shared with it.
        rules (dict, optional): What to do with some parts, by the name of a module (or a pattern such as
            ``'layer*.conv2'``, where ``*`` stands for dots as well), by a type of module, or by a function such as
            ``torch.nn.functional.adaptive_avg_pool2d`` or ``torch.Tensor.mean``. Exact names come before patterns,
            patterns before types, else the first one counts. Types may name nothing. Values are

            - a dict of options for convolutions and pools (``temporal_kernel``, ``temporal_stride``, ``mode`` and the
              others of :func:`~mmext.ops.inflate.inflate_conv` and :func:`~mmext.ops.inflate.inflate_pool`) and for
              linear layers (``frames``, which ends time there). Patterns and types pass over layers without these
              options. Convolutions without ``temporal_kernel`` have one tap along time.
            - 'frames': it runs as it is on every frame (functions: this value only).
            - a function that takes the module and returns the one to use in its place, for clips [N, C, T, H, W].

            Default: None, no rules.
        image_size (int or tuple): Height and width in pixels of the images that the 2D network is run on once, to see
            the shapes within: one number, (height, width) or (channels, height, width). The channels are else those of
            the first convolution. Clips may have other sizes, as far as the 2D network's images may; where its code
            branches on shapes, the branch of these images is taken, and a clip that needs another one is an error.
            Default: 224.

    Returns:
        fx.GraphModule: The network for clips. Names in its state dict are those of the 2D network (parts that
        ``forward`` does not use are left out), and so are modes, ``requires_grad``, dtype and device. What the
        network's own Python code did is fixed: the functional forms of dropout keep the mode that ``model`` is in, a
        ``train`` of its own (frozen stages) is gone. Weights that layers share stay shared. Only layers are called, and
        containers just hold them, without an order to index: register hooks on layers, such as
        ``network.get_submodule('layer4.1.relu')``. Hooks of containers and of replaced layers are lost, with a
        ``UserWarning`` that names them; those of parameters as ``copy.deepcopy`` loses them.

    Raises:
        TypeError: If ``model`` is no module, or ``rules`` is not as above.
        ValueError: If the network cannot be copied or traced, or does not run at ``image_size``; if something in it
            cannot be inflated: all such places are listed, each with the rule to add; if tracing changes what it
            computes, or a hook does on a layer that is replaced; if a module has a hook of ``register_backward_hook``;
            if a rule has an option that is unknown or out of range, or names nothing that sees time (types may).

    Examples:
        >>> model = torchvision.models.resnet18()
        >>> rules = {'conv1': dict(temporal_kernel=3), 'layer*.conv2': dict(temporal_kernel=3)}
        >>> network = mmext.inflate(model, rules)
        >>> network(torch.rand(1, 3, 8, 96, 96)).shape
        torch.Size([1, 1000])
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f'model={model!r} is a {type(model).__name__}; mmext.inflate takes an nn.Module')
    rules = Rules(rules)
    refuse_non_full_hooks(model)
    names = dict(model.named_modules())
    for name, module in names.items():
        rules.of_module(name, module)  # mistakes in rules are no mistakes of tracing
    try:
        model = copy.deepcopy(model)
    except RuntimeError as error:  # weights that are computed from others
        raise ValueError(
            f'{type(model).__name__} cannot be copied ({str(error).partition(".")[0]}); make weight normalisation or '
            'pruning permanent first (torch.nn.utils.remove_weight_norm, torch.nn.utils.prune.remove)'
        ) from error
    network = trace(model, rules, image_size)
    record_shapes(network, image_size, model)
    rewriter = Rewriter(network, rules)
    rewriter.run()
    if not rewriter.problems:
        check_hooks(network, rewriter, image_size, model)
        check_tracing(network, rewriter, image_size, model)
        check(network, rewriter, image_size, model)
    kind = type(model).__name__
    if rewriter.problems:
        places = ''.join(f'\n  {problem}' for problem in rewriter.problems.values())
        raise ValueError(
            f'{len(rewriter.problems)} part{"s" * (len(rewriter.problems) > 1)} of {kind} cannot be inflated:{places}'
            f'{_patterns(rewriter.concerned, names)}'
        )
    _check_use(rules, names, kind, {node.target for node in network.graph.nodes if node.op == 'call_module'})
    for name, module in rewriter.replaced.items():
        parent, _, child = name.rpartition('.')
        setattr(network.get_submodule(parent), child, module)
    inflated = fx.GraphModule(network, rewriter.graph, class_name=f'Inflated{kind}')
    _restore(inflated, model)
    _tie(inflated, model)
    return inflated


def _patterns(concerned, names):
    """Return rules by pattern that name several of the modules concerned, and no others, as a line of a message."""
    counts = Counter(re.sub(r'\d+', '*', name) for name in concerned)
    patterns = [pattern for pattern, count in counts.items() if count > 1]
    fit = [f"{pattern!r}: 'frames'" for pattern in patterns if set(fnmatch.filter(names, pattern)) <= set(concerned)]
    return f'\n  by patterns, several at once: rules={{{", ".join(fit)}}}' if fit else ''


def _check_use(rules, names, kind, called):
    """Raise if a rule by name, pattern or function has not been applied, and say why."""
    unused = rules.unused()
    if not unused:
        return
    key = unused[0]
    known = ([key] if key in names else fnmatch.filter(names, key)) if isinstance(key, str) else []
    reached = [name for name in known if name in called]
    first = f'{reached[0]!r} exists, but ' if reached else ''
    if not known:
        close = difflib.get_close_matches(key, names, n=1) if isinstance(key, str) else []
        hint = f'did you mean {close[0]!r}? ' if close else ''
        why = f'{hint}names are those of model.named_modules()'
    elif not reached:
        why = (
            f'{known[0]!r} exists, but forward does not call it, or only within a module that has a rule; leave it out'
        )
    elif any((rules.of_module(name, names[name]) or [None])[0] == key for name in reached):
        why = (
            f"{first}time has been pooled away before it; leave this rule out, or keep time by the rule 'frames' for "
            'what pools it'
        )
    elif any(rules.of_module(name, names[name]) for name in reached):
        why = f'{first}a rule that comes first names it as well; leave one of them out'
    else:
        why = f'{reached[0]!r} is a {type(names[reached[0]]).__name__}, which does not; leave this rule out'
    shown_keys = ', '.join(map(shown, unused if not known else [key]))
    raise ValueError(f'rules: {shown_keys} names nothing in {kind} that sees time and takes these options: {why}')


def _restore(inflated, model):
    """Give the containers their modes, and leave out of the state dict what was not in it."""
    for name, module in inflated.named_modules():
        try:
            original = model.get_submodule(name)
        except AttributeError:
            continue  # inside of what a rule has made
        module.training = original.training
        for buffer in module._buffers:
            known = buffer in original._buffers and buffer not in original._non_persistent_buffers_set
            if type(module) in (nn.Module, type(inflated)) and not known:
                module._non_persistent_buffers_set.add(buffer)


def _tie(inflated, model):
    """Share the weights of several layers as the 2D network does."""
    shared = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        shared.setdefault(parameter, []).append(name)
    present = dict(inflated.named_parameters(remove_duplicate=False))
    for names in shared.values():
        names = [name for name in names if name in present]
        for name in names[1:]:
            first, other = present[names[0]], present[name]
            if other is first:
                continue
            if other.shape == first.shape and (other.is_meta or torch.equal(other, first)):
                owner, _, attribute = name.rpartition('.')
                setattr(inflated.get_submodule(owner), attribute, first)
            else:
                warnings.warn(
                    f'{names[0]!r} and {name!r} are one parameter in 2D and two in the inflated network, where their '
                    'kernels differ; give both layers the same rule to keep them one',
                    stacklevel=3,
                )
