"""Every fast path of the operators under every condition in which a call is looked at, against plain PyTorch.

A fast path is a compiled kernel of an operator; a condition is a way to call: a transform, a mode, a subclass, a
tracer, a memory format, a module that is hooked, copied or written to. A condition gets the call and its tensors, and
returns tensors; what it returns for the automatic choice has to be what it returns for ordinary tensor operations.
"""

import copy
import io
import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mmext.layers import InceptionConv2d, Involution
from mmext.ops import inception_conv2d, involution
from mmext.ops.guard import SWITCH, describe_switch

RUNS = ((1, 1, 2), (2, 1, 1), (1, 3, 3))


def unfolded(x, weight, bias):
    """Involution by im2col; the bias stands for a channel's own, so that both operators have three tensors."""
    windows = F.unfold(x, 3, padding=1, stride=2)
    windows = windows.reshape(x.shape[0], 2, 2, 9, weight.shape[4], weight.shape[5])
    return (windows * weight.flatten(2, 3).unsqueeze(2)).sum(3).flatten(1, 2) + bias[:, None, None]


def dense(x, weight, bias):
    """Inception convolution by one convolution of 3 x 7 taps, most of them zero."""
    rows, first = [], 0
    for h, w, channels in RUNS:
        kernel = F.pad(weight[first : first + channels].new_zeros(()).expand(channels, 4, 5, 7), (0, 0))
        for u, v in itertools.product(range(3), range(3)):
            tap = F.pad(
                weight[first : first + channels, :, u, v][..., None, None], _around(2 + (u - 1) * h, 3 + (v - 1) * w)
            )
            kernel = kernel + tap
        rows.append(kernel)
        first += channels
    return F.conv2d(x, torch.cat(rows), bias, 2, (2, 3))


def _around(row, column):
    return column, 6 - column, row, 4 - row


def fast_involution(x, weight, bias):
    return involution(x, weight, 2) + bias[:, None, None]


def fast_inception(x, weight, bias):
    return inception_conv2d(x, weight, bias, RUNS, 2)


PATHS = {'involution': (fast_involution, unfolded), 'inception_conv2d': (fast_inception, dense)}


def tensors(name, dtype=torch.float32):
    x = torch.randn(2, 4, 6, 5, dtype=dtype)
    if name == 'involution':
        return x, torch.randn(2, 2, 3, 3, 3, 3, dtype=dtype), torch.randn(4, dtype=dtype)
    return x, torch.randn(6, 4, 3, 3, dtype=dtype), torch.randn(6, dtype=dtype)


def scalar(call):
    return lambda *args: call(*args).sin().sum()


def scaled(call, args):
    """A function of three factors of the tensors."""
    return lambda factors: scalar(call)(*(a * f for a, f in zip(args, factors)))


def likes(args, number=1):
    """So many other tensors of the same shapes, put in front."""
    generator = torch.Generator().manual_seed(7)
    return tuple(torch.randn(number, *a.shape, generator=generator).to(a.dtype) for a in args)


def backward(call, args, **options):
    args = [a.detach().requires_grad_() for a in args]
    out = call(*args, **options)
    return out, *torch.autograd.grad(out.sin().sum(), args)


# ------------------------------------------------------------------------------- derivatives and transforms


def forward_mode(call, args):
    tangents = [t[0] for t in likes(args)]
    results = []
    for chosen in itertools.product((False, True), repeat=3):  # each subset of tensors has a tangent
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(a, t) if c else a for a, t, c in zip(args, tangents, chosen)]
            out = forward_ad.unpack_dual(call(*duals))
            results += [out.primal, torch.zeros_like(out.primal) if out.tangent is None else out.tangent]
    return results


def forward_over_backward(call, args):
    """The backward pass of a graph made outside of the level in which the gradient gets a tangent."""
    args = [a.detach().requires_grad_() for a in args]
    out = call(*args)
    seed, tangent = torch.ones_like(out), torch.linspace(-1, 1, out.numel()).view_as(out)
    with forward_ad.dual_level():
        grads = torch.autograd.grad(out, args, forward_ad.make_dual(seed, tangent))
        return [part for g in grads for part in (g, forward_ad.unpack_dual(g).tangent)]


def second_derivative(call, args):
    args = [a.detach().requires_grad_() for a in args]
    grads = torch.autograd.grad(call(*args).sin().sum(), args, create_graph=True)
    return torch.autograd.grad(sum(g.square().sum() for g in grads), args)


def weight_of_x(call, args):
    """A second derivative where the weight depends on x, as in the layer: no path may be counted twice."""
    x, weight, bias = (a.detach().requires_grad_() for a in args)
    out = call(x, weight * x.mean(), bias)
    (first,) = torch.autograd.grad(out.sin().sum(), x, create_graph=True)
    return first, *torch.autograd.grad(first.square().sum(), (x, weight))


def batched_gradients(call, args):
    args = [a.detach().requires_grad_() for a in args]
    out = call(*args)
    many = torch.randn(3, *out.shape, generator=torch.Generator().manual_seed(3)).to(out.dtype)
    plain = torch.autograd.grad(out, args, many, is_grads_batched=True, retain_graph=True)
    return *plain, *torch.autograd.grad(out, args, many, is_grads_batched=True, create_graph=True)


def over_each(transform):
    """Apply a transform with respect to each tensor."""
    return lambda call, args: [transform(call, n)(*args) for n in range(3)]


def batched_over(call, args):
    """vmap over every subset of the tensors."""
    many = likes(args, 3)
    results = []
    for chosen in itertools.product((False, True), repeat=3):
        if any(chosen):
            given = [m if c else a for a, m, c in zip(args, many, chosen)]
            results.append(vmap(call, in_dims=tuple(0 if c else None for c in chosen))(*given))
    return results


TRANSFORMS = {
    'forward mode': forward_mode,
    'forward over backward': forward_over_backward,
    'second derivative': second_derivative,
    'weight of x': weight_of_x,
    'batched gradients': batched_gradients,
    'jvp': lambda call, args: jvp(call, args, tuple(t[0] for t in likes(args))),
    'vjp': lambda call, args: vjp(call, *args)[1](call(*args)),
    'linearize': lambda call, args: linearize(call, *args)[1](*(t[0] for t in likes(args))),
    'grad': lambda call, args: grad(scalar(call), (0, 1, 2))(*args),
    'grad of grad': lambda call, args: grad(lambda *a: grad(scalar(call))(*a).square().sum(), (0, 1))(*args),
    'jacrev': lambda call, args: jacrev(lambda *a: call(*a).sum((2, 3)), (0, 1, 2))(*args),
    'jacfwd': over_each(lambda call, n: jacfwd(lambda *a: call(*a).mean((0, 2, 3)), n)),
    'hessian': lambda call, args: hessian(scaled(call, args))(torch.ones(3)),
    'jacfwd of grad': lambda call, args: jacfwd(grad(scaled(call, args)))(torch.ones(3)),
    'vmap': batched_over,
    'vmap of vmap': lambda call, args: vmap(vmap(call, (0, None, None)), (0, None, None))(
        torch.stack(likes(args, 3)[:1] * 2), *args[1:]
    ),
    'vmap of grad': lambda call, args: vmap(grad(scalar(call), (0, 1, 2)))(*likes(args, 3)),
    'grad of vmap': lambda call, args: grad(lambda *a: vmap(call)(*a).sin().sum(), (0, 1, 2))(*likes(args, 3)),
    'vmap of jvp': lambda call, args: vmap(lambda t: jvp(lambda x: call(x, *args[1:]), args[:1], (t,)))(
        likes(args, 3)[0]
    ),
    'jvp of vmap': lambda call, args: jvp(vmap(call), likes(args, 3), likes(args, 3)),
    'jacobian, vectorized': lambda call, args: torch.autograd.functional.jacobian(
        lambda x: call(x, *args[1:]).sum((2, 3)), args[0], vectorize=True
    ),
    'compiled grad': lambda call, args: torch.compile(grad(scalar(call), (0, 1)), backend='aot_eager', fullgraph=True)(
        *args
    ),
    'compiled vmap': lambda call, args: torch.compile(vmap(call), backend='aot_eager', fullgraph=True)(*likes(args, 3)),
    'compiled jvp': lambda call, args: torch.compile(
        lambda *a: jvp(call, a, tuple(t.cos() for t in a)), backend='eager', fullgraph=True
    )(*args),
}

# ------------------------------------------------------------------------------- modes, subclasses, tracers


class Calls(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Named(torch.Tensor):
    """A subclass that changes nothing."""


class Wrapped(torch.Tensor):
    """A subclass without memory of its own, which knows PyTorch's operators; it stands for twice what it holds."""

    @staticmethod
    def __new__(cls, half):
        return torch.Tensor._make_wrapper_subclass(cls, half.shape, dtype=half.dtype, device=half.device)

    def __init__(self, half):
        self.half_of_it = half

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        assert func.namespace == 'aten'
        whole = lambda value: 2 * value.half_of_it if isinstance(value, Wrapped) else value  # noqa: E731
        args, kwargs = torch.utils._pytree.tree_map(whole, (args, kwargs or {}))
        return func(*args, **kwargs)


def inside(mode):
    def condition(call, args):
        with mode():
            return backward(call, args)

    return condition


def subclass(call, args):
    out = call(*(a.as_subclass(Named) for a in args))
    assert type(out) is Named
    return out.as_subclass(torch.Tensor), call(args[0], nn.Parameter(args[1]).as_subclass(Named), args[2]).detach()


def wrapper(call, args):
    return [call(Wrapped(args[0] / 2), *args[1:]), call(args[0], Wrapped(args[1] / 2), args[2])]


def torchscript(call, args):
    traced = torch.jit.trace(lambda *a: call(*a), args, check_trace=False)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    assert b'mmext' not in file.getvalue()
    file.seek(0)
    return backward(torch.jit.load(file), args)


class Whole(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x, weight, bias):
        return self.call(x, weight, bias)


def exported(call, args):
    return torch.export.export(Whole(call), args).module()(*args)


def autocast(call, args):
    with torch.autocast('cpu', torch.bfloat16):
        return backward(lambda *a: call(*a).float(), args)


def deterministic(call, args):
    torch.use_deterministic_algorithms(True)  # which also fills new memory with NaN
    try:
        return backward(call, args)
    finally:
        torch.use_deterministic_algorithms(False)


def other_defaults(call, args):
    """Kernels take memory whatever the default dtype and device are."""
    results = []
    for dtype in (torch.float16, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            with torch.device('meta'):
                results += backward(call, args)
            torch.set_default_device('meta')
            results += backward(call, args)
        finally:
            torch.set_default_device(None)
            torch.set_default_dtype(torch.float32)
    return results


def saved_on_disk(call, args):
    """Hooks on saved tensors see what is kept for the backward pass."""
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy().copy(), torch.from_numpy):
        return backward(call, args)


def negative_bit(call, args):
    """Tensors that are the negated imaginary part of others, a bit that memory does not show."""
    flipped = [torch.complex(torch.zeros_like(a), -a).conj().imag for a in args]
    assert all(f.is_neg() for f in flipped)
    return call(*flipped)


def inference(call, args):
    with torch.inference_mode():
        return call(*(a.clone() for a in args)).clone()


MODES = {
    'dispatch mode': inside(Calls),
    'function mode': inside(Functions),
    'subclass': subclass,
    'wrapper subclass': wrapper,
    'make_fx': lambda call, args: make_fx(call)(*args)(*args),
    'make_fx of a gradient': lambda call, args: make_fx(grad(scalar(call)))(*args)(*args),
    'make_fx, symbolic': lambda call, args: make_fx(call, tracing_mode='symbolic')(*args)(*args),
    'symbolic_trace': lambda call, args: torch.fx.symbolic_trace(Whole(call))(*args),
    'torchscript': torchscript,
    'compiled': lambda call, args: backward(torch.compile(call, backend='aot_eager', fullgraph=True), args),
    'compiled, dynamic': lambda call, args: torch.compile(call, backend='eager', fullgraph=True, dynamic=True)(*args),
    'exported': exported,
    'autocast': autocast,
    'deterministic': deterministic,
    'other defaults': other_defaults,
    'inference mode': inference,
    'no grad': lambda call, args: torch.no_grad()(call)(*args),
    'saved tensors hooks': saved_on_disk,
    'negative bit': negative_bit,
    'channels last': lambda call, args: backward(
        lambda x, *rest: call(x.to(memory_format=torch.channels_last), *rest), args
    ),
    'expanded': lambda call, args: backward(lambda x, *rest: call(x[:1].expand(2, -1, -1, -1), *rest), args),
}
BY_NAME = {**TRANSFORMS, **MODES}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('condition', BY_NAME)
def test_same_as_plain_operations(condition, path):
    torch._dynamo.reset()
    fast, plain = PATHS[path]
    args = tensors(path)
    found, expected = (BY_NAME[condition](call, args) for call in (fast, plain))
    tolerance = dict(rtol=2e-2, atol=2e-1) if condition == 'autocast' else dict(rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(found, expected, **tolerance)


# ------------------------------------------------------------------------------- modules


def layer(path):
    torch.manual_seed(1)
    if path == 'involution':
        return Involution(4, 3, stride=2, group_channels=2, reduction_ratio=2).eval()
    return InceptionConv2d(4, 6, 3, stride=2, pattern=RUNS).eval()


def plain(module):
    """The same layer in plain PyTorch."""
    module = copy.deepcopy(module)
    module.backend = 'reference'
    return module


def rewritten(module, x):
    """Weights written through .data between two calls, as averages of weights and pruning do."""
    module(x)
    for parameter in module.parameters():
        parameter.data.mul_(1.5)
        parameter.data = parameter.data.clone()
    return module(x)


def changed_by_hooks(module, x):
    seen = []
    handles = [
        module.register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
        module.register_forward_hook(lambda module, args, out: seen.append(out) or out + 1),
        module.register_full_backward_hook(lambda module, grads, outs: tuple(g * 3 for g in grads)),
        torch.nn.modules.module.register_module_forward_hook(lambda module, args, out: out * 0.5),
    ]
    x = x.detach().requires_grad_()
    try:
        out = module(x)
        return out, *torch.autograd.grad(out.sin().sum(), x), *seen
    finally:
        for handle in handles:
            handle.remove()


def with_other_weights(module, x):
    others = {name: value.detach() + 1 for name, value in module.named_parameters()}
    call = lambda values: functional_call(module, values, (x,)).sin().sum()  # noqa: E731
    return functional_call(module, others, (x,)), *grad(call)(others).values(), module(x)


def ensemble(module, x):
    """vmap over the weights of several networks."""
    modules = [module, copy.deepcopy(module)]
    for parameter in modules[1].parameters():
        parameter.data.neg_()
    parameters, buffers = torch.func.stack_module_state(modules)
    return vmap(lambda p, b: functional_call(module, (p, b), (x,)))(parameters, buffers)


def changed_in_place(module, x):
    """A tensor that the backward pass needs is written to: PyTorch's error, not another gradient."""
    out = module(x)
    with torch.no_grad():
        next(iter(module.parameters())).add_(1)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        out.sum().backward()
    return out


MODULES = {
    'rewritten': rewritten,
    'hooks': changed_by_hooks,
    'functional_call': with_other_weights,
    'ensemble': ensemble,
    'changed in place': changed_in_place,
    'deepcopy': lambda module, x: copy.deepcopy(module)(x),
    'pickle': lambda module, x: pickle.loads(pickle.dumps(module))(x),
    'other stride': lambda module, x: (setattr(module, 'stride', (1, 1)), module(x))[1],
    'double': lambda module, x: module.double()(x.double()).float(),
    'channels last': lambda module, x: module.to(memory_format=torch.channels_last)(x),
    'meta': lambda module, x: torch.zeros(module.to('meta')(x.to('meta')).shape),
}


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('condition', MODULES)
def test_layers_are_ordinary_modules(condition, path):
    if (path, condition) == ('involution', 'other stride'):
        pytest.skip('the kernels that the layer makes have the size of its stride')
    module, x = layer(path), torch.randn(2, 4, 6, 5)
    expected = MODULES[condition](plain(module), x)
    torch.testing.assert_close(MODULES[condition](module, x), expected, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------- counts, names, the switch

MULTIPLY_ADDS = {'involution': 2 * 4 * 9 * 9, 'inception_conv2d': 2 * 6 * 4 * 9 * 9}


@pytest.mark.parametrize('backend', [None, 'cpu', 'reference'])
@pytest.mark.parametrize('path', PATHS)
def test_operations_are_counted(path, backend):
    x, weight, _ = tensors(path)
    x.requires_grad_()
    weight.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        if path == 'involution':
            out = involution(x, weight, 2, backend=backend)
        else:
            out = inception_conv2d(x, weight, None, RUNS, 2, backend=backend)
    assert counter.get_total_flops() == 2 * MULTIPLY_ADDS[path]
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    assert counter.get_total_flops() == 2 * MULTIPLY_ADDS[path] * 2  # one product with each input


def test_graphs_hold_ordinary_convolutions():
    graph = make_fx(fast_inception)(*tensors('inception_conv2d')).graph
    targets = {node.target for node in graph.nodes if node.op == 'call_function'}
    assert torch.ops.aten.convolution.default in targets
    assert {target.namespace for target in targets} == {'aten'}


def test_autocast_leaves_float64_alone():
    for path, (fast, plain) in PATHS.items():
        args = tensors(path, torch.float64)
        with torch.autocast('cpu', torch.bfloat16):
            out = fast(*args)
        torch.testing.assert_close(out, plain(*args))


def test_workspace_has_room_whatever_the_default_dtype_is():
    from mmext.ops.inception_conv import cpu

    x, weight, bias = tensors('inception_conv2d')
    cpu._kept.__dict__.clear()
    torch.set_default_dtype(torch.float16)
    try:
        fast_inception(x, weight, bias)
    finally:
        torch.set_default_dtype(torch.float32)
    assert cpu._kept.buffer.dtype == torch.float32


@pytest.mark.parametrize('path', PATHS)
def test_fake_tensors_have_shapes(path):
    from torch._subclasses import FakeTensorMode

    fast = PATHS[path][0]
    args = tensors(path)
    expected = fast(*args)
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(a) for a in args]
        out = fast(*fakes)
    assert out.shape == expected.shape
    assert fast(*fakes).shape == expected.shape  # outside of the mode, too


@pytest.mark.parametrize('dynamic', [False, True])
def test_named_backend_compiles_to_one_operator(dynamic):
    x, weight, bias = tensors('inception_conv2d')
    targets = []

    def note(graph, inputs):
        targets.extend(node.target for node in graph.graph.nodes)
        return graph

    torch._dynamo.reset()
    call = lambda *args: inception_conv2d(*args, RUNS, 2, backend='cpu')  # noqa: E731
    found = torch.compile(call, backend=note, fullgraph=True, dynamic=dynamic)(x, weight, bias)
    torch.testing.assert_close(found, dense(x, weight, bias), rtol=1e-4, atol=1e-4)
    assert torch.ops.mmext.inception_conv2d.default in targets


@pytest.mark.parametrize('path', PATHS)
def test_named_backend_says_why_it_cannot_run(path, monkeypatch):
    x, weight, _ = tensors(path)
    call = {
        'involution': lambda x: involution(x, weight, 2, backend='cpu'),
        'inception_conv2d': lambda x: inception_conv2d(x, weight, None, RUNS, 2, backend='cpu'),
    }[path]
    message = "backend='cpu' cannot run here: a transform of torch.func, or forward-mode differentiation, is active; "
    with pytest.raises(RuntimeError, match=message):
        vmap(call)(x[None])
    with pytest.raises(
        RuntimeError, match="backend='cpu' cannot run here: a tensor is a Wrapped, a subclass of Tensor"
    ):
        call(Wrapped(x))


@pytest.mark.parametrize('operator', ['involution', 'inception_conv2d'])
def test_operators_without_the_public_function_have_no_silent_tangents(operator):
    x, weight, bias = tensors(operator)
    op = getattr(torch.ops.mmext, operator).default
    rest = (weight, 2, 1, 1, '') if operator == 'involution' else (weight, bias, list(sum(RUNS, ())), [2, 2], 1)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=f'call mmext.ops.{operator}, which has'):
        op(forward_ad.make_dual(x, x), *rest)


@pytest.mark.parametrize('operator', ['involution', 'inception_conv2d'])
def test_operators_check_what_a_graph_gives_them(operator):
    """A kernel that trusted a graph would read where there is no memory."""
    x, weight, bias = tensors(operator)
    op = getattr(torch.ops.mmext, operator).default
    if operator == 'involution':
        args = x, weight[..., :2], 2, 1, 1, ''
    else:
        args = x, weight[:, :3], bias, list(sum(RUNS, ())), [2, 2], 1
    with pytest.raises(ValueError, match='weight'):
        op(*args)


@pytest.fixture
def kernels(monkeypatch):
    """The names of the operators whose compiled kernels have run."""
    from mmext.ops.inception_conv import cpu as inception_cpu
    from mmext.ops.involution import cpu as involution_cpu

    names = []
    for module, function, name in (
        (involution_cpu, 'involution_forward', 'involution'),
        (inception_cpu, 'inception_conv_forward', 'inception_conv2d'),
    ):
        original = getattr(module, function)
        note = lambda *args, original=original, name=name: (names.append(name), original(*args))[1]  # noqa: E731
        monkeypatch.setattr(module, function, note)
    return names


@pytest.mark.parametrize('path', PATHS)
def test_one_switch_for_every_operator(path, kernels, monkeypatch):
    fast = PATHS[path][0]
    args = tensors(path)
    variable = {'involution': 'MMEXT_INVOLUTION_BACKEND', 'inception_conv2d': 'MMEXT_INCEPTION_CONV_BACKEND'}[path]
    for name in (variable, SWITCH):
        monkeypatch.delenv(name, raising=False)
    assert 'is not set' in describe_switch()
    fast(*args)
    assert kernels == [path]
    monkeypatch.setenv(SWITCH, 'reference')
    assert describe_switch().startswith('MMEXT_BACKEND=reference: ')
    fast(*args)
    assert kernels == [path]
    monkeypatch.setenv(variable, 'cpu')  # of one operator, before the switch for all
    fast(*args)
    assert kernels == [path, path]
    monkeypatch.delenv(variable)
    monkeypatch.setenv(SWITCH, 'cpu')
    assert 'is unknown' in describe_switch()
    with pytest.raises(ValueError, match=f"MMEXT_BACKEND=cpu is unknown; 'reference' turns .*{variable}"):
        fast(*args)


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('condition', ['no grad', 'deterministic', 'inference mode', 'saved tensors hooks'])
def test_ordinary_calls_keep_the_kernels(condition, path, kernels):
    BY_NAME[condition](PATHS[path][0], tensors(path))
    assert kernels == [path]


@pytest.mark.parametrize('needs', [(True, True), (True, False), (False, True)])
def test_opcheck_of_inception_conv2d(needs):
    x, weight, bias = (t.requires_grad_() for t in tensors('inception_conv2d'))
    pattern = list(sum(RUNS, ()))
    for offset in (bias, None):
        torch.library.opcheck(torch.ops.mmext.inception_conv2d.default, (x, weight, offset, pattern, [2, 2], 1))
    last = x.detach().to(memory_format=torch.channels_last)
    torch.library.opcheck(torch.ops.mmext.inception_conv2d.default, (last, weight, bias, pattern, [1, 2], 1))
    args = torch.randn(2, 6, 3, 3), x.detach(), weight.detach(), pattern, [2, 2], 1, *needs
    torch.library.opcheck(torch.ops.mmext.inception_conv2d_backward.default, args)
    double = (torch.randn(2, 6, 3, 3).double(), x.detach().double(), weight.detach().double(), *args[3:])
    torch.library.opcheck(torch.ops.mmext.inception_conv2d_backward.default, double)  # by convolutions
