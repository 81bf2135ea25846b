"""The rows of the model zoo by name: their metafile entries, their configs, their models.

A row is an entry of a family's ``metafile.yml``; ``model-index.yml`` lists the metafiles. Both travel with the package:
a wheel carries them as ``mmext/.mim``, a clone has them beside ``mmext``.
"""

import copy
import difflib
import fnmatch
import functools
import importlib.util
from pathlib import Path

import yaml
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

__all__ = ['config_path', 'get_config', 'get_entry', 'get_model', 'list_models']

EXTRAS = {'mmaction': 'video', 'mmdet': 'det', 'mmpose': 'pose', 'mmpretrain': 'cls', 'mmseg': 'seg'}


@functools.cache
def zoo_folder():
    """Return the folder with ``model-index.yml`` and ``configs``.

    Returns:
        Path: ``mmext/.mim`` of an installed wheel, else the clone.

    Raises:
        FileNotFoundError: If it is neither.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / '.mim', package.parent):
        if (folder / 'model-index.yml').is_file():
            return folder
    raise FileNotFoundError(f'{package} came without its configs (no .mim/model-index.yml); install mmext with pip')


@functools.cache
def _entries():
    folder = zoo_folder()
    metafiles = yaml.safe_load((folder / 'model-index.yml').read_text())['Import']
    models = [model for path in metafiles for model in yaml.safe_load((folder / path).read_text())['Models']]
    return {model['Name']: model for model in models}


def list_models(pattern='*'):
    """List the names of rows.

    Args:
        pattern (str): Shell-style pattern that the whole name must match. Default: ``'*'``, all.

    Returns:
        list[str]: The names, sorted; empty where none matches.

    Examples:
        >>> list_models('rednet5*')
        ['rednet50_64xb32-130e_in1k']
    """
    return sorted(fnmatch.filter(_entries(), pattern))


def get_entry(name):
    """Return what the metafile says about a row.

    Args:
        name (str): One of :func:`list_models`.

    Returns:
        dict: The entry, with OpenMMLab's fields (Name, In Collection, Config, Metadata, Results) and Toolbox.

    Raises:
        KeyError: If there is no such row. The message says which name is close.
    """
    entries = _entries()
    if name not in entries:
        close = difflib.get_close_matches(str(name), entries, n=1, cutoff=0.3)
        hint = f'did you mean {close[0]!r}? ' if close else ''
        raise KeyError(f'mmext has no model {name!r}: {hint}mmext.list_models() and `mmext models` list all names')
    return copy.deepcopy(entries[name])


def config_path(name):
    """Return the path of a row's config.

    Args:
        name (str): One of :func:`list_models`.

    Returns:
        Path: Absolute path; any toolbox's scripts take it.

    Raises:
        KeyError: If there is no such row.
    """
    return zoo_folder() / get_entry(name)['Config']


def get_config(name):
    """Load a row's config over the installed toolbox's bases.

    Args:
        name (str): One of :func:`list_models`.

    Returns:
        Config: mmengine's config, bases merged in, its custom imports run.

    Raises:
        KeyError: If there is no such row.
        ImportError: If the row's toolbox is not installed.
    """
    toolbox = get_entry(name)['Toolbox']
    if importlib.util.find_spec(toolbox) is None:
        raise ImportError(
            f"{name} needs {toolbox}, which is not installed; run: pip install 'mmext[{EXTRAS[toolbox]}]'"
        )
    return Config.fromfile(config_path(name))


def get_model(name, checkpoint=None, source=None, device='cpu', **overrides):
    """Build a row's model with its toolbox, ready for the toolbox's inference functions.

    The backbone's own checkpoint, from which a training would start, is not needed and not read.

    Args:
        name (str): One of :func:`list_models`.
        checkpoint (str or Path, optional): File with the weights of the whole model. Every key must fit. Default: None,
            weights as the layers' constructors leave them.
        source (str, optional): Format of a published checkpoint, one of :data:`mmext.convert.SOURCES`. Default: None,
            for a file that ``mmext convert`` or the toolbox wrote.
        device (str or torch.device): Where to put the model. Default: ``'cpu'``.
        **overrides: Merged into the config's ``model``, for example ``backbone=dict(stem_kernel=3)``.

    Returns:
        nn.Module: The model in eval mode, with its config as ``cfg`` and the classes of the config's dataset as
        ``dataset_meta`` (also as ``_config`` and ``_dataset_meta``, where mmpretrain looks).

    Raises:
        KeyError: If there is no such row.
        ImportError: If the row's toolbox is not installed.
        ValueError: If ``source`` is given without a checkpoint or is unknown, or the checkpoint cannot be read safely
            or does not fit the model.
        OSError: If there is no such file.

    Examples:
        >>> model = get_model('rednet26_64xb32-130e_in1k')
        >>> model(torch.rand(1, 3, 224, 224)).shape
        torch.Size([1, 1000])
    """
    if source is not None and checkpoint is None:
        raise ValueError(f'source={source!r} says how to read a checkpoint, and none is given; pass checkpoint=PATH')
    cfg = get_config(name)
    cfg.model.backbone.init_cfg = None
    cfg.model.pop('init_cfg', None)
    if 'pretrained' in cfg.model.backbone:  # mmaction2's name for it
        cfg.model.backbone.pretrained = None
    cfg.merge_from_dict(dict(model=overrides))
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))  # where mmpretrain keeps it
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    dataset = cfg.test_dataloader.dataset
    meta = {**DATASETS.get(f'{cfg.default_scope}.{dataset.type}').METAINFO, **dataset.get('metainfo', {})}
    if checkpoint is not None:
        _load(model, checkpoint, source, name)
    model.cfg = model._config = cfg
    model.dataset_meta = model._dataset_meta = meta
    return model.to(device).eval()


def _load(model, checkpoint, source, name):
    from mmext.convert import convert, read_checkpoint
    from mmext.convert.comparison import differences

    state_dict = read_checkpoint(checkpoint) if source is None else convert(checkpoint, source)[0]
    try:
        model.load_state_dict(state_dict)
    except RuntimeError:
        wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        raise ValueError(
            f'{checkpoint} does not fit {name}: {"; ".join(differences(state_dict, wanted))}; give the checkpoint of '
            'this row, or the overrides that it was trained with'
        ) from None
