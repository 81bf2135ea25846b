"""Initialisation of a network from a checkpoint of an original project, as it was published."""

import logging
import re

from mmengine.model import update_init_info

from mmext.registry import WEIGHT_INITIALIZERS

from .comparison import differences, run_differences, setting_hint
from .conversion import convert
from .report import ConversionError, name_keys

__all__ = ['PublishedCheckpoint']

logger = logging.getLogger(__name__)


@WEIGHT_INITIALIZERS.register_module()
class PublishedCheckpoint:
    """``init_cfg`` that converts a published checkpoint in memory and loads it strictly into a module.

    Every key of the module is filled by a tensor of its shape, and the runs of its inception convolutions are those of
    the checkpoint. Keys of stages that the module leaves out (``num_stages``; in WiderResNet levels after those of
    ``out_indices``) stay unused. The module and all in it
    then count as initialised, so that no other initialisation touches them; in a list of several, give this one last.

    Args:
        source (str): Format of the checkpoint, see :func:`mmext.convert.convert`.
        checkpoint (str or Path): The file, as published or as ``mmext convert`` wrote it, or its address, as
            :func:`mmext.convert.read_checkpoint` takes them.
        prefix (str, optional): Which part of the checkpoint to load, for example ``'backbone.'`` for a backbone; the
            module's keys are those that follow it. Default: None, everything.

    Raises:
        ConversionError: When it runs: if the file cannot be converted, has nothing under ``prefix``, or does not fill
            the module, or has other runs; the message names the keys.
        OSError: When it runs: if there is no such file.

    Examples:
        >>> init_cfg = dict(
        ...     type='mmext.PublishedCheckpoint', source='involution', checkpoint='rednet50.pth', prefix='backbone.'
        ... )
        >>> backbone = dict(type='mmext.RedNet', depth=50, stem_kernel=3, init_cfg=init_cfg)
    """

    def __init__(self, source, checkpoint, prefix=None):
        self.source = source
        self.checkpoint = checkpoint
        self.prefix = prefix or ''

    def __call__(self, module):
        """Load the checkpoint into a module.

        Args:
            module (nn.Module): What has this initialiser in its ``init_cfg``.
        """
        # what the file lacks elsewhere is of no interest here; what it lacks for this module is an error below
        state_dict, report = convert(self.checkpoint, self.source, allow_missing=True)
        start = len(self.prefix)
        part = {key[start:]: value for key, value in state_dict.items() if key.startswith(self.prefix)}
        if not part:
            starts = sorted({f'{key.partition(".")[0]}.' for key in state_dict})
            raise ConversionError(
                f'{self.checkpoint} has no key that starts with prefix={self.prefix!r}; its keys start with '
                f'{", ".join(starts)}'
            )
        unbuilt = _keys_of_unbuilt_stages(part, module)
        if unbuilt:
            logger.debug('%s: not used, as their stages are not built: %s', self.checkpoint, name_keys(unbuilt))
            part = {key: value for key, value in part.items() if key not in unbuilt}
        wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        faults = differences(part, wanted)
        unlike, run_hint = run_differences(part, module, report, self.prefix)
        faults += unlike
        if faults:
            hint = (
                setting_hint(part, wanted, report)
                or run_hint
                or 'correct the prefix or the settings; to load a part of a network, run `mmext convert` and use '
                'load_from'
            )
            raise ConversionError(
                f'{self.checkpoint} with prefix={self.prefix or None!r} does not fill {type(module).__name__}: '
                f'{"; ".join(faults)}; {hint}'
            )
        module.load_state_dict(part, strict=True)
        # mmengine goes on to the children, whose own initialisation would overwrite what was loaded
        for child in module.modules():
            if hasattr(child, 'init_weights'):
                child.is_init = True
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'{type(self).__name__}: load from {self.checkpoint}')


def _keys_of_unbuilt_stages(keys, module):
    built = dict(module.named_modules())
    unbuilt = []
    for key in keys:
        # a network of this kind has the part named second
        for pattern, always in ((r'((?:.*\.)?)layer\d+(?=\.)', 'layer1'), (r'((?:.*\.)?)(level\d|bn7)(?=\.)', 'conv1')):
            stage = re.match(pattern, key)
            if stage and f'{stage[1]}{always}' in built and stage[0] not in built:
                unbuilt.append(key)
    return unbuilt
