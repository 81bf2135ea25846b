"""Patterns in files: the published JSON format, ours, and where a name, a path or a URL leads.

Ours is ``{"about": "...", "layers": [[[dilation_h, dilation_w, channels], ...], ...]}``. The published one is a list,
or an object, of one object a layer, ``{"(i, j)": n, ...}``: ``n`` output channels of dilation ``(i + 1, j + 1)``, zero
allowed, in the order of the weights.
"""

import difflib
import hashlib
import json
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from .pattern import Pattern, PatternError

__all__ = ['PUBLISHED', 'describe', 'download_path', 'load_pattern', 'save_pattern']

_FOLDER = Path(__file__).parent / 'data'
PUBLISHED = (
    'detection_r50_k9',
    'detection_r101_k9',
    'segmentation_r50_k9',
    'segmentation_r101_k9',
    'pose_r50_k13',
    'pose_r101_k13',
)
_KEY = re.compile(r'\(\s*(\d+)\s*,\s*(\d+)\s*\)')


def load_pattern(source):
    """Return a pattern from a name, a file, a URL or Python data.

    Args:
        source (str, Path, Pattern, list or dict): The name of a published pattern (see :data:`PUBLISHED`), the path of
            a JSON file in the published format or in ours, the URL of one (downloaded once, then kept in the cache of
            ``torch.hub``), a pattern, or what such a file holds.

    Returns:
        Pattern: Its layers in the order of the file.

    Raises:
        PatternError: If there is no such name, or what is there is not a legal pattern; the message names the layer.
        FileNotFoundError: If there is no such file.
        OSError: If the URL cannot be reached; the message names the file to put in place instead.

    Examples:
        >>> load_pattern('detection_r50_k9')
        Pattern(16 layers, 64 to 512 channels)
    """
    if isinstance(source, Pattern):
        return source
    if not isinstance(source, (str, Path)):
        return _layers(source, 'the pattern')
    path = _find(str(source))
    return _layers(_parse(path), str(path) if str(source) not in PUBLISHED else str(source))


def describe(source):
    """Return what a pattern's file says about it.

    Args:
        source (str or Path): As in :func:`load_pattern`.

    Returns:
        str: The field 'about' of our format, else ''.
    """
    content = _parse(_find(str(source)))
    about = content.get('about', '') if isinstance(content, dict) else ''
    return about if isinstance(about, str) else ''


def save_pattern(pattern, path, about=''):
    """Write a pattern in our format, at once or not at all.

    Args:
        pattern (Pattern): What to write.
        path (str or Path): The file; one that exists is replaced.
        about (str): A line for people, see :func:`describe`. Default: ''.

    Returns:
        Path: The file written.

    Raises:
        PatternError: If the pattern is not legal.
        FileNotFoundError: If the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f'the folder {path.parent} does not exist; make it first')
    layers = ',\n'.join(f'  {json.dumps(layer, separators=(",", ":"))}' for layer in Pattern(pattern))
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        temporary.write_text(f'{{\n "about": {json.dumps(about)},\n "layers": [\n{layers}\n ]\n}}\n')
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def download_path(url):
    """Return the file that a URL's pattern is kept in.

    Args:
        url (str): Where the pattern is published.

    Returns:
        Path: In the cache of ``torch.hub``. Patterns of one name at several places have several files.
    """
    import torch

    name = Path(urlsplit(url).path)
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    return Path(torch.hub.get_dir()) / 'checkpoints' / f'{name.stem or "pattern"}-{digest}{name.suffix or ".json"}'


def _find(source):
    if source in PUBLISHED:
        return _FOLDER / f'{source}.json'
    if re.match(r'https?://', source):
        return _download(source)
    path = Path(source)
    if path.is_file():
        return path
    if path.suffix or path.name != source:
        raise FileNotFoundError(f'there is no file {source}; correct the path, or give one of {", ".join(PUBLISHED)}')
    close = difflib.get_close_matches(source, PUBLISHED, n=1, cutoff=0.3)
    hint = f'did you mean {close[0]!r}? ' if close else ''
    raise PatternError(
        f'there is no published pattern {source!r}: {hint}known are {", ".join(PUBLISHED)}; others are given as the '
        'path or the URL of a JSON file'
    )


def _download(url):
    import torch

    path = download_path(url)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:  # urllib's errors are of this kind
            raise OSError(
                f'{url} cannot be downloaded ({error}); get the file in another way and put it at {path}'
            ) from error
    return path


def _parse(path):
    def unique(pairs):
        keys = [key for key, _ in pairs]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise PatternError(f'{path} has the key {twice!r} twice in one object; merge the two')
        return dict(pairs)

    try:
        return json.loads(path.read_text(encoding='utf-8'), object_pairs_hook=unique)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PatternError(
            f'{path} is not JSON ({error}); give a pattern in JSON, or delete the file to download it again'
        ) from None


def _layers(content, name):
    if isinstance(content, dict):
        content = content['layers'] if 'layers' in content else _named_layers(content, name)
    if isinstance(content, (str, bytes)) or not hasattr(content, '__iter__'):
        raise PatternError(f'{name} is a {type(content).__name__}; a list of layers is needed')
    try:
        return Pattern(
            _published_layer(layer, index) if isinstance(layer, dict) else layer for index, layer in enumerate(content)
        )
    except PatternError as error:
        raise PatternError(f'{name}: {error}') from None


def _named_layers(content, name):
    if any(_KEY.fullmatch(str(key)) for key in content):
        raise PatternError(f'{name} is one layer; give a list of layers, [{{"(0, 0)": n, ...}}, ...]')
    wrong = next((key for key, layer in content.items() if not isinstance(layer, (dict, list))), None)
    if wrong is not None or not content:
        raise PatternError(
            f'{name} has {f"the unknown key {wrong!r}" if content else "no layer"}; the published format has an object '
            '{"(i, j)": n, ...} for each layer, ours has the keys "layers" and "about"'
        )
    return list(content.values())


def _published_layer(layer, index):
    runs = []
    for key, channels in layer.items():
        match = _KEY.fullmatch(str(key).strip())
        if match is None:
            raise PatternError(
                f'layer {index} has the unknown key {key!r}; "(i, j)" is needed, for dilation (i + 1, j + 1)'
            )
        runs.append((int(match[1]) + 1, int(match[2]) + 1, channels))
    return runs
