"""What a checkpoint's pickle would do, found out without doing it.

``torch.load(weights_only=True)`` lets a pickle call a few dozen functions of PyTorch. Some of them take any size
(``bytearray``, tensor constructors, text encodings applied to their own results), and before torch 2.10 sizes of
storages and the targets of assignments were not checked (CVE-2026-24747). So the instructions are followed here with
stand-ins for all objects first: which function is called with what, how large the results are, which storages are
asked for, and whether each tensor lies inside of its storage.
"""

import math
import pickletools
import re

import torch

from mmext.compat.torch_safe_globals import STATISTICS

__all__ = ['PickleError', 'follow']

MAX_STEPS = 500_000  # instructions; about forty for a tensor
MAX_COST = 20_000_000  # what calls and keys may cost besides the size of the pickle
MAX_TUPLE = 100_000  # parts of a tuple with all tuples in it, each as often as it is there
MAX_DIMS = 64
MAX_DEPTH = 100  # of tuples in tuples, as hashing them takes a part of the stack for each
LATIN = {'latin1', 'latin-1', 'iso-8859-1'}
ITEM_SIZES = dict(
    Double=8, Float=4, Half=2, Long=8, Int=4, Short=2, Char=1, Byte=1, Bool=1, BFloat16=2, ComplexDouble=16,
    ComplexFloat=8, QUInt8=1, QInt8=1, QInt32=4, QUInt4x2=1, QUInt2x4=1, Untyped=1,
)  # fmt: skip
TENSORS = {f'torch._utils._rebuild_{name}' for name in ('tensor', 'tensor_v2', 'tensor_v3', 'qtensor')}
PARAMETER = 'torch._utils._rebuild_parameter'
COLLECTIONS = {'collections.OrderedDict', 'collections.Counter', 'builtins.set'}
SIMPLE = {
    'builtins.complex', 'torch.Size', 'torch.device', 'torch.serialization._get_layout',
    'torch._utils._rebuild_sparse_tensor', 'torch._utils._rebuild_meta_tensor_no_storage',
}  # fmt: skip
ENCODE = '_codecs.encode'
BUFFER = 'mmengine.logging.history_buffer.HistoryBuffer'
KNOWN = TENSORS | COLLECTIONS | SIMPLE | {PARAMETER, ENCODE}
WITH_ATTRIBUTES = {'torch._tensor._rebuild_from_type_v2', 'torch._utils._rebuild_parameter_with_state'}
MAPPINGS = ('dict', 'collections.OrderedDict', 'collections.Counter')


class PickleError(ValueError):
    """A pickle that does what a checkpoint has no need of. ``asked`` is the name of code that it asks for, or ''."""

    def __init__(self, message, asked=''):
        super().__init__(message)
        self.asked = asked


class _Object:
    """Stand-in for anything that is no number or word. ``size``: of its content, each part as often as it is there."""

    __slots__ = ('depth', 'expanded', 'items', 'kind', 'parts', 'size')

    def __init__(self, kind, size=1, items=(), parts=0, depth=0, expanded=False):
        self.kind = kind
        self.size = size
        self.items = items  # of a list or a tuple; words among the keys of a mapping
        self.parts = parts  # of a tuple, with all tuples in it
        self.depth = depth
        self.expanded = expanded  # whether it is or has a tensor of more elements than its storage


class _Storage(_Object):
    __slots__ = ('count', 'nbytes')

    def __init__(self, count, nbytes):
        super().__init__('storage')
        self.count = count
        self.nbytes = nbytes


def follow(file, storage_size=None):
    """Follow a pickle's instructions to its end.

    Args:
        file (BinaryIO): Read from where it stands to the end of the pickle.
        storage_size (Callable[[str], int], optional): Bytes of the storage of a key. Default: None, as declared.

    Returns:
        tuple: The result (numbers and words as they are, stand-ins with ``kind`` and ``items`` for others), and the
        bytes of each storage by key.

    Raises:
        PickleError: If it asks for code, takes more memory or time than its size lets expect, or is damaged.
    """
    return _Follower(storage_size).run(file)


def _size(value):
    if isinstance(value, _Object):
        return value.size
    return 1 + len(value) if isinstance(value, str) else 1


def _declared():
    """Return the names that the user or other packages have declared safe, written as torch.load looks them up."""
    names = set()
    for item in torch.serialization.get_safe_globals() if hasattr(torch.serialization, 'get_safe_globals') else ():
        names.add(item[1] if isinstance(item, tuple) else f'{item.__module__}.{item.__qualname__}')
    return names


class _Follower:
    def __init__(self, storage_size):
        self.storage_size = storage_size
        self.declared = _declared()
        self.storages = {}
        self.memo = {}
        self.stack = []
        self.marks = []
        self.cost = 0
        self.odd_keys = 0

    def run(self, file):
        start = file.tell()
        for step, (opcode, arg, position) in enumerate(pickletools.genops(file)):
            if step == MAX_STEPS:
                raise PickleError(f'its pickle has more than {MAX_STEPS} instructions, too many for a checkpoint')
            self.budget = MAX_COST + 8 * (position - start)
            name = opcode.name
            if name == 'STOP':
                return self.pop(), {key: storage.nbytes for key, storage in self.storages.items()}
            action = getattr(self, f'do_{name.lower()}', None)
            if name in _VALUES:
                self.stack.append(_VALUES[name](arg))
            elif action is None:
                raise PickleError(f'its pickle has the instruction {name}, which torch.save does not write')
            else:
                action(arg)
        raise PickleError('its pickle has no end')

    def pop(self):
        if not self.stack:
            raise PickleError('its pickle is damaged (an empty stack)')
        return self.stack.pop()

    def top(self):
        if not self.stack:
            raise PickleError('its pickle is damaged (an empty stack)')
        return self.stack[-1]

    def pop_mark(self):
        if not self.marks:
            raise PickleError('its pickle is damaged (no mark)')
        items, self.stack = self.stack, self.marks.pop()
        return items

    def spend(self, amount, what):
        self.cost += amount
        if self.cost > self.budget:
            raise PickleError(f'its pickle would take far more memory or time than its size lets expect ({what})')

    def tuple(self, items):
        inner = [item for item in items if isinstance(item, _Object)]
        size = 1 + sum(map(_size, items))
        depth = 1 + max((item.depth for item in inner), default=0)
        parts = len(items) + sum(item.parts for item in inner)
        if depth > MAX_DEPTH or parts > MAX_TUPLE:
            raise PickleError('its pickle nests tuples far deeper than a checkpoint does, or has one of too many parts')
        self.stack.append(_Object('tuple', size, items, parts, depth, any(item.expanded for item in inner)))

    def do_proto(self, arg):
        if arg > 2:
            raise PickleError(f'its pickle is of protocol {arg}; torch.load takes those of protocol 2 in safety')

    def do_mark(self, arg):
        self.marks.append(self.stack)
        self.stack = []

    def do_tuple(self, arg):
        self.tuple(self.pop_mark())

    def do_empty_tuple(self, arg):
        self.tuple([])

    def do_tuple1(self, arg, count=1):
        items = [self.pop() for _ in range(count)]
        self.tuple(items[::-1])

    def do_tuple2(self, arg):
        self.do_tuple1(arg, 2)

    def do_tuple3(self, arg):
        self.do_tuple1(arg, 3)

    def do_binput(self, arg):
        self.memo[arg] = self.top()

    do_long_binput = do_binput

    def do_binget(self, arg):
        if arg not in self.memo:
            raise PickleError('its pickle is damaged (a reference to nothing)')
        self.stack.append(self.memo[arg])

    do_long_binget = do_binget

    def do_appends(self, arg):
        self.extend(self.pop_mark())

    def do_append(self, arg):
        self.extend([self.pop()])

    def extend(self, items):
        target = self.top()
        if not isinstance(target, _Object) or target.kind not in ('list', *self.declared):
            raise PickleError('its pickle appends to what is no list')
        if target.kind == 'list':
            target.items.extend(items)
        target.size += sum(map(_size, items))

    def do_setitems(self, arg):
        self.update(self.pop_mark())

    def do_setitem(self, arg):
        value = self.pop()
        self.update([self.pop(), value])

    def update(self, items):
        target = self.top()
        if not isinstance(target, _Object) or target.kind not in MAPPINGS:
            raise PickleError('its pickle sets items of what is no mapping')
        if len(items) % 2:
            raise PickleError('its pickle is damaged (a key without a value)')
        for key in items[::2]:
            if isinstance(key, _Object):  # words and small numbers cannot be chosen to have one hash
                self.odd_keys += 1
                self.spend(self.odd_keys * key.size, 'its keys')
        target.items.extend(key for key in items[::2] if isinstance(key, str))
        target.size += sum(map(_size, items))

    def do_global(self, arg):
        module, _, name = arg.partition(' ')
        if not re.fullmatch(r'[\w.]+', f'{module}.{name}', re.ASCII):
            raise PickleError('its pickle is damaged (an odd name)')
        full = f'{"builtins" if module == "__builtin__" else module}.{name}'
        storage = name.removesuffix('Storage')
        if full in WITH_ATTRIBUTES and full not in self.declared:
            raise PickleError(
                'it has tensors of a subclass or with attributes of their own; save their detach() instead'
            )
        if storage != name and module in ('torch', 'torch.cuda', 'torch.storage') and storage in ITEM_SIZES:
            self.stack.append(_Object(f'storage {storage}'))
        elif full in KNOWN or full in self.declared or (module == 'torch' and _is_constant(name)):
            self.stack.append(_Object(f'name {full}'))
        else:
            raise PickleError(f'it asks for {full}, which is code and not data', full)

    def do_binpersid(self, arg):
        pid = self.pop()
        items = pid.items if isinstance(pid, _Object) and pid.kind == 'tuple' else ()
        if len(items) != (5 if self.storage_size else 6) or items[0] != 'storage' or not isinstance(items[1], _Object):
            raise PickleError('its pickle asks for something else than a storage')
        kind, key, location, count = items[1].kind, *items[2:5]
        view = items[5] if len(items) == 6 else None
        if not kind.startswith('storage ') or not isinstance(key, str) or not isinstance(location, str):
            raise PickleError('its pickle asks for a storage in an unknown way')
        if type(count) is not int or count < 0:
            raise PickleError('its pickle asks for a storage of an impossible size')
        found = _Storage(count, count * ITEM_SIZES[kind.removeprefix('storage ')])
        expected = self.storage_size(key) if self.storage_size else found.nbytes
        first = self.storages.setdefault(key, found)
        if found.nbytes != expected or first.nbytes != found.nbytes or first.count != count:
            raise PickleError(f'its storage {key!r} has another size than its pickle says')
        if view is not None:  # of the format before PyTorch 1.6: key, offset, number of elements
            part = view.items if isinstance(view, _Object) and view.kind == 'tuple' else ()
            if len(part) != 3 or any(type(n) is not int or n < 0 for n in part[1:]) or sum(part[1:]) > count:
                raise PickleError('its pickle asks for a part of a storage that the storage does not have')
            found = _Storage(part[2], part[2] * ITEM_SIZES[kind.removeprefix('storage ')])
        self.stack.append(found)

    def do_newobj(self, arg):
        args, cls = self.pop(), self.pop()
        name = _named(cls)
        if name not in self.declared:
            raise PickleError(f'it makes an object of {name or "something unnamed"}, which is code and not data', name)
        self.spend(_size(args), name)
        self.stack.append(_Object(name, _size(args)))

    def do_reduce(self, arg):
        args, function = self.pop(), self.pop()
        self.stack.append(self.call(function, args))

    def do_build(self, arg):
        state = self.pop()
        target = self.top()
        kind = target.kind if isinstance(target, _Object) else ''
        if kind == 'collections.OrderedDict':
            named = state.items if isinstance(state, _Object) and state.kind in MAPPINGS else ['']
            if set(named) - {'_metadata'}:  # others would hide methods of the mapping
                raise PickleError('its pickle gives a mapping other attributes than the _metadata of a state dict')
        elif kind not in self.declared:
            raise PickleError('its pickle sets the state of what is no mapping and no declared class')
        self.spend(_size(state), 'the states that it sets')
        target.size += _size(state)

    def call(self, function, args):
        name = _named(function)
        if not isinstance(args, _Object) or args.kind != 'tuple':
            raise PickleError('its pickle calls a function in an impossible way')
        self.spend(args.size, name)
        items = args.items
        if name in TENSORS:
            return _tensor(name, items)
        if name == PARAMETER and items and isinstance(items[0], _Object):
            return _Object('tensor', expanded=items[0].expanded)
        if args.expanded:
            raise PickleError('it computes with a tensor of more elements than its storage has')
        if name in COLLECTIONS:
            self.spend(args.size**2 if items else 0, name)  # as all of it could have one hash
            return _Object(name, args.size, items=[])
        if name == ENCODE:
            if len(items) != 2 or not isinstance(items[0], str) or items[1] not in LATIN:
                raise PickleError('it encodes text in another way than pickles of bytes do')
            return _Object('bytes', args.size)
        if name == 'torch.Size' and len(items) == 1 and isinstance(items[0], _Object) and items[0].kind == 'tuple':
            return items[0]
        if name == 'builtins.getattr':
            asked = items[1] if len(items) == 2 and isinstance(items[1], str) else '...'
            if _named(items[0] if items else None) != BUFFER or asked not in STATISTICS:
                raise PickleError('it asks for code', f'getattr(..., {asked[:50]!r})')
        if name not in SIMPLE and name not in self.declared:
            raise PickleError(f'it calls {name or "something unnamed"}, which is code and not data', name)
        return _Object(name, args.size)


def _named(value):
    return value.kind.removeprefix('name ') if isinstance(value, _Object) and value.kind.startswith('name ') else ''


def _is_constant(name):
    return isinstance(vars(torch).get(name), (torch.dtype, torch.layout, torch.qscheme))


def _tensor(name, items):
    """Return the stand-in of a tensor, after checking that it lies inside of its storage."""
    storage, offset, *sides = items[:4] if len(items) >= 4 else (None,) * 4
    shape, stride = (part.items if isinstance(part, _Object) and part.kind == 'tuple' else None for part in sides)
    if not isinstance(storage, _Storage) or shape is None or stride is None or len(shape) != len(stride):
        raise PickleError('its pickle makes a tensor in an unknown way')
    if any(type(n) is not int or n < 0 for n in (offset, *shape, *stride)) or len(shape) > MAX_DIMS:
        raise PickleError('its pickle makes a tensor of an impossible shape')
    held = storage.count
    if name.endswith('tensor_v3'):
        dtype = vars(torch).get(_named(items[6]).removeprefix('torch.')) if len(items) > 6 else None
        if not isinstance(dtype, torch.dtype):
            raise PickleError('its pickle makes a tensor of an unknown type')
        held = storage.nbytes // dtype.itemsize
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride)) if count else -1
    if last >= held or offset > 2**62 or any(n > 2**62 for n in shape):
        raise PickleError(f'it has a tensor of shape {shape} of which its storage holds only a part')
    if count > held and name.endswith('qtensor'):
        raise PickleError(f'it has a quantized tensor of shape {shape} with more elements than its storage')
    return _Object('tensor', expanded=count > held)


_VALUES = {
    'NONE': lambda arg: None,
    'NEWTRUE': lambda arg: True,
    'NEWFALSE': lambda arg: False,
    'EMPTY_LIST': lambda arg: _Object('list', items=[]),
    'EMPTY_DICT': lambda arg: _Object('dict', items=[]),
    'EMPTY_SET': lambda arg: _Object('set'),
    'LONG1': lambda arg: arg if abs(arg) < 2**63 else _Object('int', items=arg),
    **dict.fromkeys(('BININT', 'BININT1', 'BININT2', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINSTRING'), lambda arg: arg),
}
