"""Comparison of a state dict with the keys and shapes that a network has."""

from .report import name_keys

__all__ = ['differences', 'stem_hint']

STEM_KEY = 'stem.1.conv2.conv.weight'


def differences(state_dict, wanted, surplus=None, allow_missing=False):
    """Say where a state dict and a network differ.

    Args:
        state_dict (dict[str, Tensor]): What there is.
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


def stem_hint(state_dict, wanted, report):
    """Return the setting to change where the stem kernels differ, the one thing that the original has in two ways.

    Args:
        state_dict (dict[str, Tensor]): What there is.
        wanted (dict[str, tuple]): Key -> shape of the network.
        report (ConversionReport): Of the conversion that made the state dict.

    Returns:
        str: A clause, or '' where the stem is not the matter.
    """
    for key, value in state_dict.items():
        if key.endswith(STEM_KEY) and tuple(value.shape) != tuple(wanted.get(key, value.shape)):
            setting = f'stem_kernel={report.architecture["stem_kernel"]}'
            return f"set {setting} to get the checkpoint's stem (--cfg-options model.backbone.{setting})"
    return ''
