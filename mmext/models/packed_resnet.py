"""The inflated ResNet with packed weights, for inference on the CPU: what ``mmext.fuse(model, pack=True)`` makes."""

import copy
import warnings

import torch
from torch import nn

from mmext.ops.guard import why_not_compiled
from mmext.ops.inflate.conv3d import InflatedConv3d

__all__ = ['PackedInflatedResNet']

CLOSE = 1e-4  # of the largest value: the order of sums differs
WAY_OUT = 'take the network that was given to mmext.fuse, or fuse it without pack=True'


class PackedConv3d(nn.Module):
    """A 3D convolution of tensors in oneDNN's own layout, its weight in the layout that oneDNN chose for it."""

    def __init__(self, conv):
        super().__init__()
        self.settings = conv.padding, conv.stride, conv.dilation, conv.groups
        with warnings.catch_warnings():
            # of TorchScript's modules, whose import warns in some versions, only the weight stays
            warnings.simplefilter('ignore', FutureWarning)
            from torch.utils.mkldnn import to_mkldnn

            packed = to_mkldnn(conv)
        self.register_buffer('weight', packed.weight)
        self.register_buffer('bias', packed.bias)

    def forward(self, x):
        return torch.mkldnn_convolution(x, self.weight, self.bias, *self.settings)

    def unpacked(self):
        """Return the ``nn.Conv3d`` that was packed."""
        weight, bias = self.weight.to_dense(), self.bias.to_dense()
        padding, stride, dilation, groups = self.settings
        out_channels, in_channels, *kernel = weight.shape
        with torch.device('meta'):
            conv = nn.Conv3d(in_channels * groups, out_channels, kernel, stride, padding, dilation, groups)
        conv.weight, conv.bias = (nn.Parameter(value, requires_grad=False) for value in (weight, bias))
        return conv.eval()


class PackedInflatedResNet(nn.Module):
    """An inflated ResNet for inference on the CPU that computes in oneDNN's own layout throughout.

    Weights and feature maps stay in the layout that oneDNN chooses; ``nn.Conv3d`` reorders each of them anew in every
    pass. It is frozen and one module: it has no parts to hook or to change, no parameters, no state dict. ``copy`` and
    ``pickle`` work.

    Args:
        network (InflatedResNet): In evaluation mode, on the CPU, in float32, its norms folded. It is not changed.

    Shapes:
        As those of :class:`~mmext.models.InflatedResNet`, in PyTorch's usual layout.

    Raises:
        ValueError: If the network cannot be packed: it is not on the CPU or not in float32, its parts have hooks, or
            parts of it do not run in oneDNN's layout; when it runs, if the input is no clip in float32 on the CPU.
        RuntimeError: If PyTorch has no oneDNN; if it is trained, moved, converted, saved by its state dict, taken
            apart, or runs where its memory is not what it computes: gradients, transforms of ``torch.func``, tracers,
            compilers and dispatch modes.

    Examples:
        >>> model = mmext.fuse(InflatedResNet(18), pack=True)
        >>> model(torch.rand(1, 3, 8, 32, 32)).shape
        torch.Size([1, 512, 1, 1, 1])
    """

    def __init__(self, network):
        super().__init__()
        self._check(network)
        self.in_channels = network.conv1.in_channels
        self.feat_dim, self.out_indices = network.feat_dim, network.out_indices
        self._hide(_with_packed(network))
        self.eval()
        self._compare(network)

    def forward(self, x):
        """Compute the feature maps of clips [N, in_channels, T, H, W], as the network that was packed."""
        if x.ndim != 5:
            raise ValueError(f'a clip has the shape [N, C, T, H, W], but the input has {list(x.shape)}')
        if x.dtype != torch.float32 or x.device.type != 'cpu':
            raise ValueError(
                f'the input is of {x.dtype} on {x.device}; a packed network takes torch.float32 on the CPU: give '
                f'x.float().cpu(), or {WAY_OUT}'
            )
        reason = why_not_compiled(x)
        if x.requires_grad and torch.is_grad_enabled():
            reason = 'the input requires a gradient'
        if reason:
            raise RuntimeError(f'a packed network cannot run here: {reason}; {WAY_OUT}')
        with torch.no_grad(), torch.autocast('cpu', enabled=False):
            outs = self._network[0](x.to_mkldnn())
            return tuple(out.to_dense() for out in outs) if isinstance(outs, tuple) else outs.to_dense()

    def train(self, mode=True):
        """Stay in evaluation mode; ``mode=True`` is a RuntimeError."""
        if mode:
            raise RuntimeError(f'a packed network cannot be trained; {WAY_OUT}')
        return super().train(False)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            network = vars(self).get('_network')
            if network is None or not hasattr(network[0], name):
                raise
        raise AttributeError(f'{name} is packed, it cannot be hooked, read or changed; {WAY_OUT}')

    def __getstate__(self):
        return {**vars(self), '_network': (_unpacked(self._network[0]),)}

    def __setstate__(self, state):
        super().__setstate__(state)
        self._hide(_with_packed(self._network[0]))

    def _hide(self, network):
        self._network = (network,)  # in a tuple, it is not registered: what reads or hooks parts would see no tensors

    def _apply(self, fn, recurse=True):
        probe = torch.zeros(1)
        made = fn(probe)
        if (made.dtype, made.device, type(made)) != (probe.dtype, probe.device, type(probe)):
            raise RuntimeError(f'a packed network stays on the CPU in torch.float32; {WAY_OUT}')
        return self

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        raise RuntimeError(
            'a packed network has no state dict; save that of the network that was given to mmext.fuse, or pickle this'
        )

    def _load_from_state_dict(self, state_dict, prefix, *args):
        raise RuntimeError('a packed network loads no state dict; load it into the network and call mmext.fuse again')

    @staticmethod
    def _check(network):
        if not torch.backends.mkldnn.is_available():
            raise RuntimeError('this PyTorch has no oneDNN; call mmext.fuse without pack=True')
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            if tensor.is_floating_point() and (tensor.dtype != torch.float32 or tensor.device.type != 'cpu'):
                raise ValueError(
                    f'{name} is of {tensor.dtype} on {tensor.device}; pack=True takes networks in torch.float32 on the '
                    'CPU: call model.float().cpu() first, or fuse without pack=True'
                )
        for name, module in network.named_modules():
            if any(getattr(module, hooks) for hooks in vars(module) if hooks.endswith('_hooks') and name):
                raise ValueError(
                    f'{name} has hooks, which would see no usual tensors; remove them, or fuse without pack=True'
                )
            if isinstance(module, nn.Conv3d) and (
                module.padding_mode != 'zeros'
                or isinstance(module.padding, str)
                or getattr(module, 'temporal_padding_mode', 'zeros') != 'zeros'
            ):
                raise ValueError(f'{name} pads with other than zeros, which cannot be packed; fuse without pack=True')

    @torch.no_grad()
    def _compare(self, network):
        clip = torch.rand(1, self.in_channels, 3, 33, 35, generator=torch.Generator().manual_seed(0))
        expected = network(clip)
        try:
            found = self(clip)
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f'a part of the network does not run in the layout of oneDNN ({reason}); fuse without pack=True'
            ) from error
        pairs = zip(found, expected) if isinstance(found, tuple) else [(found, expected)]
        for one, other in pairs:
            if not (one - other).abs().max() <= CLOSE * other.abs().max():
                raise RuntimeError('the packed network gives other results; fuse without pack=True')


def _with_packed(network):
    network = _replaced(network, _is_plain, PackedConv3d)
    network.channels_last = False
    return network


def _is_plain(module):
    known = nn.Conv3d._conv_forward, InflatedConv3d._conv_forward
    return (
        isinstance(module, nn.Conv3d)
        and module.forward.__func__ is nn.Conv3d.forward
        and (type(module)._conv_forward in known)
    )


def _unpacked(network):
    return _replaced(network, lambda module: isinstance(module, PackedConv3d), PackedConv3d.unpacked)


def _replaced(network, chosen, make):
    """Return a copy with other modules in the place of those chosen, which are not copied themselves."""
    made = {id(module): make(module) for module in network.modules() if chosen(module)}
    return copy.deepcopy(network, made)  # a memo: deepcopy takes what stands in it for the copy
