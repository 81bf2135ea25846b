"""From a config to its counts: the model is built on the meta device, run part by part, and added up."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from torch.overrides import TorchFunctionMode

from mmext.utils.configs import build_model, load_config

from .kinds import kind_of
from .own import count_own
from .published import count_published

__all__ = ['CONVENTIONS', 'Complexity', 'Part', 'complexity']

CONVENTIONS = ('own', 'published')
COUNTING_OPTIONS = ('stem_kernel', 'leave_out')
MAX_SIZE = 2**16  # of a side in pixels, and of a clip in frames: no tensor's size overflows


@dataclass
class Part:
    """The counts of one part of a model.

    Attributes:
        parameters: Number of parameters.
        trainable: Those with ``requires_grad``.
        multiply_adds: Kind of computation -> multiply-adds. Kinds of the own convention: 'convolution', 'aggregation'
            and 'rest'; of the published one: those of :data:`mmext.complexity.published.RULES`. Empty for a part that
            is not run, such as an auxiliary head.
    """

    parameters: int = 0
    trainable: int = 0
    multiply_adds: dict = field(default_factory=dict)

    @property
    def total(self):
        """int: All multiply-adds."""
        return sum(self.multiply_adds.values())

    @property
    def three_kinds(self):
        """tuple[int]: Multiply-adds of convolutions, of aggregations and of the rest."""
        two = [self.multiply_adds.get(kind, 0) for kind in ('convolution', 'aggregation')]
        return *two, self.total - sum(two)


@dataclass
class Complexity:
    """The counts of one model for one image, or one clip.

    Attributes:
        model: Class of the model.
        shape: Height and width of the image in pixels.
        convention: 'own' or 'published'.
        row: Name of the published row whose counting was used; None for the plain convention.
        counting: Options of that row, see :func:`complexity`.
        counted_parameters: Parameters as the convention counts them: all, but for published figures of detectors those
            with ``requires_grad``.
        frames: Frames of the clip; None for an image.
        parts: Name of a part, such as 'backbone' or 'roi_head.bbox_head' -> :class:`Part`.
    """

    model: str
    shape: tuple
    convention: str
    row: str | None
    counting: dict
    counted_parameters: int
    frames: int | None
    parts: dict

    @property
    def parameters(self):
        """int: All parameters."""
        return sum(part.parameters for part in self.parts.values())

    @property
    def trainable(self):
        """int: Parameters with ``requires_grad``."""
        return sum(part.trainable for part in self.parts.values())

    @property
    def multiply_adds(self):
        """int: Multiply-adds of one forward pass."""
        return sum(part.total for part in self.parts.values())


def complexity(config, shape=None, convention='own', counting=None, frames=None):
    """Count the parameters and the multiply-adds of one forward pass over one image, or one clip.

    Nothing is computed: the model and its input exist on the meta device only. Detectors run without RoIAlign and
    non-maximum suppression, their box heads on ``test_cfg.rpn.max_per_img`` proposals (1000 in the published rows) and
    their mask heads on ``test_cfg.rcnn.max_per_img`` regions (100); auxiliary heads are not run.

    The own convention counts one for each multiply-add of a convolution, an aggregation (involution) or a matrix
    product, and nothing for biases, norms, activations, pooling, additions and interpolation. The published convention
    is that of the involution tables (:mod:`mmext.complexity.published`): it also counts those layers, leaves out the
    classifier's head, and follows the irregularities of each row.

    Args:
        config (str, Path or Config): A config, its path, or the name of a published row.
        shape (Sequence[int], optional): Height and width of the image in pixels, each 1 to 65536. Default: None, the
            size behind the published figures: 224 x 224 for classifiers and recognizers of actions, 800 x 1280 for
            detectors, 1024 x 2048 for segmentors.
        convention (str): 'own' or 'published'. Default: 'own'.
        counting (dict, optional): What is particular to a row in the published convention: ``stem_kernel`` (int), the
            stem its figures were measured with, and ``leave_out`` (list[str]), the modules that were not counted.
            Default: None, what the metafile of the row says, by the name of the config file; for a config that is no
            row, nothing particular.
        frames (int, optional): Frames of the clip, 1 to 65536, for models that take clips. Default: None, 32 for these.

    Returns:
        Complexity: The counts, by part and by kind.

    Raises:
        FileNotFoundError: If ``config`` is the path of a file that does not exist.
        KeyError: If ``config`` is neither a path nor the name of a row; the message gives the nearest one.
        ImportError: If the toolbox of the config is not installed.
        ValueError: If an argument is not as above, the config has no model, the model is of no known kind, or it does
            not run on an image of that shape.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f'convention={convention!r} is unknown; choose one of {", ".join(CONVENTIONS)}')
    if shape is not None:
        shape = _checked_shape(shape)
    cfg = _load(config)
    row = None
    if convention == 'own':
        if counting is not None:
            raise ValueError("counting is for convention='published' only; leave it out")
        counting = {}
    elif counting is None:
        row, counting = _row_of(cfg)
    elif unknown := set(counting) - set(COUNTING_OPTIONS):
        raise ValueError(f'counting has {", ".join(sorted(unknown))}; it may have {", ".join(COUNTING_OPTIONS)}')
    model = _build(cfg, counting.get('stem_kernel'))
    kind = kind_of(model)
    shape, frames = shape or kind.shape, _checked_frames(frames, kind)
    if frames is not None and convention == 'published':
        raise ValueError("convention='published' has no rules for clips; leave it out")
    parts = _count_parts(model, kind, shape, frames, convention, (*kind.leave_out, *counting.get('leave_out', ())))
    for name, parameter in model.named_parameters():
        owner = next((part for part in parts if name.startswith(f'{part}.')), name.partition('.')[0])
        part = parts.setdefault(owner, Part())
        part.parameters += parameter.numel()
        part.trainable += parameter.numel() * parameter.requires_grad
    result = Complexity(type(model).__name__, shape, convention, row, dict(counting), 0, frames, parts)
    trainable_only = convention == 'published' and kind.trainable_only
    result.counted_parameters = result.trainable if trainable_only else result.parameters
    return result


def _checked_shape(shape):
    shape = tuple(shape)
    if len(shape) != 2 or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
        raise ValueError(f'shape={shape} must be a height and a width in pixels, integers of at least 1')
    if max(shape) > MAX_SIZE:
        raise ValueError(f'shape={shape} must be a height and a width of up to {MAX_SIZE} pixels')
    return shape


def _checked_frames(frames, kind):
    if frames is None:
        return kind.frames
    if kind.frames is None:
        raise ValueError(
            f'frames={frames} is for models that take clips, this one is of kind {kind.name!r}; leave it out'
        )
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
        raise ValueError(f'frames={frames!r} must be an integer of at least 1')
    if frames > MAX_SIZE:
        raise ValueError(f'frames={frames!r} must be an integer of up to {MAX_SIZE}')
    return frames


def _load(config):
    if isinstance(config, Config):
        return config
    path = Path(config)
    if path.is_file():
        return load_config(path)
    if path.suffix:
        raise FileNotFoundError(
            f'there is no config {path}; give the path of one, or the name of a published row (see `mmext models`)'
        )
    from mmext.zoo import get_config

    return get_config(str(config))


def _row_of(cfg):
    """Return the name of the published row that a config is, None for none, and the options of its counting."""
    from mmext.zoo import get_entry

    name = Path(cfg.filename or '').stem
    try:
        entry = get_entry(name)
    except KeyError:
        return None, {}
    return name, entry['Metadata'].get('Published', {}).get('Counting') or {}


class _WeightsOnMeta(TorchFunctionMode):
    """Make on the meta device what layers make their weights from.

    All else stays real, unlike under ``torch.device('meta')``: constructors of the toolboxes read off numbers that they
    compute with tensors, such as the rates of stochastic depth.
    """

    makers = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in self.makers and kwargs.get('device') is None:
            kwargs = {**kwargs, 'device': 'meta'}
        return func(*args, **kwargs)


def _build(cfg, stem_kernel):
    if stem_kernel is not None:
        cfg = copy.deepcopy(cfg)
        cfg.model.backbone.stem_kernel = stem_kernel
    with _WeightsOnMeta():
        return build_model(cfg).to('meta').eval()


def _count_parts(model, kind, shape, frames, convention, leave_out):
    parts = {}

    def run_part(name, *inputs):
        module = model.get_submodule(name)
        if convention == 'own':
            outputs, counts = count_own(module, inputs)
        else:
            outputs, counts = count_published(module, inputs, name, leave_out)
        parts[name] = Part(multiply_adds=counts)
        return outputs

    missing = [path for path in leave_out if not _has(model, path)]
    if missing:
        raise ValueError(f'leave_out names {", ".join(missing)}, which {type(model).__name__} does not have')
    try:
        with torch.no_grad():
            size = shape if frames is None else (frames, *shape)
            kind.run(model, torch.empty(1, 3, *size, device='meta'), run_part)
    except (RuntimeError, TypeError, ValueError) as error:
        height, width = shape
        what, usual = ('an image', '') if frames is None else (f'{frames} frames', f'{kind.frames} x ')
        hint = f'; try a larger one, the default is {usual}{kind.shape[0]} x {kind.shape[1]}'
        hint = '' if (shape, frames) == (kind.shape, kind.frames) else hint
        raise ValueError(
            f'{type(model).__name__} cannot be run part by part on {what} of {height} x {width} pixels: {error}{hint}'
        ) from error
    return parts


def _has(model, path):
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True
