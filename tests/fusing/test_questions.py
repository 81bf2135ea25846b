"""Networks that ask what a trace answers in another way than a run, or what folding itself changes."""

import operator
import random
import warnings

import numpy
import pytest
import torch
from mmcv.cnn import ConvModule
from orders import Network
from test_orders import assert_same, fused, images, norms, with_statistics
from torch import fx, nn

import mmext
from mmext.fusing.products import BatchedFoldedNorm, FoldedNorm, FusedConvModule

DTYPES = {torch.float32: 1}


def helper(x):
    return type(x) is torch.Tensor


def generator():
    return torch.rand(()).item() > 2


CONDITIONS = {
    'type': lambda x: type(x) is torch.Tensor,
    'type in a function': lambda x: helper(x),
    'name of the type': lambda x: type(x).__name__ == 'Tensor',
    'dtype': lambda x: x.dtype is torch.float32,
    'not dtype': lambda x: not (x.dtype is not torch.float32),
    'dtype in a set': lambda x: x.dtype in {torch.float32, torch.float16},
    'dtype in a dict': lambda x: DTYPES.get(x.dtype),
    'device in a dict': lambda x: x.device.type in {'cpu': 1},
    'size in a set': lambda x: x.shape[-2:] in {(6, 8)},
    'text of the dtype': lambda x: str(x.dtype) == 'torch.float32',
    'end of the text': lambda x: f'{x.dtype}'.endswith('32'),
    'text in a dict': lambda x: repr(x.dtype) in {'torch.float32': 1},
    'layout': lambda x: x.layout is torch.strided,
    'callable': lambda x: not callable(x),
    'identity as a function': lambda x: operator.is_(x.dtype, torch.float32),
    'gradient': lambda x: x.grad_fn is None,
    'leaf': lambda x: x.is_leaf is True,
    'inference mode': lambda x: torch.is_inference_mode_enabled(),
    'autocast': lambda x: torch.is_autocast_enabled('cpu'),
    'jit': lambda x: torch.jit.is_tracing(),
    'compilation': lambda x: torch.compiler.is_compiling(),
    'determinism': lambda x: torch.are_deterministic_algorithms_enabled(),
    'random number': lambda x: random.random() > 2,
    'random number of NumPy': lambda x: numpy.random.rand() > 2,
    'random number of PyTorch': lambda x: generator(),
}
NOT_NOW = {
    name
    for name in CONDITIONS
    if name.startswith(('inference', 'autocast', 'jit', 'compilation', 'determinism', 'random'))
}


def conditioned(condition):
    class Conditioned(Network):
        def forward(self, x):
            y = self.conv(x)
            return y.relu() if condition(x) else self.bn(y)

    return with_statistics(Conditioned())


@pytest.mark.parametrize('name', CONDITIONS)
def test_questions_need_an_example(name):
    model = conditioned(CONDITIONS[name])
    with pytest.raises(ValueError, match=r'torch\.fx cannot trace Conditioned: .*Concerned: conv -> bn$'):
        fused(model)
    product = fused(model, images())
    assert len(norms(product)) == (name not in NOT_NOW)
    assert_same(model, product, images())


def test_keyword_arguments_need_an_example():
    class Keywords(Network):
        def forward(self, x, **given):
            y = self.conv(x)
            return y if given.get('raw') else self.bn(y)

    model = with_statistics(Keywords())
    with pytest.raises(ValueError, match='takes any number of arguments'):
        fused(model)
    assert norms(fused(model, images())) == []


def test_random_numbers_stay_as_they_are():
    model = conditioned(lambda x: random.random() + torch.rand(()).item() > 5)
    states = random.getstate(), torch.get_rng_state()
    with pytest.raises(ValueError, match='random numbers may decide what runs'):
        fused(model)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


class Harmless(Network):
    """Asks what decides nothing, or is answered as in a run."""

    def forward(self, x, scale=None, **unused):
        if x.dim() != 4:
            raise ValueError(f'{type(self).__name__} takes images, not {type(x).__name__} of {x.shape}')
        if x.dtype not in (torch.float32, torch.float64):
            raise TypeError(f'got a {type(x)} of {x.dtype}')
        return self.bn(self.conv(x)) * (1 if scale is None else scale)


def test_harmless_questions():
    model = with_statistics(Harmless())
    assert norms(fused(model)) == []


class Counted(Network):
    calls = 0

    def forward(self, x):
        y = self.conv(x)
        self.calls += 1
        return y if self.calls > 5 else self.bn(y)


class CountedInDict(Network):
    def __init__(self):
        super().__init__()
        self.state = {'calls': [0]}

    def forward(self, x):
        y = self.conv(x)
        self.state['calls'][0] += 1
        return y if self.state['calls'][0] > 5 else self.bn(y)


@pytest.mark.parametrize('network', [Counted, CountedInDict])
def test_a_forward_that_changes_what_it_stores(network):
    with pytest.raises(ValueError, match='its forward changes what it stores'):
        fused(with_statistics(network()))


class OtherWeights(Network):
    def __init__(self):
        super().__init__()
        self.others = [torch.ones(4, 4, 3, 3)]

    def forward(self, x):
        return self.bn(torch.func.functional_call(self.conv, {'weight': self.others[0]}, (x,)))


class OtherStatistics(OtherWeights):
    def forward(self, x):
        return torch.func.functional_call(self.bn, {'running_mean': self.others[0][0, :, 0, 0]}, (self.conv(x),))


class OtherEpsilon(Network):
    def forward(self, x):
        y = self.conv(x)
        self.bn.eps = 1.0
        return self.bn(y)


@pytest.mark.parametrize('network', [OtherWeights, OtherStatistics])
@pytest.mark.parametrize('example', [None, images()])
def test_layers_that_run_with_other_tensors_stay(network, example):
    model = with_statistics(network())
    product = fused(model, example)
    assert len(norms(product)) == 1
    assert_same(model, product, images())


def test_layers_that_a_forward_changes_stay():
    for example in (None, images()):
        model = with_statistics(OtherEpsilon())
        product = fused(model, example)
        assert len(norms(product)) == 1
        assert_same(model, product, images())


class AsksForBias(Network):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, bias=False)

    def forward(self, x):
        y = self.bn(self.conv(x))
        return y if self.conv.bias is None else y * 2


class SubtractsBias(AsksForBias):
    def forward(self, x):
        y = self.bn(self.conv(x))
        return y if self.conv.bias is None else y - self.conv.bias[:, None, None]


class AsksForNorm(Network):
    def forward(self, x):
        y = self.bn(self.conv(x))
        return y * 2 if isinstance(self.bn, nn.BatchNorm2d) else y


class AsksForFeatures(Network):
    def forward(self, x):
        return self.bn(self.conv(x)) * getattr(self.bn, 'num_features', 1)


class CountsParameters(Network):
    def forward(self, x):
        return self.bn(self.conv(x)) * len(list(self.parameters()))


class AsksForGradients(Network):
    def forward(self, x):
        return self.bn(self.conv(x)) * (2 if self.bn.weight.requires_grad else 1)


class AsksForFrozen(Network):
    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.last(self.bn(self.conv(x)))
        return y * 2 if any(part.requires_grad for part in self.last.parameters()) else y


@pytest.mark.parametrize(
    'network',
    [AsksForBias, SubtractsBias, AsksForNorm, AsksForGradients, AsksForFrozen, AsksForFeatures, CountsParameters],
)
@pytest.mark.parametrize('around', [lambda part: part, nn.Sequential])
def test_what_folding_itself_changes(network, around):
    model = with_statistics(around(network()))
    with pytest.raises(RuntimeError, match='runs other operations: its forward depends on what folding changes'):
        fused(model)
    with pytest.raises(RuntimeError):
        fused(model, images())


def test_signals_without_a_batch():
    model = with_statistics(nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8)))
    product = mmext.fuse(model)
    assert type(product[1]) is BatchedFoldedNorm
    assert_same(model, product, torch.randn(2, 3, 8))
    assert model(torch.randn(3, 8)).shape == (8, 8)  # taken for [N, C]
    with pytest.raises(AssertionError, match=r'with a batch dimension only: \[N, C, \.\.\.\]'):
        product(torch.randn(3, 8))
    x = torch.randn(2, 3, 8)
    for again in (fx.symbolic_trace(product), torch.jit.trace(product, x), torch.jit.script(product)):
        assert_same(model, again, x)
    assert_same(model, torch.compile(product, backend='eager', fullgraph=True), x)


def test_synchronised_norms_take_images_without_a_batch():
    model = with_statistics(nn.Sequential(nn.Conv2d(4, 4, 3), nn.SyncBatchNorm(4)))
    product = mmext.fuse(model)
    assert_same(model, product, images())
    with pytest.raises(AssertionError, match='with a batch dimension only'):
        product(images()[0])
    assert type(mmext.fuse(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))[1]) is FoldedNorm


def test_norms_for_other_dimensions():
    """The output [C, H, W] of an image without a batch is taken for [N, C, L]."""
    model = with_statistics(nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm1d(6), nn.Flatten(0)))
    with pytest.raises(ValueError, match='BatchNorm1d does not take the output of a Conv2d with a batch dimension'):
        mmext.fuse(model)


def test_parts_of_mmcv_without_their_norm():
    model = with_statistics(nn.Sequential(*(ConvModule(4, 4, 1, norm_cfg=dict(type='BN')) for _ in range(2))))
    product = fused(model)
    assert all(type(part) is FusedConvModule for part in product)
    assert_same(model, product, images())
    with pytest.raises(ValueError, match='norm=False: the norm is folded'):
        product[0](images(), norm=False)


def test_norms_behind_modules_of_mmcv():
    model = with_statistics(nn.Sequential(ConvModule(4, 4, 1, act_cfg=None), nn.BatchNorm2d(4)))
    product = fused(model)
    assert norms(product) == []
    assert type(product[0]) is ConvModule


@pytest.mark.parametrize('register', [
    'register_backward_hook', 'register_full_backward_hook', 'register_full_backward_pre_hook'
])  # fmt: skip
def test_backward_hooks_of_other_modules(register):
    model = with_statistics(nn.Sequential(Network(), nn.ReLU()))
    seen = []
    getattr(model[0], register)(lambda *args: seen.append(args[0]))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        product = mmext.fuse(model)
    assert norms(product) == []
    x = images().requires_grad_()
    product(x).sum().backward()
    assert seen == [product[0]]
    assert_same(model, product, images())


def test_reasons_are_named_once():
    class ByLength(nn.Sequential):
        def forward(self, x):
            return super().forward(x[: len(x)])

    model = ByLength(*(layer for _ in range(12) for layer in (nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))))
    with pytest.raises(ValueError) as error:
        fused(model)
    message = str(error.value)
    assert message.startswith('give an example to run ByLength on: mmext.fuse(model, example=...)')
    assert message.count('the length of a value decides what runs') == 1
    assert message.endswith('14 -> 15 and 4 more')
    assert len(message) < 500


def test_nothing_detected():
    class Empty(Network):
        def forward(self, x):
            return super().forward(x)[:0]

    with pytest.raises(ValueError, match=r'no floating-point tensor with values .*\(no detections\?\)'):
        fused(with_statistics(Empty()), images())
    with pytest.raises(ValueError, match=r'cannot be run on the example .*model\.data_preprocessor\(batch, False\)'):
        fused(with_statistics(Network()), torch.zeros(3))
