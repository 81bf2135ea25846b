"""Comparison of a state dict with the keys and shapes that a network has."""

from torch import nn

from .report import name_keys

__all__ = ['differences', 'run_differences', 'setting_hint']

STEM_KEY = '.stem.1.conv2.conv.weight'  # of RedNet
FIRST_KEY = '.level2.0.conv1.weight'  # of Wider-ResNet


def differences(state_dict, wanted, surplus=None, allow_missing=False):
    """Say where a state dict and a network differ.

    Args:
        state_dict (dict[str, Tensor]): What there is; only the ``shape`` of each value is looked at.
        wanted (dict[str, tuple]): Key -> shape of the network.
        surplus (list[str], optional): Keys without a place in the network. Default: None, those not in ``wanted``.
        allow_missing (bool): Say nothing about keys that the state dict lacks. Default: False.

    Returns:
        list[str]: One clause for each kind of difference, with the keys; empty where all fits.
    """
    clauses = []
    if surplus is None:
        surplus = [key for key in state_dict if key not in wanted]
    if surplus:
        clauses.append(f'the network has no place for {name_keys(surplus)}')
    lacking = [key for key in wanted if key not in state_dict]
    if lacking and not allow_missing:
        clauses.append(f'the checkpoint lacks {name_keys(lacking)}')
    wrong = [
        f'{key} ({list(value.shape)}, the network needs {list(wanted[key])})'
        for key, value in state_dict.items()
        if key in wanted and tuple(value.shape) != tuple(wanted[key])
    ]
    if wrong:
        clauses.append(f'shapes differ in {name_keys(wrong)}')
    return clauses


def setting_hint(state_dict, wanted, report):
    """Return the setting to change where it is the stem's kernels or the width that differ.

    Args:
        state_dict (dict[str, Tensor]): What there is.
        wanted (dict[str, tuple]): Key -> shape of the network.
        report (ConversionReport): Of the conversion that made the state dict.

    Returns:
        str: A clause, or '' where neither is the matter.
    """
    for end, name, what in ((STEM_KEY, 'stem_kernel', 'stem'), (FIRST_KEY, 'width', 'width')):
        for key, value in state_dict.items():
            differs = tuple(value.shape) != tuple(wanted.get(key, value.shape))
            if name in report.architecture and f'.{key}'.endswith(end) and differs:
                setting = f'{name}={report.architecture[name]}'
                return f"set {setting} to get the checkpoint's {what} (--cfg-options model.backbone.{setting})"
    return ''


def run_differences(state_dict, module, report, prefix=''):
    """Say where the runs of a checkpoint's inception convolutions are not those of a network's pattern.

    Shapes do not show it: a weight of 64 channels is one of 64 channels under any pattern. Dilations are not compared,
    as a checkpoint has none.

    Args:
        state_dict (dict[str, Tensor]): What there is, under the names of the module.
        module (nn.Module): The network, or the part of it that the state dict is for.
        report (ConversionReport): Of the conversion that made the state dict.
        prefix (str): What the report's names start with, and those of the module do not. Default: ''.

    Returns:
        tuple[list[str], str]: A clause with the first layer that differs, and the settings to change; empty where all
        fits, and where the format has no inception convolutions.
    """
    if 'runs' not in report.architecture:
        return [], ''
    wrong = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d) and f'{name}.weight' in state_dict:
            found = report.architecture['runs'].get(f'{prefix}{name}')
            pattern = getattr(layer, 'pattern', None)
            needed = tuple(run[2] for run in pattern) if pattern else None
            undilated = pattern is None or [run[:2] for run in pattern] == [(1, 1)]
            if found != needed and not (found is None and undilated):
                wrong.append((name, found, needed))
    if not wrong:
        return [], ''
    name, found, needed = wrong[0]
    more = f' (and {len(wrong) - 1} more layers differ)' if len(wrong) > 1 else ''
    clause = f'{name} is {_runs_text(found)} in the checkpoint and {_runs_text(needed)} in the network{more}'
    hint = f'the pattern of the checkpoint is {report.architecture["pattern"]}'
    if 'inception_convs' in report.architecture:
        hint += f', with inception_convs={report.architecture["inception_convs"]}'
    return [clause], f'{hint}; the network must have the same (--cfg-options model.backbone.pattern=...)'


def _runs_text(counts):
    if counts is None:
        return 'an ordinary convolution'
    return f'an inception convolution with runs of {", ".join(map(str, counts))} channels'
