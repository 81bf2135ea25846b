import copy
import gc
import pickle
import warnings

import pytest
import torch
from mmcv.cnn import ConvModule
from orders import RUN, TRACED, ByLength, Network, PartByLength, conv, norm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import mmext
from mmext.fusing.flow import tensors_in


def with_statistics(model):
    """Give every norm statistics and weights of its own; return the model in evaluation mode."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    model.eval()  # which returns nothing in some networks of the toolboxes
    return model


def norms(model):
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def fused(model, example=None):
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'mmext.fuse')
        return mmext.fuse(model, example)


def images():
    return torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(1))


def assert_same(model, other, *args):
    with torch.no_grad():
        found, expected = tensors_in(other(*args)), tensors_in(model(*args))
    assert len(found) == len(expected) > 0
    for one, two in zip(found, expected):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5 * float(two.abs().max()))


@pytest.mark.parametrize('network', [network for network, count in TRACED.items() if count is not None])
def test_traced(network):
    model = with_statistics(network())
    before = copy.deepcopy(model.state_dict())
    product = fused(model)
    assert len(norms(model)) - len(norms(product)) == TRACED[network]
    for x in (images(), -images(), images() - 5, images() + 5):
        assert_same(model, product, x)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize('network', RUN)
def test_run_on_an_example(network):
    model = with_statistics(network())
    product = fused(model, images() + 5)  # the sum is positive: the branch on which a norm follows
    assert len(norms(model)) - len(norms(product)) == RUN[network]
    for x in (images(), -images(), images() - 5):
        assert_same(model, product, x)


@pytest.mark.parametrize('network', [network for network, count in TRACED.items() if count is None])
def test_refused_by_name_where_only_an_example_shows_it(network):
    model = with_statistics(network())
    with pytest.raises(
        ValueError,
        match=r'^give an example to run .*mmext\.fuse\(model, example=\.\.\.\).* \(torch.fx cannot trace .*\)\. '
        r'Concerned: (part.conv -> part.bn|conv -> bn|features.0 -> features.1)(,|$)',
    ):
        fused(model)


def test_what_a_trace_shows_is_not_asked_for():
    with pytest.raises(ValueError, match=r'Concerned: part\.conv -> part\.bn$') as error:
        fused(with_statistics(PartByLength()))
    assert 'stem.conv' not in str(error.value)


def test_a_recording_alone_sees_what_a_trace_sees(monkeypatch):
    """Without the trace's help."""
    from mmext.fusing import network as module

    def nothing(root, flow, uncertain, guarded, graphs):
        uncertain.update((part, 'not traced') for part in root.modules())

    monkeypatch.setattr(module, 'study', nothing)
    monkeypatch.setattr(gc, 'collect', lambda: None)  # slow, and nothing here is in a cycle
    some_inputs_only = {'DependsOnData', 'Conditioned', 'Caught', 'Option', 'Masked', 'GradMode'}
    for network, count in RUN.items():
        if network.__name__ not in some_inputs_only:
            model = with_statistics(network())
            product = fused(model, images())
            assert (network, len(norms(model)) - len(norms(product))) == (network, count)
            assert_same(model, product, images())


ORDERS = [('conv', 'norm', 'act'), ('conv', 'act', 'norm'), ('norm', 'conv', 'act'), ('norm', 'act', 'conv'),
          ('act', 'conv', 'norm'), ('act', 'norm', 'conv')]  # fmt: skip


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('around', [lambda part: part, nn.Sequential, lambda part: nn.Sequential(nn.Identity(), part)])
def test_orders_of_conv_module(order, around):
    model = with_statistics(around(ConvModule(4, 4, 3, norm_cfg=dict(type='BN'), order=order)))
    product = fused(model)
    expected = order.index('norm') == order.index('conv') + 1
    assert len(norms(product)) == 1 - expected
    assert_same(model, product, images())


@pytest.mark.parametrize('options', [
    dict(norm_cfg=None), dict(norm_cfg=dict(type='BN'), act_cfg=None), dict(norm_cfg=dict(type='GN', num_groups=2)),
    dict(norm_cfg=dict(type='BN'), padding=1, padding_mode='reflect'), dict(norm_cfg=dict(type='BN'), bias=True),
    dict(norm_cfg=dict(type='BN'), groups=2, stride=2), dict(conv_cfg=dict(type='ConvWS'), norm_cfg=dict(type='BN')),
    dict(conv_cfg=dict(type='ConvAWS'), norm_cfg=dict(type='BN')),
    dict(conv_cfg=dict(type='Conv'), norm_cfg=dict(type='BN')),
    dict(conv_cfg=dict(type='Conv2dAdaptivePadding'), norm_cfg=dict(type='BN')),
    dict(norm_cfg=dict(type='IN')), dict(conv_cfg=dict(type='deconv'), norm_cfg=dict(type='BN')),
])  # fmt: skip
def test_options_of_conv_module(options):
    model = with_statistics(nn.Sequential(ConvModule(4, 4, 3, **options), conv(), norm()))
    product = fused(model)
    changes = str(options.get('conv_cfg')).endswith(("WS'}", "deconv'}"))
    batch_norm = (options.get('norm_cfg') or {}).get('type') == 'BN'
    assert len(norms(product)) == (batch_norm and changes)
    assert_same(model, product, images())


def test_conv_modules_without_their_norm():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = ConvModule(4, 4, 1, norm_cfg=dict(type='BN'))

        def forward(self, x):
            return self.part(x, norm=False) + self.part(x, activate=False)

    model = with_statistics(Both())
    assert_same(model, fused(model), images())
    alone = model.part
    product = fused(alone)
    assert_same(alone, product, images())
    assert_same(alone, pickle.loads(pickle.dumps(product)), images(), False)
    with pytest.raises(ValueError, match='norm=False: the norm is folded'):
        product(images(), norm=False)


def test_conv_modules_that_fold_at_run_time():
    model = with_statistics(nn.Sequential(ConvModule(4, 4, 1, norm_cfg=dict(type='BN')), conv(), norm()))
    model[0].turn_on_efficient_conv_bn_eval()
    product = fused(model)
    assert_same(model, product, images())


@pytest.mark.parametrize(('wrong', 'message'), [
    (torch.zeros(1, 3, 6, 8), 'Network cannot be run on the example .*only argument, a tuple'),
    ((images(), images()), 'cannot be run on the example'),
    (dict(image=images()), 'cannot be run on the example'),
])  # fmt: skip
def test_examples_that_do_not_fit(wrong, message):
    with pytest.raises(ValueError, match=message):
        fused(with_statistics(Network()), wrong)


def test_forms_of_examples():
    class Several(ByLength):
        def forward(self, x, *more, scale=1):
            return super().forward(x[0] if isinstance(x, list) else x) * scale * (1 + len(more))

    model = with_statistics(Several())
    examples = [images(), (images(),), (images(), 1), dict(x=images()), dict(x=images(), scale=2), [images()],
                ([images()], 2)]  # fmt: skip
    for example in examples:
        product = fused(model, example)
        assert norms(product) == []
        assert_same(model, product, images())


def test_what_does_not_run_on_the_example_stays_and_is_named():
    class Late(PartByLength):
        def forward(self, x, auxiliary=False):
            return self.part(x) if auxiliary else sum(self.stem(image[None]) for image in x)

    model = with_statistics(Late())
    with pytest.warns(UserWarning, match=r'part.conv -> part.bn \(does not run on the example\)'):
        product = mmext.fuse(model, images())
    assert len(norms(product)) == 1
    assert_same(model, product, images(), True)


def test_outputs_are_compared(monkeypatch):
    """A convolution whose output is read behind PyTorch's back: by an operator that nothing can look into."""

    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

    class Behind(ByLength):
        def forward(self, x):
            y = self.conv(x)
            return self.bn(y) + Hidden.apply(y) * len(x)

    from mmext.fusing import example as module

    monkeypatch.setattr(module._Recorder, 'look_at', lambda *args: None)
    with pytest.raises(RuntimeError, match=r'output 0 differs by .* report it'):
        fused(with_statistics(Behind()), images())


def test_examples_without_anything_to_compare():
    class Labels(ByLength):
        def forward(self, x):
            return super().forward(x).argmax(1)

    with pytest.raises(ValueError, match='returns no floating-point tensor'):
        fused(with_statistics(Labels()), images())


def test_example_and_random_numbers_stay_as_they_are():
    class Noisy(ByLength):
        def forward(self, x):
            x.add_(1)
            return super().forward(x) + torch.rand_like(x)

    x = images()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    model = with_statistics(Noisy())
    torch.manual_seed(3)
    assert norms(fused(model, x)) == []
    assert torch.equal(x, images())
    assert torch.equal(torch.rand(3), expected)
