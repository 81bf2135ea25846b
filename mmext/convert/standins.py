"""Stand-ins for the objects of a checkpoint's pickle, by which it is followed without making any of them."""

import math

import torch

__all__ = ['ITEM_SIZES', 'Object', 'PickleError', 'Storage', 'is_constant', 'name_of', 'size_of', 'tensor_of']

MAX_DIMS = 64
MAX_SIDE = 2**40
ITEM_SIZES = dict(
    Double=8, Float=4, Half=2, Long=8, Int=4, Short=2, Char=1, Byte=1, Bool=1, BFloat16=2, ComplexDouble=16,
    ComplexFloat=8, QUInt8=1, QInt8=1, QInt32=4, QUInt4x2=1, QUInt2x4=1, Untyped=1,
)  # fmt: skip


class PickleError(ValueError):
    """A pickle that does what a checkpoint has no need of. ``asked`` is the name of code that it asks for, or ''."""

    def __init__(self, message, asked=''):
        super().__init__(message)
        self.asked = asked


class Object:
    """Stand-in for anything that is no number or word. ``size``: of its content, each part as often as it is there."""

    __slots__ = ('depth', 'expanded', 'items', 'kind', 'parts', 'size')

    def __init__(self, kind, size=1, items=(), parts=0, depth=0, expanded=False):
        self.kind = kind
        self.size = size
        self.items = items  # of a list or a tuple; words among the keys of a mapping
        self.parts = parts  # of a tuple, with all tuples in it
        self.depth = depth
        self.expanded = expanded  # whether it is or has a tensor of more elements than its storage


class Storage(Object):
    """Stand-in for a storage of some number of elements."""

    __slots__ = ('count', 'nbytes')

    def __init__(self, count, nbytes):
        super().__init__('storage')
        self.count = count
        self.nbytes = nbytes


def size_of(value):
    """Return what a value costs when it is copied or looked through."""
    if isinstance(value, Object):
        return value.size
    return 1 + len(value) if isinstance(value, str) else 1


def name_of(value):
    """Return the full name of a stand-in for a function or class, else ''."""
    return value.kind.removeprefix('name ') if isinstance(value, Object) and value.kind.startswith('name ') else ''


def is_constant(name):
    """Return whether a name of torch is that of a dtype, a layout or a scheme of quantisation."""
    return isinstance(vars(torch).get(name), (torch.dtype, torch.layout, torch.qscheme))


def tensor_of(name, items):
    """Return the stand-in of the tensor that a function of torch makes, after checking that its storage holds it."""
    storage, offset, *sides = items[:4] if len(items) >= 4 else (None,) * 4
    shape, stride = (part.items if isinstance(part, Object) and part.kind == 'tuple' else None for part in sides)
    if not isinstance(storage, Storage) or shape is None or stride is None or len(shape) != len(stride):
        raise PickleError('its pickle makes a tensor in an unknown way')
    if any(type(n) is not int or n < 0 for n in (offset, *shape, *stride)) or len(shape) > MAX_DIMS:
        raise PickleError('its pickle makes a tensor of an impossible shape')
    held = storage.count
    if name.endswith('tensor_v3'):
        dtype = vars(torch).get(name_of(items[6]).removeprefix('torch.')) if len(items) > 6 else None
        if not isinstance(dtype, torch.dtype):
            raise PickleError('its pickle makes a tensor of an unknown type')
        held = storage.nbytes // dtype.itemsize
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride)) if count else offset - 1
    # limits of sides and steps that reach nothing keep PyTorch's own products of them small
    if last >= held or count > 2**62 or any(n > MAX_SIDE for n in (*shape, *stride)):
        raise PickleError(f'it has a tensor of shape {shape} of which its storage holds only a part')
    if count > held and name.endswith('qtensor'):
        raise PickleError(f'it has a quantized tensor of shape {shape} with more elements than its storage')
    return Object('tensor', expanded=count > held)
