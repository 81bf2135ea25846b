"""The configs that the search writes: over a base, with other convolutions in some parts of its model."""

import os
import reprlib
import secrets
from pathlib import Path

import torch
from mmengine.config import Config

from mmext.convert.reading import read_checkpoint
from mmext.layers import SupernetConv2d
from mmext.models.exchanged_convs import exchange_convolutions
from mmext.patterns import load_pattern
from mmext.utils.configs import build_model, load_config
from mmext.utils.whole_files import write_whole

from .files import read_search
from .places import by_part, select
from .rearranging import rearranged

__all__ = ['write_searched', 'write_supernet']


def write_supernet(config, out, max_dilation, include=(), exclude=(), checkpoint=None):
    """Write the config of the supernet of a model.

    Source: "Inception Convolution with Efficient Dilation Search" (CVPR 2021), section 3.

    Args:
        config (str or Path): Config of any toolbox.
        out (str or Path): The new config, which inherits from it. A file that exists is left as it is.
        max_dilation (int): Largest dilation of the search in pixels; 4 and 6 in the published patterns.
        include (Sequence[str]): See :func:`mmext.search.places.select`. Default: ().
        exclude (Sequence[str]): See :func:`mmext.search.places.select`. Default: ().
        checkpoint (str, optional): Weights of the plain model to start from. Default: None.

    Returns:
        list[str]: The convolutions that are searched.

    Raises:
        ValueError: If the model cannot be built, has no such convolution, or ``max_dilation`` is out of its range.
        FileExistsError: If ``out`` exists.
        OSError: If a file cannot be read or written.
    """
    cfg, model = _loaded(config)
    names = select(model, include, exclude)
    layer = dict(type='mmext.SupernetConv2d', max_dilation=max_dilation)
    exchange_convolutions(model, names, {**layer, 'type': 'SupernetConv2d'})  # what is wrong is said now
    parts = {part: _exchanged(part, inner, layer) for part, inner in by_part(names).items()}
    title = f'Supernet for a dilation search up to {max_dilation} pixels, made by `mmext search supernet`'
    extra = '' if checkpoint is None else f'load_from = {checkpoint!r}  # of the plain model\n'
    _write(cfg, config, out, title, parts, extra)
    return names


def write_searched(config, pattern, out, checkpoint=None):
    """Write the config of a model with the dilations that a search found.

    A ResNet whose blocks are searched throughout becomes :class:`~mmext.models.ICResNet`, a ResNeXt
    :class:`~mmext.models.ICResNeXt`; any other network keeps its type and gets inception convolutions by name.

    Args:
        config (str or Path): Config of the plain model, the one that the supernet was made of.
        pattern (str or Path): What ``mmext search pattern`` wrote.
        out (str or Path): The new config. A file that exists is left as it is.
        checkpoint (str or Path, optional): Of the trained supernet, to start from its weights: they are written beside
            the config, with the suffix .pth, and the config loads them. Without it, the network is trained from
            scratch, as published. Default: None.

    Returns:
        tuple[str, list[str]]: The type of the backbone in the new config; and, with a checkpoint, the layers whose
        filters stand in the order of the supernet, in many runs, as it is not known what consumes their channels.

    Raises:
        ValueError: If the pattern was not written by a search or is of another network, or the model cannot be built.
        FileExistsError: If ``out`` exists.
        OSError: If a file cannot be read or written.
    """
    cfg, model = _loaded(config)
    if any(isinstance(module, SupernetConv2d) for module in model.modules()):
        raise ValueError(f'{config} is the config of a supernet; give that of the plain model, which it was made of')
    found = read_search(pattern)
    names, layers = found['names'], load_pattern(pattern)
    layer = dict(type='mmext.InceptionConv2d')
    try:
        exchange_convolutions(model, names, dict(type='InceptionConv2d'), layers)
    except ValueError as error:
        raise ValueError(f'{pattern} is the pattern of another network than {config}: {error}') from error
    parts, kept, extra = {}, [], ''
    relative = os.path.relpath(Path(pattern).resolve(), Path.cwd())
    if checkpoint is not None:
        weights = Path(out).with_suffix('.pth')
        if os.path.lexists(out) or os.path.lexists(weights):
            raise FileExistsError(f'{out} or {weights} exists and is left as it is; delete it or choose another name')
        plain = build_model(cfg)
        state, layers, kept = rearranged(plain, names, layers, found['orders'], read_checkpoint(checkpoint), checkpoint)
        extra = f'load_from = {os.path.relpath(weights.resolve(), Path.cwd())!r}  # of the supernet\n'
    runs = {name: [list(run) for run in one] for name, one in zip(names, layers)}
    for part, inner in by_part(names).items():
        # a part of several takes its own layers, and the file has none in the order of the supernet
        whole = len(inner) == len(names) and not kept
        where = relative if whole else [runs[f'{part}.{name}'] for name in inner]
        resnet = _as_ic_resnet(cfg, part, inner, where) if part == 'backbone' else None
        parts[part] = resnet or _exchanged(part, inner, layer, where)
    title = 'With the dilations that a search found, made by `mmext search apply`'
    _write(cfg, config, out, title, parts, extra)
    if checkpoint is not None:
        write_whole(weights, lambda file: torch.save(dict(state_dict=state), file), overwrite=False)
    kind = parts['backbone'].get('type', '') if 'backbone' in parts else cfg.model.get('backbone', {}).get('type', '')
    return kind, kept


def _loaded(config):
    cfg = load_config(config)
    if not isinstance(cfg.get('model'), dict):
        raise ValueError(f'{config} has no `model`; give the config of a whole model')
    return cfg, build_model(cfg)


class _Base:
    """A value of the base config, as a config refers to it."""

    def __init__(self, part):
        self.part = part

    def __repr__(self):
        return f'_base_.model.{self.part}'


def _exchanged(part, names, layer, pattern=None):
    found = dict(_delete_=True, type='mmext.ExchangedConvs', network=_Base(part), convs=names, conv_cfg=layer)
    return found if pattern is None else dict(found, pattern=pattern)


OWN = {
    *('depth', 'in_channels', 'stem_channels', 'base_channels', 'num_stages', 'strides', 'dilations', 'out_indices'),
    *('style', 'frozen_stages', 'norm_cfg', 'norm_eval', 'with_cp', 'zero_init_residual', 'init_cfg', 'deep_stem'),
    *('avg_down', 'conv_cfg', 'groups'),
}


def _as_ic_resnet(cfg, part, names, where):
    """Return the config of IC-ResNet, None where it is another network than the one searched."""
    plain = {key: value for key, value in cfg.model[part].to_dict().items() if key != '_scope_'}
    kind = {'ResNet': 'ICResNet', 'ResNeXt': 'ICResNeXt'}.get(str(plain.pop('type', '')).rpartition('.')[2])
    if 'base_width' in plain:
        plain['width_per_group'] = plain.pop('base_width')
    if kind is None or cfg.model.get('pretrained') or set(plain) - OWN - {'width_per_group'}:
        return None
    own = dict(type=f'mmext.{kind}', pattern=where, **plain)
    try:
        built = build_model(Config(dict(default_scope=cfg.get('default_scope'), model=own)))
        original = build_model(Config(dict(default_scope=cfg.get('default_scope'), model=cfg.model[part])))
    except ValueError:
        return None
    exchange_convolutions(original, names, dict(type='InceptionConv2d'), where)
    return dict(_delete_=True, **own) if _same(built, original, plain.get('in_channels', 3)) else None


def _same(one, other, in_channels):
    """Whether two networks have the same keys and, with the same weights, the same outputs."""
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (one, other)]
    if shapes[0] != shapes[1]:
        return False
    settings = [
        {name: (p.requires_grad, p.shape) for name, p in network.named_parameters()} for network in (one, other)
    ]
    one.load_state_dict(other.state_dict())
    image = torch.rand(1, in_channels, 65, 70, generator=torch.Generator().manual_seed(0))
    for network in (one, other):
        network.eval()  # the toolboxes' return nothing
    with torch.no_grad():
        outs = [network(image) for network in (one, other)]
    if isinstance(outs[0], torch.Tensor) or isinstance(outs[1], torch.Tensor):  # one that mmaction2's heads take
        return False
    return (
        settings[0] == settings[1]
        and len(outs[0]) == len(outs[1])
        and all(a.shape == b.shape and torch.allclose(a, b, 1e-4, 1e-5) for a, b in zip(*outs))
    )


def _write(cfg, config, out, title, parts, extra):
    out = Path(out)
    if out.suffix != '.py':
        raise ValueError(f'{out} has no suffix .py, which a config has; choose another name')
    base = str(config)
    if '::' not in base:
        base = os.path.relpath(Path(config).resolve(), out.resolve().parent)
    lines = [f'# {title}.', f'_base_ = [{base!r}]', '', 'model = dict(']
    for part, content in parts.items():
        if not isinstance(cfg.model.get(part), dict):
            raise ValueError(
                f'`model.{part}` of {config} is {reprlib.repr(cfg.model.get(part))}, no dict; exclude its convolutions'
            )
        lines.append(f'    {part}=dict(')
        for key, value in content.items():
            if isinstance(value, list) and value:
                lines += [f'        {key}=[', *(f'            {item!r},' for item in value), '        ],']
            else:
                lines.append(f'        {key}={value!r},')
        lines.append('    ),')
    text = '\n'.join([*lines, ')', extra])
    if os.path.lexists(out):
        raise FileExistsError(f'{out} exists and is left as it is; delete it or choose another name')
    _check(out, text, config)
    write_whole(out, text, overwrite=False)


def _check(out, text, config):
    """Check that the new config loads and its model can be built, before there is such a file."""
    trial = out.with_name(f'mmext_trial_{secrets.token_hex(8)}.py')  # beside it, as bases are found from there
    write_whole(trial, text, overwrite=False)
    try:
        build_model(load_config(trial))
    except ValueError as error:
        lazy = ' (a config of the new style, with imports, cannot be a base of this one)' * bool(_is_lazy(config))
        reason = str(error).replace(str(trial), str(out))
        raise ValueError(f'{config} cannot be the base of a new config{lazy}: {reason}') from error
    finally:
        trial.unlink()


def _is_lazy(config):
    return Path(config).is_file() and 'read_base' in Path(config).read_text('utf-8', 'replace')
