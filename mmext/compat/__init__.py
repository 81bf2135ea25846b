"""Cures for known breaks of the toolboxes: one module each, each doing nothing where it is not needed."""

from . import (
    amp_on_cpu,
    mmaction_bfloat16,
    mmaction_drn,
    mmcv_bfloat16,
    mmengine_latest_checkpoint,
    mmengine_whole_checkpoints,
    torch_safe_globals,
)

__all__ = ['apply']


def apply():
    """Apply every cure. Safe to call more than once."""
    torch_safe_globals.apply()
    mmaction_drn.apply()
    mmaction_bfloat16.apply()
    amp_on_cpu.apply()
    mmcv_bfloat16.apply()
    mmengine_whole_checkpoints.apply()
    mmengine_latest_checkpoint.apply()
