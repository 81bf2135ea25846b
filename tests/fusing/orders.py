"""Small networks, each of which runs its convolution and norm in another way."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

CHANNELS = 4


def conv():
    return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)


def norm():
    return nn.BatchNorm2d(CHANNELS)


class Network(nn.Module):
    """A convolution and a norm, declared in this order."""

    def __init__(self):
        super().__init__()
        self.conv = conv()
        self.bn = norm()

    def forward(self, x):
        return self.bn(self.conv(x))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = conv()
        self.bn1 = norm()
        self.conv2 = conv()
        self.bn2 = norm()

    def forward(self, x):
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))


class PreActivation(Network):
    def forward(self, x):
        return self.conv(self.bn(x).relu())


class OfSum(Network):
    def forward(self, x):
        return self.bn(self.conv(x) + x)


class SumInPlace(Network):
    def forward(self, x):
        y = self.conv(x)
        y += x
        return self.bn(y)


class ActivationBetween(Network):
    def forward(self, x):
        return self.bn(F.relu(self.conv(x)))


class ActivationInPlaceBetween(Network):
    def forward(self, x):
        y = self.conv(x)
        y.relu_()
        return self.bn(y)


class InPlaceUnderAnotherName(Network):
    def forward(self, x):
        y = self.conv(x)
        y.view(-1).mul_(2)
        return self.bn(y)


class DropoutBetween(Network):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.bn(self.dropout(self.conv(x)))


class Tapped(Network):
    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class TappedByReturn(Network):
    def forward(self, x):
        y = self.conv(x)
        return self.bn(y), y


class TappedInDict(Network):
    def forward(self, x):
        y = self.conv(x)
        return dict(out=self.bn(y), features=[y])


class TappedByAttribute(Network):
    def forward(self, x):
        self.features = self.conv(x)
        y = self.bn(self.features)
        return y + self.features


class KeptByAttribute(Network):
    """Somebody may read it afterwards."""

    def forward(self, x):
        self.features = self.conv(x)
        return self.bn(self.features)


class KeptInList(Network):
    def __init__(self):
        super().__init__()
        self.features = []

    def forward(self, x):
        y = self.conv(x)
        self.features.append([y])
        return self.bn(y)


class ShapeOfOutput(Network):
    """What is asked of the output is not changed by the norm."""

    def forward(self, x):
        y = self.conv(x)
        n, c, *_ = y.size(0), y.shape[1]
        z = self.bn(y)
        return F.interpolate(z, size=y.shape[-2:]).reshape(n, c, -1).to(y.dtype)


class Branch(Network):
    """Side by side."""

    def forward(self, x):
        return self.conv(x) + self.bn(x)


class TwoNorms(Network):
    def __init__(self):
        super().__init__()
        self.other = norm()

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + self.other(y)


class SharedNorm(Network):
    """One norm after two convolutions."""

    def __init__(self):
        super().__init__()
        self.other = conv()

    def forward(self, x):
        return self.bn(self.conv(x)) + self.bn(self.other(x))


class NormTwice(Network):
    def forward(self, x):
        return self.bn(self.bn(self.conv(x)))


class ConvTwice(Network):
    """Once without the norm."""

    def forward(self, x):
        return self.conv(self.bn(self.conv(x)))


class PairTwice(Network):
    """As the shared heads of detectors do."""

    def forward(self, x):
        return self.bn(self.conv(self.bn(self.conv(x)).relu()))


class WeightRead(Network):
    def forward(self, x):
        return self.bn(self.conv(x)) + F.conv2d(x, self.conv.weight, padding=1)


class WeightReadByParameters(Network):
    def forward(self, x):
        return self.bn(self.conv(x)) * next(self.conv.parameters()).abs().mean().item()


class WeightReadFromList(Network):
    def __init__(self):
        super().__init__()
        self.held = [self.conv.weight]

    def forward(self, x):
        return self.bn(self.conv(x)) * self.held[0].mean()


class NormRead(Network):
    def forward(self, x):
        return self.bn(self.conv(x)) * self.bn.running_var.view(1, -1, 1, 1) * self.bn.weight.sum()


class ForwardCalledDirectly(Network):
    def forward(self, x):
        return self.bn(self.conv.forward(x))


class ShapeOfWeight(Network):
    def forward(self, x):
        weight = self.conv.weight
        return self.bn(self.conv(x.to(weight.dtype))).reshape(-1, weight.shape[0], x.shape[2] * x.size(3))


class InLists(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([conv(), norm(), conv(), norm()])

    def forward(self, x):
        return self.parts[0](self.parts[1](x)) + self.parts[2](self.parts[3](x))


class ListInReverse(InLists):
    def forward(self, x):
        for part in reversed(self.parts):
            x = part(x)
        return x


class ListInOrder(InLists):
    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


class InDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict(dict(conv=conv(), norm=norm()))

    def forward(self, x):
        return self.layers['conv'](self.layers['norm'](x))


class TappedSequential(nn.Module):
    """A Sequential whose parts are called one by one, as those of VGG are."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(conv(), norm(), nn.ReLU())

    def forward(self, x):
        outs = []
        for part in self.features:
            x = part(x)
            outs.append(x)
        return outs


class TappedSequentialWithCheck(TappedSequential):
    def forward(self, x):
        assert x.shape[1] == CHANNELS, x.shape
        return super().forward(x)


class TappedSequentialByLength(TappedSequential):
    """Cannot be traced."""

    def forward(self, x):
        for _ in range(len(x)):
            pass
        return super().forward(x)


class Elsewhere(nn.Module):
    """Declared far from one another, and the other way round."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([norm(), norm()])
        self.convs = nn.ModuleList([conv(), conv()])

    def forward(self, x):
        for a, b in zip(self.convs, self.norms):
            x = b(a(x)).relu()
        return x


class InPlainList(Network):
    """Called through another reference than the registered one."""

    def __init__(self):
        super().__init__()
        self.steps = [self.conv, self.bn]

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


class UnderTwoNames(Network):
    def __init__(self):
        super().__init__()
        self.last = self.bn

    def forward(self, x):
        return self.last(self.conv(x))


class TiedWeights(Two):
    """Two convolutions that have one weight, each with a norm of its own."""

    def __init__(self):
        super().__init__()
        self.conv2.weight = self.conv1.weight


class TiedToParameter(Network):
    def __init__(self):
        super().__init__()
        self.scale = self.conv.weight

    def forward(self, x):
        return self.bn(self.conv(x)) * self.scale.sum()


class DependsOnData(Network):
    def forward(self, x):
        return self.bn(self.conv(x)) if x.sum() > 0 else self.conv(self.bn(x))


class SameOnBothBranches(Network):
    def forward(self, x):
        y = self.conv(x * 2) if x.sum() > 0 else self.conv(x)
        return self.bn(y).relu() if x.mean() > 0 else self.bn(y)


class Conditioned(nn.Module):
    """Blocks of two ways each; only the norms of the second block's convolution differ."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([SameOnBothBranches(), DependsOnData(), *(SameOnBothBranches() for _ in range(8))])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Checked(Network):
    """Raises on images that do not fit."""

    def forward(self, x):
        h, w = x.shape[-2:]
        assert (h % 2 == 0) & (w % 2 == 0), 'sizes'
        if not h >= 2 or not w >= 2:
            raise ValueError('small')
        if x.dim() != 4:
            raise ValueError(f'{x.dim()} dimensions')
        return super().forward(x)


class Caught(nn.Module):
    """Takes another way where a part raises."""

    def __init__(self):
        super().__init__()
        self.part = Checked()

    def forward(self, x):
        try:
            return self.part(x)
        except AssertionError:
            return self.part.conv(x)


class AsksForType(Network):
    def forward(self, x):
        if isinstance(x, torch.Tensor):
            return self.conv(self.bn(x))
        return self.bn(self.conv(x[0]))


class AsksTorchForType(Network):
    def forward(self, x):
        return self.conv(self.bn(x)) if torch.is_tensor(x) else self.bn(self.conv(x[0]))


class AsksForAttribute(Network):
    def forward(self, x):
        if hasattr(x, 'tensors'):
            return self.bn(self.conv(x.tensors))
        return self.conv(self.bn(x))


class SwallowsErrors(Network):
    def forward(self, x):
        try:
            count = int(x.sum() > -1e9)
        except Exception:
            return self.bn(self.conv(x))
        return self.conv(self.bn(x)) * count


class Option(Network):
    def forward(self, x, features=False):
        y = self.conv(x)
        return (self.bn(y), y) if features else self.bn(y)


class Masked(Network):
    def forward(self, x, mask=None):
        if mask is not None:
            return self.bn(self.conv(x * mask))
        return self.conv(self.bn(x))


class GradMode(Network):
    def forward(self, x):
        return self.bn(self.conv(x)) if torch.is_grad_enabled() else self.conv(self.bn(x))


class InTraining(Network):
    """What runs in training does not matter."""

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y if self.training else self.bn(y)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.with_cp = True
        self.part = Two()

    def forward(self, x):
        if self.with_cp and x.requires_grad:
            return checkpoint(self.part, x, use_reentrant=False)
        return self.part(x)


class AlwaysCheckpointed(Checkpointed):
    def forward(self, x):
        return checkpoint(self.part, x, use_reentrant=False)


class Looped(Network):
    """As often as the data say."""

    def forward(self, x):
        while x.abs().max() > 1e9:
            x = x / 2
        return self.bn(self.conv(x))


class ByLength(Network):
    """As often as there are images, which no trace follows."""

    def forward(self, x):
        outs = []
        for image in x:
            outs.append(self.bn(self.conv(image[None])))
        return torch.cat(outs)


class ByLengthPreActivation(Network):
    def forward(self, x):
        return torch.cat([self.conv(self.bn(image[None])) for image in x])


class ByLengthTapped(Network):
    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y * len(x)


class PartByLength(nn.Module):
    """A part that cannot be traced in a network that can."""

    def __init__(self):
        super().__init__()
        self.stem = Network()
        self.part = ByLength()

    def forward(self, x):
        return self.part(self.stem(x).relu())


class Reached(nn.Module):
    """Parts of a part are called by the network around it, as U-Nets do with their encoders."""

    def __init__(self):
        super().__init__()
        self.encoder = Two()

    def forward(self, x):
        y = self.encoder.conv1(x)
        z = self.encoder.bn1(y)
        return self.encoder.bn2(self.encoder.conv2(z)) + y


class Hooked(nn.Module):
    """A hook of a part that is neither convolution nor norm takes the output away."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(conv())
        self.second = nn.Sequential(norm())
        self.third = Network()
        self.taken = []
        self.first.register_forward_hook(Keep(self.taken))

    def forward(self, x):
        return self.third(self.second(self.first(x))) + 0 * sum(y.sum() for y in self.taken)


class Keep:
    def __init__(self, kept):
        self.kept = kept

    def __call__(self, module, args, output):
        self.kept[:] = [output]


class HookedAndReplaced(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(conv())
        self.second = nn.Sequential(norm(), nn.ReLU())
        self.third = Network()
        self.first.register_forward_hook(double)

    def forward(self, x):
        return self.third(self.second(self.first(x)))


def double(module, args, output):
    return output * 2


class Frozen(Network):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


# network -> pairs that a trace shows; None where only an example does
TRACED = {
    Network: 1, Two: 2, PreActivation: 0, OfSum: 0, SumInPlace: 0, ActivationBetween: 0, ActivationInPlaceBetween: 0,
    InPlaceUnderAnotherName: 0, DropoutBetween: 0, Tapped: 0, TappedByReturn: 0, TappedInDict: 0, TappedByAttribute: 0,
    KeptByAttribute: 0, KeptInList: 0, ShapeOfOutput: 1, Branch: 0, TwoNorms: 0, SharedNorm: 0, NormTwice: 0,
    ConvTwice: 0, PairTwice: 1, WeightRead: 0, WeightReadByParameters: 0, WeightReadFromList: 0, NormRead: 0,
    ForwardCalledDirectly: 0, ShapeOfWeight: 1, InLists: 0, ListInReverse: 1, ListInOrder: 2, InDict: 0,
    TappedSequential: 0, TappedSequentialWithCheck: 0, TappedSequentialByLength: None, Elsewhere: 2, InPlainList: 1,
    UnderTwoNames: 1, TiedWeights: 2, TiedToParameter: 0, DependsOnData: 0, SameOnBothBranches: 1, Conditioned: 9,
    Checked: 1, Caught: 0, AsksForType: None, AsksTorchForType: None,
    AsksForAttribute: None, SwallowsErrors: None, Option: 0, Masked: 0,
    GradMode: 0, InTraining: 1, Checkpointed: 2, AlwaysCheckpointed: 2, Looped: None,
    ByLength: None, ByLengthPreActivation: None,
    ByLengthTapped: None, PartByLength: None, Reached: 1, Hooked: 1, HookedAndReplaced: 1, Frozen: 1,
}  # fmt: skip

# network -> pairs that a run on an example shows, where that differs from the trace
RUN = {
    **{network: count for network, count in TRACED.items() if count is not None},
    TappedSequentialByLength: 0, Looped: 1, AsksForType: 0, AsksTorchForType: 0, AsksForAttribute: 0, SwallowsErrors: 0,
    ByLength: 1,    ByLengthPreActivation: 0, ByLengthTapped: 0, PartByLength: 2,
}  # fmt: skip
