"""Frozen parts and frozen statistics, which all backbones have as options."""

from mmengine.model import BaseModule
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ['FreezableBackbone']


class FreezableBackbone(BaseModule):
    """A backbone whose frozen parts, and under ``norm_eval`` all BatchNorms, stay in eval mode while it trains.

    Subclasses set ``norm_eval`` (bool), implement :meth:`frozen_parts` and call ``_freeze_stages()`` at the end of
    their constructor.
    """

    norm_eval = False

    def frozen_parts(self):
        """Return the modules that ``frozen_stages`` freezes (list[nn.Module])."""
        raise NotImplementedError

    def _freeze_stages(self):
        for part in self.frozen_parts():
            part.eval()
            part.requires_grad_(False)

    def train(self, mode=True):
        """Set the mode, keeping frozen parts, and all BatchNorm under ``norm_eval``, in eval mode.

        Args:
            mode (bool): True for training. Default: True.

        Returns:
            FreezableBackbone: self.
        """
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
