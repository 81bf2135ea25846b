"""What a checkpoint's pickle would do, found out without doing it.

``torch.load(weights_only=True)`` lets a pickle call a few dozen functions of PyTorch. Some of them take any size
(``bytearray``, tensor constructors, text encodings applied to their own results), and before torch 2.10 sizes of
storages and the targets of assignments were not checked (CVE-2026-24747). So the instructions are followed here with
stand-ins for all objects first: which function is called with what, how large the results are, which storages are
asked for, and whether each tensor lies inside of its storage.
"""

import pickletools
import re

import torch

from mmext.compat.torch_safe_globals import STATISTICS

from .standins import ITEM_SIZES, Object, PickleError, Storage, is_constant, name_of, size_of, tensor_of

__all__ = ['follow']

MAX_STEPS = 500_000  # instructions; about forty for a tensor
MAX_COST = 20_000_000  # what calls and keys may cost besides the size of the pickle
MAX_TUPLE = 100_000  # parts of a tuple with all tuples in it, each as often as it is there
MAX_DEPTH = 100  # of tuples in tuples, as hashing them takes a part of the stack for each
LATIN = {'latin1', 'latin-1', 'iso-8859-1'}
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
        self.views = {}
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
        inner = [item for item in items if isinstance(item, Object)]
        size = 1 + sum(map(size_of, items))
        depth = 1 + max((item.depth for item in inner), default=0)
        parts = len(items) + sum(item.parts for item in inner)
        if depth > MAX_DEPTH or parts > MAX_TUPLE:
            raise PickleError('its pickle nests tuples far deeper than a checkpoint does, or has one of too many parts')
        self.stack.append(Object('tuple', size, items, parts, depth, any(item.expanded for item in inner)))

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
        if not isinstance(target, Object) or target.kind not in ('list', *self.declared):
            raise PickleError('its pickle appends to what is no list')
        if target.kind == 'list':
            target.items.extend(items)
        target.size += sum(map(size_of, items))

    def do_setitems(self, arg):
        self.update(self.pop_mark())

    def do_setitem(self, arg):
        value = self.pop()
        self.update([self.pop(), value])

    def update(self, items):
        target = self.top()
        if not isinstance(target, Object) or target.kind not in MAPPINGS:
            raise PickleError('its pickle sets items of what is no mapping')
        if len(items) % 2:
            raise PickleError('its pickle is damaged (a key without a value)')
        for key in items[::2]:
            if isinstance(key, Object):  # words and small numbers cannot be chosen to have one hash
                self.odd_keys += 1
                self.spend(self.odd_keys * key.size, 'its keys')
        target.items.extend(key for key in items[::2] if isinstance(key, str))
        target.size += sum(map(size_of, items))

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
            self.stack.append(Object(f'storage {storage}'))
        elif full in KNOWN or full in self.declared or (module == 'torch' and is_constant(name)):
            self.stack.append(Object(f'name {full}'))
        else:
            raise PickleError(f'it asks for {full}, which is code and not data', full)

    def do_binpersid(self, arg):
        pid = self.pop()
        items = pid.items if isinstance(pid, Object) and pid.kind == 'tuple' else ()
        if len(items) != (5 if self.storage_size else 6) or items[0] != 'storage' or not isinstance(items[1], Object):
            raise PickleError('its pickle asks for something else than a storage')
        kind, key, location, count = items[1].kind, *items[2:5]
        view = items[5] if len(items) == 6 else None
        if not kind.startswith('storage ') or not isinstance(key, str) or not isinstance(location, str):
            raise PickleError('its pickle asks for a storage in an unknown way')
        if type(count) is not int or count < 0:
            raise PickleError('its pickle asks for a storage of an impossible size')
        found = Storage(count, count * ITEM_SIZES[kind.removeprefix('storage ')])
        expected = self.storage_size(key) if self.storage_size else found.nbytes
        first = self.storages.setdefault(key, found)
        if found.nbytes != expected or first.nbytes != found.nbytes or first.count != count:
            raise PickleError(f'its storage {key[:50]!r} has another size than its pickle says')
        if view is not None:  # of the format before PyTorch 1.6: key, offset, number of elements
            part = view.items if isinstance(view, Object) and view.kind == 'tuple' else ()
            if len(part) != 3 or any(type(n) is not int or n < 0 for n in part[1:]) or sum(part[1:]) > count:
                raise PickleError('its pickle asks for a part of a storage that the storage does not have')
            if not isinstance(part[0], str) or self.views.setdefault(part[0], [key, *part[1:]]) != [key, *part[1:]]:
                raise PickleError('its pickle gives one name to several parts of storages')
            found = Storage(part[2], part[2] * ITEM_SIZES[kind.removeprefix('storage ')])
        if self.views.keys() & self.storages.keys():
            raise PickleError('its pickle gives one name to a storage and a part of one')
        self.stack.append(found)

    def do_newobj(self, arg):
        args, cls = self.pop(), self.pop()
        name = name_of(cls)
        if name not in self.declared:
            raise PickleError(f'it makes an object of {name or "something unnamed"}, which is code and not data', name)
        self.spend(size_of(args), name)
        self.stack.append(Object(name, size_of(args)))

    def do_reduce(self, arg):
        args, function = self.pop(), self.pop()
        self.stack.append(self.call(function, args))

    def do_build(self, arg):
        state = self.pop()
        target = self.top()
        kind = target.kind if isinstance(target, Object) else ''
        if kind == 'collections.OrderedDict':
            named = state.items if isinstance(state, Object) and state.kind in MAPPINGS else ['']
            if set(named) - {'_metadata'}:  # others would hide methods of the mapping
                raise PickleError('its pickle gives a mapping other attributes than the _metadata of a state dict')
        elif kind not in self.declared:
            raise PickleError('its pickle sets the state of what is no mapping and no declared class')
        self.spend(size_of(state), 'the states that it sets')
        target.size += size_of(state)

    def call(self, function, args):
        name = name_of(function)
        if not isinstance(args, Object) or args.kind != 'tuple':
            raise PickleError('its pickle calls a function in an impossible way')
        self.spend(args.size, name)
        items = args.items
        if name in TENSORS:
            return tensor_of(name, items)
        if name == PARAMETER and items and isinstance(items[0], Object):
            return Object('tensor', expanded=items[0].expanded)
        if args.expanded:
            raise PickleError('it computes with a tensor of more elements than its storage has')
        if name in COLLECTIONS:
            if items:
                self.spend(_hashing(items[0], name), name)
            return Object(name, args.size, items=[])
        if name == ENCODE:
            if len(items) != 2 or not isinstance(items[0], str) or items[1] not in LATIN:
                raise PickleError('it encodes text in another way than pickles of bytes do')
            return Object('bytes', args.size)
        if name == 'torch.Size' and len(items) == 1 and isinstance(items[0], Object) and items[0].kind == 'tuple':
            return items[0]
        if name == 'builtins.getattr':
            asked = items[1] if len(items) == 2 and isinstance(items[1], str) else '...'
            if name_of(items[0] if items else None) != BUFFER or asked not in STATISTICS:
                raise PickleError('it asks for code', f'getattr(..., {asked[:50]!r})')
        if name not in SIMPLE and name not in self.declared:
            raise PickleError(f'it calls {name or "something unnamed"}, which is code and not data', name)
        return Object(name, args.size)


def _hashing(entries, name):
    """Return what the keys of a collection cost at worst, where all of them have one hash."""
    if not isinstance(entries, Object) or entries.kind != 'list':
        return size_of(entries) ** 2
    keys = entries.items
    if name == 'collections.OrderedDict':  # pairs, as Python 2 wrote them
        keys = [pair.items[0] if isinstance(pair, Object) and pair.items else pair for pair in keys]
    return len(keys) ** 2 * max((key.size for key in keys if isinstance(key, Object)), default=1)


_VALUES = {
    'NONE': lambda arg: None,
    'NEWTRUE': lambda arg: True,
    'NEWFALSE': lambda arg: False,
    'EMPTY_LIST': lambda arg: Object('list', items=[]),
    'EMPTY_DICT': lambda arg: Object('dict', items=[]),
    'EMPTY_SET': lambda arg: Object('set'),
    'LONG1': lambda arg: arg if abs(arg) < 2**63 else Object('int', items=arg),
    **dict.fromkeys(('BININT', 'BININT1', 'BININT2', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINSTRING'), lambda arg: arg),
}
