"""What values a tensor must have to count as a weight: finite floats. The reader checks what kind of tensor it is."""

import torch

from .report import ConversionError, name_keys

__all__ = ['check_values']

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
COUNTER = 'num_batches_tracked'  # the only integers that our networks have


def check_values(state_dict, integers=None):
    """Refuse tensors that are no weights: of other numbers than floats, or not finite.

    Taken are float32, float16, bfloat16 and float64.

    Args:
        state_dict (Mapping[str, Tensor]): Names and dense tensors with values.
        integers (Container[str], optional): Keys that may be integers, too. Default: None, those that end in
            ``num_batches_tracked``.

    Raises:
        ConversionError: If there are other types (such as complex, int8 or bool), or values are NaN or infinite; the
            message names the keys, and what to do.
    """
    if integers is None:
        integers = {key for key in state_dict if key.endswith(COUNTER)}
    floats = {key: value for key, value in state_dict.items() if key not in integers or value.dtype not in INTEGERS}
    _refuse(floats, _of_another_type)
    _refuse(floats, _not_finite)


def _refuse(state_dict, fault_of):
    faults = {}
    for key, value in state_dict.items():
        fault = fault_of(value)
        if fault:
            faults.setdefault(fault, []).append(key)
    for (what, cure), keys in faults.items():
        raise ConversionError(f'{what} under {name_keys(keys)}; {cure}')


def _of_another_type(value):
    if value.dtype in FLOATS:
        return None
    allowed = 'float32, float16, bfloat16 or float64'
    return f'values of {value.dtype}', f'weights are {allowed}; give the checkpoint of floats that this one was made of'


def _not_finite(value):
    if not value.numel():
        return None
    # an expanded dimension has one value, however long it is
    value = value[tuple(slice(1) if stride == 0 else slice(None) for stride in value.stride())]
    if all(torch.isfinite(bound) for bound in torch.aminmax(value)):  # which makes no copy; NaN goes through both
        return None
    return (
        'NaN or infinite values',
        'training diverged or the file is damaged: give an earlier checkpoint, or download it again',
    )
