import copy
import io
import pickle
import warnings

import pytest
import torch
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.runner import load_state_dict
from orders import Network, Two, conv, norm
from test_orders import assert_same, fused, images, norms, with_statistics
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import mmext
from mmext.fusing.products import FoldedNorm


class Scaled(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Training(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(True)


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


class Doubled(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, 2 * weight, bias)


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2


class OwnParameter(nn.Conv2d):
    def __init__(self, *args):
        super().__init__(*args)
        self.gain = nn.Parameter(torch.ones(1))


def pruned(model):
    prune.l1_unstructured(model.conv1, 'weight', 0.5)


def pruned_bias(model):
    prune.random_unstructured(model.conv1, 'bias', 0.5)


def pruned_norm(model):
    prune.random_unstructured(model.bn1, 'weight', 0.5)


def parametrised(model):
    parametrize.register_parametrization(model.conv1, 'weight', Half())


def parametrised_norm(model):
    parametrize.register_parametrization(model.bn1, 'bias', Half())


def weight_norm(model):
    parametrizations.weight_norm(model.conv1)


def old_weight_norm(model):
    nn.utils.weight_norm(model.conv1)


def spectral_norm(model):
    parametrizations.spectral_norm(model.conv1)


def old_spectral_norm(model):
    nn.utils.spectral_norm(model.conv1)


def nothing(*args):
    return None


def hook(model):
    model.conv1.register_forward_hook(nothing)


def pre_hook(model):
    model.conv1.register_forward_pre_hook(nothing)


def backward_hook(model):
    model.conv1.register_full_backward_hook(nothing)


def norm_hook(model):
    model.bn1.register_forward_hook(nothing)


def norm_backward_pre_hook(model):
    model.bn1.register_full_backward_pre_hook(nothing)


def own_forward(model):
    model.conv1.forward = Standardised.forward.__get__(model.conv1)


def own_norm(model):
    model.bn1 = Scaled(4)


def own_conv(model):
    model.conv1 = Standardised(4, 4, 3, padding=1)


def own_conv_forward(model):
    model.conv1 = Doubled(4, 4, 3, padding=1)


def own_parameter(model):
    model.conv1 = OwnParameter(4, 4, 3, 1, 1)


def always_training(model):
    model.bn1 = Training(4)


REASONS = {
    pruned: r'is pruned; call torch\.nn\.utils\.prune\.remove',
    pruned_bias: 'is pruned',
    pruned_norm: 'BatchNorm2d is pruned',
    parametrised: r'parametrised; call torch\.nn\.utils\.parametrize\.remove_parametrizations',
    parametrised_norm: 'is parametrised',
    weight_norm: 'is parametrised',
    old_weight_norm: 'weight normalisation; call torch.nn.utils.remove_weight_norm',
    spectral_norm: 'is parametrised',
    old_spectral_norm: 'spectral normalisation; call torch.nn.utils.remove_spectral_norm',
    hook: 'Conv2d has hooks, which would see something else; remove them first',
    pre_hook: 'Conv2d has hooks',
    backward_hook: 'Conv2d has hooks',
    norm_hook: 'BatchNorm2d has hooks',
    norm_backward_pre_hook: 'BatchNorm2d has hooks',
    own_forward: 'Conv2d has a forward of its own',
    own_norm: 'Scaled has a forward of its own',
    own_conv: 'Standardised has a forward of its own',
    own_conv_forward: 'Doubled has a forward of its own',
    own_parameter: 'OwnParameter has other parameters than weight and bias',
    always_training: 'Training stays in training mode',
}


@pytest.mark.parametrize('with_example', [False, True])
@pytest.mark.parametrize('change', REASONS)
def test_left_as_it_is_and_named(change, with_example):
    model = Two()
    change(model)
    with_statistics(model)
    model(images())  # pruned weights and the like are results now, which PyTorch does not copy
    with pytest.warns(UserWarning, match=rf'leaves these as they are: conv1 -> bn1 \(.*{REASONS[change]}'):
        product = mmext.fuse(model, images() if with_example else None)
    assert [name for name, module in product.named_modules() if isinstance(module, FoldedNorm)] == ['bn2']
    assert_same(model, product, images())


@pytest.mark.parametrize('change', REASONS)
def test_nothing_else_to_fold(change):
    model = Two()
    change(model)
    model.conv2, model.bn2 = nn.Identity(), nn.Identity()
    with pytest.raises(ValueError, match=rf'left as they are: conv1 -> bn1 \(.*{REASONS[change]}'):
        mmext.fuse(with_statistics(model))


@pytest.mark.parametrize('example', [None, images()])
def test_a_forward_that_takes_another_weight(example):
    model = Two()
    model.conv1.forward = model.conv2.forward
    model = with_statistics(nn.Sequential(model, conv(), norm()))
    product = fused(model, example)
    assert len(norms(product)) == 2
    assert_same(model, product, images())


def test_cures_that_are_named():
    model = Two()
    parametrised(model)
    parametrize.remove_parametrizations(model.conv1, 'weight')
    pruned(model)
    prune.remove(model.conv1, 'weight')
    old_weight_norm(model)
    nn.utils.remove_weight_norm(model.conv1)
    with_statistics(model)
    assert norms(fused(model)) == []


def test_lazy_layers():
    model = nn.Sequential(nn.Identity(), nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), conv(), norm())
    with pytest.raises(ValueError, match=r'1 \(LazyConv2d\) is not initialised; run the model once first'):
        mmext.fuse(model)
    model(images())
    product = fused(with_statistics(model))
    assert norms(product) == []
    assert_same(model, product, images())


def test_layers_without_values():
    model = Two().to('meta')
    with pytest.raises(ValueError, match=r'meta device, which have no values; load the weights first'):
        mmext.fuse(model)
    model = Two()
    model.conv1.to('meta')
    with pytest.warns(UserWarning, match='conv1 -> bn1 .*meta device'):
        mmext.fuse(model)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes(dtype):
    model = with_statistics(Two()).to(dtype)
    product = fused(model, images().to(dtype))
    assert norms(product) == []
    assert {value.dtype for value in product.state_dict().values()} == {dtype}
    wide = copy.deepcopy(model).double()
    with torch.no_grad():
        expected = wide(images().double())
        error, rounding = (
            (network(images().to(dtype)).double() - expected).abs().max() for network in (product, model)
        )
    assert error < 4 * rounding + 1e-12


def test_half_convolutions_with_float_norms():
    model = with_statistics(Two()).half()
    for module in norms(model):
        module.float()
    product = fused(model)
    assert {value.dtype for value in product.state_dict().values()} == {torch.float16}


def test_dtypes_that_do_not_go_together():
    model = Two()
    model.bn1.double()
    with pytest.warns(UserWarning, match=r'conv1 -> bn1 \(the convolution is torch.float32, the norm torch.float64'):
        mmext.fuse(model)
    model = Two()
    model.conv1.to(torch.complex64)
    with pytest.warns(UserWarning, match=r'conv1 -> bn1 \(the weight is torch.complex64, not floating point'):
        mmext.fuse(model)


def test_weights_out_of_range():
    model = with_statistics(Two()).half()
    model.bn1.running_var.zero_()
    model.bn1.weight.data.fill_(6e4)
    with pytest.warns(UserWarning, match='out of the range of torch.float16'):
        assert len(norms(mmext.fuse(model))) == 1


@pytest.mark.parametrize('make', [
    lambda: nn.BatchNorm2d(4, affine=False), lambda: nn.BatchNorm2d(4, eps=0.1), lambda: nn.SyncBatchNorm(4),
    lambda: revert_sync_batchnorm(nn.SyncBatchNorm(4)), lambda: nn.BatchNorm2d(4, momentum=None),
])  # fmt: skip
def test_norms(make):
    model = Two()
    model.bn1 = make()
    with_statistics(model)
    product = fused(model)
    assert norms(product) == []
    assert_same(model, product, images())


def test_norms_without_statistics():
    model = Two()
    model.bn1 = nn.BatchNorm2d(4, track_running_stats=False)
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        product = mmext.fuse(model)
    assert len(norms(product)) == 1
    assert_same(model, product, images())


@pytest.mark.parametrize(('dimensions', 'options'), [
    (1, {}), (2, dict(groups=2)), (2, dict(bias=False)), (2, dict(padding_mode='circular')), (3, {}),
    (2, dict(padding='same', dilation=2)), (2, dict(stride=2, groups=4)), (3, dict(padding_mode='replicate')),
])  # fmt: skip
def test_convolutions(dimensions, options):
    options = dict(padding=1) | options
    layer = getattr(nn, f'Conv{dimensions}d')(4, 8, 3, **options)
    model = with_statistics(nn.Sequential(layer, getattr(nn, f'BatchNorm{dimensions}d')(8), nn.ReLU()))
    product = fused(model)
    assert norms(product) == []
    assert_same(model, product, torch.randn(2, 4, *[6] * dimensions))


def test_weights_that_are_tied_to_another_layer():
    class Tied(Network):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 4, bias=False)
            self.conv = nn.Conv2d(4, 4, 1)
            self.conv.weight = nn.Parameter(self.conv.weight.detach())
            self.last.weight = nn.Parameter(torch.eye(4))
            self.norm_of_last = nn.BatchNorm2d(4)
            self.norm_of_last.weight = self.bn.weight

        def forward(self, x):
            return self.norm_of_last(self.last(super().forward(x).movedim(1, -1)).movedim(-1, 1))

    model = with_statistics(Tied())
    for example in (None, images()):
        product = fused(model, example)
        assert len(norms(product)) == 1
        assert_same(model, product, images())


def test_product_is_frozen_and_travels():
    model = with_statistics(nn.Sequential(Two(), nn.Dropout(0.5), norm())).train()
    product = fused(model)
    assert model.training
    assert not any(module.training for module in product.modules())
    assert not any(parameter.requires_grad for parameter in product.parameters())
    model.eval()
    for other in (copy.deepcopy(product), pickle.loads(pickle.dumps(product)), copy.copy(product)):
        assert_same(product, other, images())
    file = io.BytesIO()
    torch.save(product.state_dict(), file)
    file.seek(0)
    twin = fused(nn.Sequential(Two(), nn.Dropout(0.5), norm()))
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert_same(model, twin, images())
    for load in (lambda state: twin.load_state_dict(state, strict=False), lambda state: load_state_dict(twin, state)):
        with pytest.raises(RuntimeError, match=r'has 0\.bn1\.weight, it is that of a model whose norms are not folded'):
            load(model.state_dict())
    other = {key: value * 2 for key, value in product.state_dict().items() if key.startswith('2.')}
    with torch.no_grad():
        assert not torch.equal(torch.func.functional_call(product, other, images()), product(images()))
    wide = copy.deepcopy(product).double()
    assert_same(copy.deepcopy(model).double(), wide, images().double())
    assert_same(model, torch.jit.trace(product, images()), images())
    compiled = torch.compile(product, backend='eager', fullgraph=True)
    assert_same(model, compiled, images())


def test_gradients_of_the_input():
    model = with_statistics(Two())
    product = fused(model)
    grads = []
    for network in (model, product):
        x = images().requires_grad_()
        network(x).square().sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4 * float(grads[0].abs().max()))


def test_in_inference_mode():
    model = with_statistics(Two())
    with torch.inference_mode():
        product = fused(model)
        assert_same(model, product, images())
    assert norms(product) == []


@pytest.mark.parametrize('wrap', [
    nn.DataParallel, lambda model: torch.jit.script(model), lambda model: torch.jit.trace(model, images()),
    torch.compile, lambda model: model.forward, lambda model: model.state_dict(),
])  # fmt: skip
def test_wrappers(wrap):
    with pytest.raises(TypeError, match=r'model is (a|of type) .*(model\.module|before it is|give an nn\.Module)'):
        mmext.fuse(wrap(with_statistics(Two())))


class Form(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        return self.part(x)


class Own(Two):
    """Brings a form of its own."""

    def fused(self):
        assert not self.training
        return Form(self)


class OwnInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Network()
        self.own = Own()
        self.again = self.own

    def forward(self, x):
        return self.again(self.own(self.stem(x)))


@pytest.mark.parametrize('example', [None, images()])
def test_forms_of_their_own(example):
    model = with_statistics(OwnInside())
    product = fused(model, example)
    assert type(product.own) is Form
    assert product.again is product.own
    assert not product.own.part.conv1.weight.requires_grad
    assert [name for name, module in product.named_modules() if isinstance(module, FoldedNorm)] == ['stem.bn']
    assert_same(model, product, images())
    assert type(fused(model.own, example)) is Form


def test_forms_of_outermost_modules():
    class Outer(OwnInside):
        def fused(self):
            return Form(self)

    product = fused(with_statistics(nn.Sequential(Outer())))
    assert type(product[0]) is Form
    assert type(product[0].part.own) is Own


def test_forms_that_are_no_modules():
    class Wrong(Two):
        def fused(self):
            return None

    with pytest.raises(TypeError, match=r'Wrong\.fused\(\) returns a NoneType; it must be an nn\.Module'):
        mmext.fuse(with_statistics(Wrong()))


def test_forms_with_other_results_are_found_on_the_example():
    class Wrong(Two):
        def fused(self):
            return nn.Identity()

    with pytest.raises(RuntimeError, match='output 0 differs'):
        mmext.fuse(with_statistics(Wrong()), images())
