"""Configs that a user names, and the models in them."""

import copy

from mmengine.config import Config
from mmengine.registry import MODELS

__all__ = ['build_model', 'load_config', 'merge_options']


def load_config(path):
    """Load a config file, whatever is wrong with it.

    A config is code, or data in JSON or YAML, and can fail in every way that these have.

    Args:
        path (str or Path): The file.

    Returns:
        Config: What mmengine makes of it, bases merged in, its custom imports run.

    Raises:
        OSError: If the file cannot be read.
        ImportError: If a module that it imports is not installed.
        ValueError: If anything else is wrong with it; the message has the kind of the error and its text.
    """
    try:
        return Config.fromfile(path)
    except (OSError, ImportError):
        raise
    except Exception as error:  # what the user's code raises
        raise ValueError(
            f'{path} cannot be loaded as a config ({type(error).__name__}: {error}); give a config of a toolbox'
        ) from error


def merge_options(cfg, options):
    """Merge overrides into a config, as the toolboxes' ``--cfg-options`` do.

    Args:
        cfg (Config): Is changed.
        options (dict): Dotted name -> value.

    Raises:
        ValueError: If there is no place for one.
    """
    try:
        cfg.merge_from_dict(options)
    except Exception as error:  # TypeError, KeyError, AttributeError and more, by what stands in the way
        raise ValueError(
            f'the overrides {options} do not fit the config ({type(error).__name__}: {error}); correct their names'
        ) from error


def build_model(cfg):
    """Build the model of a config in its own scope.

    Args:
        cfg (Config): With ``model``; it is not changed.

    Returns:
        nn.Module: The model.

    Raises:
        ImportError: If the toolbox of the config is not installed.
        ValueError: If the config has no model, or it cannot be built; the message has the kind of the error and its
            text.
    """
    name = cfg.filename or 'the config'
    if not isinstance(cfg.get('model'), dict):
        raise ValueError(f'{name} has no `model`; give the config of a whole model')
    try:
        with MODELS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
            return registry.build(copy.deepcopy(cfg.model))
    except ImportError:
        raise
    except Exception as error:  # whatever the constructors of the model make of the config's values
        raise ValueError(f'the model of {name} cannot be built ({type(error).__name__}: {error})') from error
