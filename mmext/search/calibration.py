"""What the layers of a trained supernet see and answer on images of its own data loader."""

import torch
from mmengine.runner import Runner
from torch.nn import functional as F

from .choice import kept_taps

__all__ = ['ChannelMeans', 'OutputErrors', 'run_on_images']


def run_on_images(model, cfg, split, count, watch):
    """Run a model on images of its config's data loader and show the inputs of some layers.

    Args:
        model (nn.Module): A whole model of a toolbox, with its weights.
        cfg (Config): Its config, whose ``train_dataloader`` or ``val_dataloader`` is used.
        split (str): 'train' or 'val'.
        count (int): Images, at least 1.
        watch (dict[nn.Module, Callable]): Layer -> what is called with each input [N, C, H, W] of it.

    Returns:
        int: Images that were used: ``count``, or all that there are.

    Raises:
        ValueError: If the config has no such data loader, or it cannot be built; if ``count`` is below 1.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f'{count!r} images: an integer of at least 1 is needed')
    settings = cfg.get(f'{split}_dataloader')
    if not settings:
        raise ValueError(f'{cfg.filename} has no `{split}_dataloader`; choose the other split, or give it one')
    # one by one, whatever their sizes; no processes for a few of them
    settings = dict(settings, batch_size=1, num_workers=0, persistent_workers=False)
    settings.pop('batch_sampler', None)
    settings.pop('prefetch_factor', None)
    try:
        loader = Runner.build_dataloader(settings, seed=0)
    except Exception as error:  # what datasets make of missing files and folders
        raise ValueError(
            f'the `{split}_dataloader` of {cfg.filename} cannot be built ({type(error).__name__}: {error}); correct '
            'its paths'
        ) from error
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, seen=seen: seen(inputs[0].detach()))
        for layer, seen in watch.items()
    ]
    model.eval()
    used = 0
    try:
        with torch.no_grad():
            for batch in loader:
                model.val_step(batch)
                used += 1
                if used == count:
                    break
    finally:
        for hook in hooks:
            hook.remove()
    if not used:
        raise ValueError(f'the `{split}_dataloader` of {cfg.filename} has no images; choose the other split')
    return used


class _Mean:
    """A mean over all pixels of all inputs of a layer.

    Args:
        layer (SupernetConv2d): The layer.
    """

    def __init__(self, layer):
        self.layer = layer
        self.sums, self.pixels = 0, 0

    def add(self, sums, pixels):
        """Add the sums over so many pixels."""
        self.sums = self.sums + sums
        self.pixels += pixels


class ChannelMeans(_Mean):
    """The mean of each input channel of a layer, over all inputs.

    Args:
        layer (SupernetConv2d): The layer.
    """

    def __call__(self, x):
        """Take an input [N, C, H, W]."""
        self.add(x.double().sum((0, 2, 3)), x.numel() // x.shape[1])

    def result(self):
        """Return the means of each filter's input channels, [O, I], I channels of a group."""
        groups = self.layer.groups
        means = (self.sums / self.pixels).view(groups, -1)
        return means.repeat_interleave(self.layer.out_channels // groups, 0)


class OutputErrors(_Mean):
    """The mean absolute difference of each filter's output for every dilation, over all inputs.

    Args:
        layer (SupernetConv2d): The layer.
    """

    def __call__(self, x):
        """Take an input [N, C, H, W]."""
        layer = self.layer
        whole = F.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        found = []
        for rows, columns in kept_taps(layer.plain_kernel_size, layer.max_dilation):
            # the taps alone, as the network that is found computes them
            steps = int(rows[1] - rows[0]), int(columns[1] - columns[0])
            taps = layer.weight[:, :, rows[0] : rows[-1] + 1 : steps[0], columns[0] : columns[-1] + 1 : steps[1]]
            dilation = [own * step for own, step in zip(layer.dilation, steps)]
            starts = int(rows[0]), int(columns[0])
            padding = [pad - own * start for pad, own, start in zip(layer.padding, layer.dilation, starts)]
            kept = F.conv2d(x, taps, None, layer.stride, padding, dilation, layer.groups)
            found.append((whole - kept).abs().double().sum((0, 2, 3)))
        self.add(torch.stack(found, 1), whole.numel() // whole.shape[1])

    def result(self):
        """Return the errors [O, D] in the order of :func:`mmext.search.dilations`."""
        return (self.sums / self.pixels).numpy()
