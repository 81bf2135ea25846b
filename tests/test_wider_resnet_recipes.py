"""What the optimiser settings of the Wider-ResNet recipes do, against the published training code's rules."""

import copy

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmengine.runner import Runner
from torch import nn

pytest.importorskip('mmpretrain')

CLASSIFICATION = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'.bias': dict(decay_mult=0.0)}),
)
SEGMENTATION = dict(
    optimizer=dict(type='SGD', lr=0.0016, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys={'.bias': dict(lr_mult=2.0, decay_mult=0.0)}),
)


class Network(BaseModel):
    """A convolution, a norm and a classifier, as the networks of the recipes have them."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(dict(conv=nn.Conv2d(3, 4, 3, bias=False), norm=nn.BatchNorm2d(4)))
        self.head = nn.ModuleDict(dict(conv=nn.Conv2d(4, 5, 3), fc=nn.Linear(5, 2)))

    def forward(self, inputs, mode='loss'):
        features = self.head.conv(self.backbone.norm(self.backbone.conv(inputs)).relu())
        return dict(loss=self.head.fc(features.mean((2, 3))).square().sum())


def published_settings(name, decay, lr, bias_lr):
    """Learning rate and decay of a parameter: decay for weights and gammas, none for biases and betas."""
    return (bias_lr, 0.0) if name.endswith('bias') else (lr, decay)


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [(CLASSIFICATION, (1e-4, 0.1, 0.1)), (SEGMENTATION, (5e-4, 0.0016, 0.0032))],
    ids=['classification', 'segmentation'],
)
def test_decay_and_rate_of_each_parameter(settings, expected):
    model = Network()
    optimizer = build_optim_wrapper(model, copy.deepcopy(settings)).optimizer
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group['params']}
    assert len(groups) == 7
    for name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        assert (group['lr'], group['weight_decay']) == pytest.approx(published_settings(name, *expected)), name
        assert group['momentum'] == 0.9
        assert group['dampening'] == 0
        assert group['nesterov'] is settings['optimizer'].get('nesterov', False)


class Published:
    """The published update rules in float64: ``TorchNesterov``, and MXNet's ``sgd``, whose buffer contains the rate."""

    def __init__(self, rule):
        self.rule = rule
        self.momenta = {}

    def step(self, name, weight, gradient, lr, decay):
        gradient = gradient + decay * weight
        momentum = self.momenta.get(name, 0.0)
        if self.rule == 'nesterov':
            self.momenta[name] = momentum = 0.9 * momentum + gradient
            return weight - lr * (gradient + 0.9 * momentum)
        self.momenta[name] = momentum = 0.9 * momentum - lr * gradient
        return weight + momentum


@pytest.mark.parametrize(
    ('settings', 'rule', 'expected'),
    [(CLASSIFICATION, 'nesterov', (1e-4, 0.1, 0.1)), (SEGMENTATION, 'sgd', (5e-4, 0.0016, 0.0032))],
    ids=['classification', 'segmentation'],
)
def test_steps_are_the_published_ones(settings, rule, expected):
    model = Network().double()
    wrapper = build_optim_wrapper(model, copy.deepcopy(settings))
    published = Published(rule)
    weights = {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}
    for _ in range(8):
        loss = model(torch.randn(2, 3, 6, 6, dtype=torch.float64))['loss']
        wrapper.zero_grad()
        loss.backward()
        for name, parameter in model.named_parameters():
            lr, decay = published_settings(name, *expected)
            weights[name] = published.step(name, weights[name], parameter.grad.numpy(), lr, decay)
        wrapper.step()
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(parameter.detach().numpy(), weights[name], rtol=1e-12, atol=1e-14)


def published_rate(base, steps, total, stop):
    return max(base * (1 - steps / (total + 1)), stop)


def rates(settings, base, total, epoch_length=None):
    """Learning rates of all updates under a schedule."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    settings = dict(settings)
    if settings.pop('convert_to_iter_based', False):
        cls = PARAM_SCHEDULERS.get(settings.pop('type'))
        scheduler = cls.build_iter_from_epoch(optimizer, **settings, epoch_length=epoch_length)
    else:
        scheduler = PARAM_SCHEDULERS.build(settings, default_args=dict(optimizer=optimizer))
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return np.array(found)


def deviation(settings, base, total, stop, **kwargs):
    """Largest deviation from the published schedule relative to the base rate."""
    expected = [published_rate(base, step, total, stop) for step in range(total)]
    return np.abs(rates(settings, base, total, **kwargs) - expected).max() / base


def linear(end_factor, end, by_epoch=False, **kwargs):
    return dict(type='LinearLR', start_factor=1, end_factor=end_factor, end=end, by_epoch=by_epoch, **kwargs)


def recommended(base, total, stop):
    """LinearLR that comes down to the floor when the published schedule does, and stays there."""
    return linear(stop / base, round((total + 1) * (1 - stop / base)) + 1)


# ImageNet has 5004 updates in an epoch; 500 from scratch here, for speed.
# Cityscapes (the second stage) is short, its rate is low and the floor of 1e-6 takes up its last 15 updates.
IMAGENET, IMAGENET_A1 = dict(base=0.1, total=90 * 500, stop=1e-6), dict(base=0.01, total=9 * 5004, stop=1e-6)
CITYSCAPES, MINI = dict(base=0.0008, total=64 * 185, stop=1e-6), dict(base=0.1, total=60, stop=1e-6)


@pytest.mark.parametrize('recipe', [IMAGENET, IMAGENET_A1, CITYSCAPES, MINI])
def test_linear_schedule_with_the_floor(recipe):
    assert deviation(recommended(**recipe), **recipe) < 1e-4


def test_cityscapes_in_numbers():
    assert recommended(**CITYSCAPES) == linear(pytest.approx(0.00125), 11827)
    assert deviation(linear(0.00125, 11827), **CITYSCAPES) < 2e-5


@pytest.mark.parametrize(('recipe', 'within'), [(IMAGENET, 6e-5), (IMAGENET_A1, 6e-5), (CITYSCAPES, 1.1e-3)])
def test_linear_schedule_that_ends_with_training(recipe, within):
    """The plain setting: exact to 2 / updates, or to the floor / base where that is more."""
    plain = linear(recipe['stop'] / recipe['base'], recipe['total'])
    assert within / 2 < deviation(plain, **recipe) < within


@pytest.mark.parametrize(
    ('recipe', 'epochs', 'end', 'within'),
    [(IMAGENET, 90, 90, 6e-5), (IMAGENET_A1, 9, 9, 6e-5), (CITYSCAPES, 64, 64 * (1 - 0.00125), 2.5e-4)],
)
def test_linear_schedule_by_epochs(recipe, epochs, end, within):
    settings = linear(recipe['stop'] / recipe['base'], end, by_epoch=True, convert_to_iter_based=True)
    assert within / 2 < deviation(settings, **recipe, epoch_length=recipe['total'] // epochs) < within


@pytest.mark.parametrize('recipe', [IMAGENET_A1, CITYSCAPES, MINI])
def test_schedules_that_follow_the_line_without_the_floor(recipe):
    base, total = recipe['base'], recipe['total']
    last = 2 / (total + 1)  # of the base rate, at the last update
    for settings in (
        linear(last, total),
        linear(0, total + 2),
        dict(type='PolyLR', power=1, eta_min=last * base, end=total, by_epoch=False),
        dict(type='PolyLR', power=1, eta_min=0, end=total + 2, by_epoch=False),
    ):
        assert deviation(settings, base, total, stop=0) < 1e-9


def test_a_runner_follows_the_schedule_by_epochs(tmp_path):
    """A training of mmengine with 3 epochs of 7 updates (and an incomplete batch, which is dropped)."""
    found = []

    class Recorder(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            found.append(runner.optim_wrapper.get_lr()['lr'][0])

    settings = copy.deepcopy(CLASSIFICATION)
    settings['optimizer']['lr'] = 1e-3
    with DefaultScope.overwrite_default_scope('mmengine'):
        Runner(
            Network(),
            str(tmp_path),
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                drop_last=True,
                dataset=[torch.randn(3, 6, 6) for _ in range(4 * 7 + 3)],
                sampler=dict(type='DefaultSampler', shuffle=True),
                collate_fn=lambda pictures: dict(inputs=torch.stack(pictures)),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=3),
            optim_wrapper=settings,
            param_scheduler=linear(2 / 22, 3, by_epoch=True, convert_to_iter_based=True),
            custom_hooks=[Recorder()],
            default_hooks=dict(checkpoint=None, logger=None),
            log_level='ERROR',
            experiment_name=tmp_path.name,
        ).train()
    expected = [published_rate(1e-3, step, 21, stop=0) for step in range(21)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_rate_inside_or_outside_the_momentum_hardly_matters():
    """MXNet's sgd has the rate in its buffer, torch's has not: equal while the rate is constant (see above)."""
    base, total, stop = CITYSCAPES['base'], CITYSCAPES['total'], CITYSCAPES['stop']
    lrs = np.array([published_rate(base, step, total, stop) for step in range(total)])
    inside = outside = 0.0
    differences = []
    for lr in lrs:
        inside, outside = 0.9 * inside + lr, 0.9 * outside + 1  # of a gradient that is always 1
        differences.append(inside - lr * outside)
    steps = base / (1 - 0.9)  # the step at the base rate
    assert 5e-4 < np.abs(differences).max() / steps < 1e-3


@pytest.mark.parametrize('features', [512, 4096])
def test_a_classifier_starts_as_published(features):
    """Uniform within plus or minus sqrt(1 / features), weight and bias, with init_cfg=None."""
    from mmpretrain.models import LinearClsHead

    head = LinearClsHead(num_classes=500, in_channels=features, init_cfg=None)
    head.init_weights()
    bound = features**-0.5
    for values, at_least in ((head.fc.weight.detach(), 0.9999), (head.fc.bias.detach(), 0.98)):
        assert at_least * bound < values.abs().max() <= bound
        assert values.mean().abs() < 0.08 * bound
        assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.06)
    default = LinearClsHead(num_classes=500, in_channels=features)
    default.init_weights()
    assert default.fc.bias.abs().max() == 0  # mmpretrain's own: normal, without a bias
