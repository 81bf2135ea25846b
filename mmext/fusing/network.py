"""Folding of batch normalisation into the convolutions of a whole network.

``mmcv.cnn.fuse_conv_bn`` takes a norm for the partner of the convolution that is declared before it, whatever runs.
Here a norm is folded where it is shown to take a convolution's output and to be the only one that does.
"""

import copy
import itertools
import warnings
from collections import Counter

import torch
from mmcv.cnn import ConvModule
from mmengine.model import is_model_wrapper
from torch import nn
from torch.nn.parameter import is_lazy

from .example import compare, record, run
from .flow import Flow
from .folding import HOOKS, fold, is_conv, is_norm, is_whole, layers_of, why_not
from .products import FoldedNorm, FusedConvModule
from .tracing import study

__all__ = ['fuse']

SHOWN_AT_MOST = 8  # names in a message
REASONS, LENGTH = 3, 200  # in a message, and letters of one


def fuse(model, example=None, pack=False):
    """Fold batch normalisation layers into the convolutions before them; return a copy in evaluation mode.

    ``fuse(model)`` is enough for what ``torch.fx`` can trace: networks of torchvision, most backbones of the toolboxes.
    For others, such as most whole models of the toolboxes, give an ``example`` to run the model on:

    - classifiers, segmentors, recognizers and backbones: images, ``fuse(model, example=images)``;
    - detectors: ``fuse(model, example=model.data_preprocessor(batch, False))`` with a batch of the data loader, which
      has the data samples that detectors of two stages need.

    A norm is folded where it is shown that the convolution's output goes to this norm and to nothing else, and that
    this norm takes nothing else. It is shown by a symbolic trace (``torch.fx``) of the model on all of its branches, or
    by a run on the example. Where another order runs (norms before convolutions, a sum or an activation between the
    two, an output that is used twice, a weight that is read elsewhere), convolution and norm stay as they are. The
    results are the same but for rounding. Norms behind linear layers and transposed convolutions are not folded.

    A trace has no true answer where a ``forward`` asks for the type of its input (``type(x)``, ``isinstance``), for
    identity (``x.dtype is torch.float32``), for what is in a set or dict, for random numbers, or for how it is run
    (``torch.is_inference_mode_enabled()``, ``torch.jit.is_tracing()``): this needs an example. Not recognised are such
    questions in C extensions or under other names (``kind = type``), methods other than ``forward``, and attributes
    that are changed after folding. A ``forward`` that depends on what folding changes, such as the bias of a
    convolution, is recognised by a trace of the copy. A norm that would also take the output of a convolution without
    batch dimension, and norm it along another axis (``nn.BatchNorm1d``, ``nn.SyncBatchNorm``), leaves a check of the
    number of dimensions, an AssertionError.

    The copy is in evaluation mode and frozen: no parameter requires a gradient. ``copy``, ``pickle``, ``to`` and
    ``state_dict`` work as with any module; its state dict has no entries of folded norms and a bias for each of their
    convolutions, and to load one of the model itself into it raises a RuntimeError. It cannot be trained on:
    ``train()`` only changes what is left, such as dropout and norms that are not folded. Recomputation of activations
    (``with_cp`` of the toolboxes' blocks) is turned off.

    A class of modules may bring a form of its own for inference: a method ``fused()`` without arguments that returns a
    new module, which takes the place of the old one with the same results. It is called on a copy in evaluation mode,
    of the outermost module that has it; what is inside is not looked at.

    Args:
        model (nn.Module): Any model, whose norms have the statistics to use. It is not changed.
        example (Any, optional): What to run the model on, once: its only argument, a tuple of its arguments, or a dict
            of its keyword arguments. It shows what runs on it, so it is not for a model whose order depends on its
            input in a way that cannot be traced. Where it is given, outputs are compared with those of ``model``.
            Default: None.
        pack (bool): Whether inflated ResNets in it become :class:`~mmext.models.packed_resnet.PackedInflatedResNet`,
            which is faster on the CPU and does inference only: no hooks on its parts, no state dict, no other device.
            A class of modules takes part with a method ``packed()`` as ``fused()``. Default: False.

    Returns:
        nn.Module: The copy.

    Raises:
        TypeError: If ``model`` is no module, or a wrapper such as ``DistributedDataParallel``, a compiled or scripted
            module, or ``fused()`` returns no module.
        ValueError: If the model has no convolution that a batch normalisation follows; if it cannot be told in which
            order some of them run, which needs an example; or if the model cannot be run on the example. The message
            names them. With ``pack=True``, if it has no inflated ResNet, or one that cannot be packed.
        RuntimeError: If a trace of the copy shows other operations than one of ``model``, or if outputs differ from
            those of ``model`` on the example by more than rounding.

    Warns:
        UserWarning: Names convolutions and norms that follow one another but are left as they are: pruned or
            parametrised ones, with hooks, with a ``forward`` of their own, or not run on the example.

    Examples:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        >>> fuse(model)
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
          (1): FoldedNorm()
          (2): ReLU()
        )
    """
    _check(model)
    fused = _copied(model)
    shown, uncertain, guarded, graphs = _traced(model, fused)
    seen, expected = (Flow(), None) if example is None else _recorded(model, fused, example)
    shown.update(seen)
    pairs, others = _pairs(fused, shown, seen, uncertain)
    names = {module: name for name, module in fused.named_modules()}

    left, unknown, folded = [], [], []
    for conv, norm in pairs:
        reason = why_not(conv, norm) or fold(conv, norm)
        left += [(conv, norm, reason)] if reason else []
        folded += [] if reason else [conv]
    for conv, norm in others:
        reason = why_not(conv, norm)
        if reason or example is not None:
            left.append((conv, norm, reason or 'does not run on the example'))
        else:
            unknown.append((conv, norm, uncertain.get(conv) or uncertain[norm]))
    if unknown:
        raise ValueError(_unknown(type(model).__name__, unknown, names))
    fused.requires_grad_(False)
    if folded:
        _check_order(graphs, _traced(fused, fused)[-1])
    fused, replaced = _replace_wholes(fused, 'fused', is_whole)
    kind, reasons = type(model).__name__, f': {_listed(left, names)}' if left else ''
    if not folded and not replaced and (left or not _declared(fused)):
        raise ValueError(
            f'{kind} has no convolution that a batch normalisation follows; give a model that has, which has not been '
            f'fused before{" (left as they are" + reasons + ")" if left else ""}'
        )
    if left:
        warnings.warn(f'mmext.fuse leaves these as they are{reasons}', stacklevel=2)
    elif not folded and not replaced:
        warnings.warn(
            f'mmext.fuse folds nothing: no batch normalisation of {kind} takes the output of a convolution alone',
            stacklevel=2,
        )
    guarded += [module for module in fused.modules() if type(module) is ConvModule]
    for module in guarded:
        if module.conv in folded and module.with_norm and isinstance(module.norm, FoldedNorm):
            module.__class__ = FusedConvModule
    fused.requires_grad_(False)
    if pack:
        fused, replaced = _replace_wholes(
            fused, 'packed', lambda module: callable(getattr(type(module), 'packed', None))
        )
        if not replaced:
            raise ValueError(f'{kind} has no part to pack, such as InflatedResNet; fuse it without pack=True')
    if example is not None:
        compare(expected, run(copy.deepcopy(fused), example))
    return fused


def _check(model):
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        raise TypeError(f'model is of type {kind}; give an nn.Module')
    if is_model_wrapper(model) or isinstance(model, nn.DataParallel):
        raise TypeError(f'model is a {kind}, which wraps a model; give the model inside, model.module')
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f'model is a {kind}; fuse the model before it is scripted or traced')
    if hasattr(model, '_orig_mod'):
        raise TypeError(f'model is of type {kind}, made by torch.compile; fuse the model before it is compiled')


def _copied(model):
    """Return a copy in evaluation mode that recomputes no activations."""
    memo = {}
    for name, module in model.named_modules():
        if any(map(is_lazy, (*module.parameters(recurse=False), *module.buffers(recurse=False)))):
            raise ValueError(f'{name} ({type(module).__name__}) is not initialised; run the model once first')
        for value in vars(module).values():  # such as a pruned weight, which PyTorch does not copy
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    model = copy.deepcopy(model, memo)
    model.eval()
    for module in model.modules():
        if vars(module).get('with_cp') is True:
            module.with_cp = False  # what is frozen needs no activations
    return model


def _traced(model, fused):
    """Return what a trace shows in terms of ``fused``: the flow, what is uncertain or needs a guard, and graphs."""
    copied = _copied(model)
    for module in copied.modules():  # the older ones search for a tensor in what a module returns, in a trace for ever
        for hooks in filter(lambda name: 'backward' in name, HOOKS):
            getattr(module, hooks).clear()
        module._is_full_backward_hook = None
    twins = dict(zip(copied.modules(), fused.modules()))  # before tracing, which may register modules
    flow, uncertain, guarded, graphs = Flow(), {}, [], []
    if not is_whole(copied):
        study(copied, flow, uncertain, guarded, graphs)
    uncertain = {twins[module]: reason for module, reason in uncertain.items() if module in twins}
    return flow.renamed(twins), uncertain, [twins[module] for module in guarded], graphs


def _check_order(before, after):
    """Check that a trace of a network and of that with norms folded show the same order."""
    if before == after:
        return
    pairs = itertools.zip_longest(before, after)
    kind = next((one or other)[0] for one, other in pairs if one != other)
    raise RuntimeError(
        f'with norms folded, {kind} runs other operations: its forward depends on what folding changes, such as the '
        'bias of a convolution or the type of a norm; leave this model as it is'
    )


def _unknown(kind, pairs, names):
    reasons = list(dict.fromkeys(' '.join(reason.split())[:LENGTH] for *_, reason in pairs))
    more = f'; and {len(reasons) - REASONS} more reasons' if len(reasons) > REASONS else ''
    titles = [f'{names[conv]} -> {names[norm]}' for conv, norm, _ in pairs]
    return (
        f'give an example to run {kind} on: mmext.fuse(model, example=...), such as images, or of a detector '
        'model.data_preprocessor(batch, False). Without it, it cannot be told whether a norm takes the output of the '
        f'convolution before it, and nothing else ({"; ".join(reasons[:REASONS])}{more}). '
        f'Concerned: {_some(titles)}'
    )


def _recorded(model, fused, example):
    """Return what a run shows in terms of ``fused``, and the outputs."""
    copied = _copied(model)
    twins = dict(zip(copied.modules(), fused.modules()))
    flow = Flow()
    expected = record(copied, example, flow)
    return flow.renamed(twins), expected


def _pairs(model, shown, seen, uncertain):
    """Return the pairs that are shown, and those that are declared of which it is not known how they run."""
    pairs, others = [], []
    layers = set(layers_of(model))
    for conv in filter(is_conv, layers_of(model)):
        norm = shown.partner(conv)
        if norm is not None and (seen.partner(conv) is norm or not {conv, norm} & set(uncertain)):
            pairs.append((conv, norm))
    for conv, norm in _declared(model):
        known = not {conv, norm} & set(uncertain) or seen.consumers.get(conv) or seen.producers.get(norm)
        denied = (shown.consumers.get(conv) or shown.producers.get(norm)) and shown.partner(conv) is not norm
        if not layers.issuperset((conv, norm)) or not (known or denied):
            others.append((conv, norm))
    return pairs, others


def _declared(model):
    """Return each convolution and norm that are declared one after the other, unless either is in several places."""
    layers = set(layers_of(model, forward_known=False))
    found = {}
    for parent in model.modules():
        children = [child for name, child in parent.named_modules(remove_duplicate=False) if name and '.' not in name]
        found.update(dict.fromkeys(pair for pair in itertools.pairwise(children) if layers.issuperset(pair)))
    found = [(conv, norm) for conv, norm in found if is_conv(conv) and is_norm(norm)]
    counts = Counter(itertools.chain(*found))
    return [(conv, norm) for conv, norm in found if counts[conv] == counts[norm] == 1]


def _replace_wholes(model, method, chosen):
    """Put the forms that modules bring in their places; return the model and whether any does."""
    if chosen(model):
        return _form(model, method), True
    forms, places = {}, []
    for name, module in model.named_modules(remove_duplicate=False):
        if chosen(module) and not any(name.startswith(f'{outer}.') for outer, _ in places):
            places.append((name, module))
            if module not in forms:
                forms[module] = _form(module, method)
    for name, module in places:
        parent, _, child = name.rpartition('.')
        setattr(model.get_submodule(parent), child, forms[module])
    return model, bool(forms)


def _form(module, method):
    form = getattr(module, method)()
    if not isinstance(form, nn.Module):
        raise TypeError(f'{type(module).__name__}.{method}() returns a {type(form).__name__}; it must be an nn.Module')
    form.eval()
    return form


def _listed(pairs, names):
    return _some([f'{names[conv]} -> {names[norm]} ({reason})' for conv, norm, reason in pairs])


def _some(titles):
    more = len(titles) - SHOWN_AT_MOST
    return ', '.join(titles[:SHOWN_AT_MOST]) + (f' and {more} more' if more > 0 else '')
