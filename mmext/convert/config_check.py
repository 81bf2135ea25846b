"""Comparison of a converted checkpoint with the model of a config."""

import torch

from .comparison import differences, run_differences, setting_hint
from .report import ConversionError

__all__ = ['check_against_config']


def check_against_config(state_dict, report, config, cfg_options=None, allow_missing=False):
    """Compare every key, shape and run of channels with the model that a config builds, without memory for its weights.

    Args:
        state_dict (dict[str, Tensor]): As :func:`mmext.convert.convert` returns it.
        report (ConversionReport): Its report; keys of the model that the state dict lacks are added to ``missing``.
        config (str or Path): A config of any toolbox.
        cfg_options (dict, optional): Overrides, as the toolboxes' ``--cfg-options`` gives them. Default: None.
        allow_missing (bool): Accept keys of the model that the state dict lacks. Default: False.

    Raises:
        ConversionError: If keys, shapes or the runs of inception convolutions differ; the message names them, and the
            setting where it is the stem kernel, the width or the pattern.
        ValueError: If the config cannot be loaded, the overrides do not fit it, or its model cannot be built.
        OSError: If there is no such config.
        ImportError: If its toolbox is not installed.
    """
    from mmext.utils.configs import build_model, load_config, merge_options

    cfg = load_config(config)
    merge_options(cfg, cfg_options or {})
    if 'model' not in cfg:
        raise ConversionError(f'{config} has no model; give the config of a whole network')
    with torch.device('meta'):
        model = build_model(cfg)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}

    report.missing += [key for key in wanted if key not in state_dict and key not in report.missing]
    faults = differences(state_dict, wanted, allow_missing=allow_missing)
    unlike, run_hint = run_differences(state_dict, model, report)
    faults += unlike
    if faults:
        hint = setting_hint(state_dict, wanted, report) or run_hint or 'choose the config of this very network'
        raise ConversionError(f'the checkpoint does not fit {config}: {"; ".join(faults)}; {hint}')
