"""What a tensor must be to count as a weight: dense, in memory, of finite floats."""

import torch
from torch import nn

from .report import ConversionError, name_keys

__all__ = ['check_tensors', 'check_values']

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
COUNTER = 'num_batches_tracked'  # the only integers that our networks have


def check_tensors(state_dict):
    """Refuse tensors that are no plain arrays with values.

    Taken are ``torch.Tensor`` and ``nn.Parameter``, dense, on a device that holds values.

    Args:
        state_dict (Mapping[str, Tensor]): Names and tensors.

    Raises:
        ConversionError: If others are sparse, nested, quantized, on the meta device or of another class; the message
            names them, and what to do.
    """
    _refuse(state_dict, _of_another_kind)


def check_values(state_dict, integers=None):
    """Refuse tensors that are no weights: of other numbers than floats, or not finite.

    Taken are float32, float16, bfloat16 and float64.

    Args:
        state_dict (Mapping[str, Tensor]): Names and tensors that :func:`check_tensors` accepts.
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


def _of_another_kind(value):
    if type(value) not in (torch.Tensor, nn.Parameter):
        return (
            f'a {type(value).__name__}, no plain tensor',
            'save plain ones (value.full_tensor() of a distributed one, else value.as_subclass(torch.Tensor))',
        )
    if value.is_nested or value.layout is not torch.strided:
        kind = 'nested' if value.is_nested else str(value.layout).removeprefix('torch.')
        return f'a tensor of layout {kind}', 'save it dense (value.to_dense(), value.to_padded_tensor())'
    if value.is_quantized:
        return f'quantized values ({value.dtype})', 'give the checkpoint from before the quantization'
    if value.is_meta:
        return 'tensors without values (device meta)', 'save the weights themselves, not a model built on that device'
    return None


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
