"""Patterns in files: the published JSON format, ours, and where a name, a path or a URL leads.

Ours is ``{"about": "...", "layers": [[[dilation_h, dilation_w, channels], ...], ...]}``. The published one is a list,
or an object, of one object a layer, ``{"(i, j)": n, ...}``: ``n`` output channels of dilation ``(i + 1, j + 1)``, zero
allowed, in the order of the weights.
"""

import difflib
import hashlib
import json
import re
import reprlib
from pathlib import Path
from urllib.parse import urlsplit

from mmext.utils.downloads import fetch
from mmext.utils.whole_files import write_whole

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
_KEY = re.compile(r'\(\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*\)')
_MAX_BYTES = 2**20  # of a file; the published ones have 10 to 30 kB
_MAX_DIGITS = 18  # of a number


def load_pattern(source):
    """Return a pattern from a name, a file, a URL or Python data.

    Args:
        source (str, Path, Pattern, list or dict): The name of a published pattern (see :data:`PUBLISHED`), the path of
            a JSON file in the published format or in ours, up to 1 MiB long, the URL of one (downloaded once, within a
            minute, then kept in the cache of ``torch.hub``), a pattern, or what such a file holds.

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


def save_pattern(pattern, path, about='', overwrite=True):
    """Write a pattern in our format, at once or not at all.

    Args:
        pattern (Pattern): What to write.
        path (str or Path): The file.
        about (str): A line for people, see :func:`describe`. Default: ''.
        overwrite (bool): Replace a file that exists. Default: True.

    Returns:
        Path: The file written.

    Raises:
        PatternError: If the pattern is not legal.
        FileNotFoundError: If the folder does not exist.
        FileExistsError: If the path is a symbolic link, or is there and ``overwrite`` is False.
        OSError: If the file cannot be written.
    """
    text = f'{{\n "about": {json.dumps(about)},\n "layers": [\n{row_lines(Pattern(pattern))}\n ]\n}}\n'
    return write_whole(path, text, overwrite)


def row_lines(rows):
    """Return lists as JSON, one in a line, as our format has its layers."""
    return ',\n'.join(f'  {json.dumps(row, separators=(",", ":"))}' for row in rows)


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
    return (
        Path(torch.hub.get_dir())
        / 'checkpoints'
        / f'{name.stem[:64] or "pattern"}-{digest}{name.suffix[:16] or ".json"}'
    )


def _find(source):
    if source in PUBLISHED:
        return _FOLDER / f'{source}.json'
    if re.match(r'https?://', source, re.IGNORECASE):
        return _download(source)
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        raise IsADirectoryError(f'{source} is a folder; give a JSON file in it')
    if path.suffix or path.name != source:
        raise FileNotFoundError(f'there is no file {source}; correct the path, or give one of {", ".join(PUBLISHED)}')
    close = difflib.get_close_matches(source, PUBLISHED, n=1, cutoff=0.3)
    hint = f'did you mean {close[0]!r}? ' if close else ''
    raise PatternError(
        f'there is no published pattern {source!r}: {hint}known are {", ".join(PUBLISHED)}; others are given as the '
        'path or the URL of a JSON file'
    )


def _download(url):
    path = download_path(url)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = fetch(url, _MAX_BYTES)
            _layers(_parsed(content, url), url)  # what is no pattern is not kept
            write_whole(path, content)
        except OSError as error:  # urllib's errors are of this kind
            raise OSError(
                f'{url} cannot be downloaded ({error}); get the file in another way and put it at {path}'
            ) from error
    return path


def _parse(path):
    with open(path, 'rb') as file:
        return _parsed(file.read(_MAX_BYTES + 1), path)


def _parsed(content, name):
    def unique(pairs):
        found = {}
        for key, value in pairs:
            if key in found:
                raise PatternError(f'{name} has the key {reprlib.repr(key)} twice in one object; merge the two')
            found[key] = value
        return found

    def number(text):
        if len(text) > _MAX_DIGITS:
            raise PatternError(f'{name} has a number of {len(text)} digits; {_MAX_DIGITS} are accepted')
        return int(text)

    if len(content) > _MAX_BYTES:
        raise PatternError(f'{name} has more than {_MAX_BYTES} bytes, the most that a pattern may have')
    try:
        return json.loads(content.decode('utf-8'), object_pairs_hook=unique, parse_int=number)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PatternError(
            f'{name} is not JSON ({error}); give a pattern in JSON, or delete the file to download it again'
        ) from None
    except RecursionError:
        raise PatternError(f'{name} has lists within lists hundreds deep; give a pattern in JSON') from None


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
        what = f'the unknown key {reprlib.repr(wrong)}' if content else 'no layer'
        raise PatternError(
            f'{name} has {what}; the published format has an object {{"(i, j)": n, ...}} for each layer, ours has the '
            'keys "layers" and "about"'
        )
    return list(content.values())


def _published_layer(layer, index):
    runs = []
    for key, channels in layer.items():
        match = _KEY.fullmatch(str(key).strip())
        if match is None:
            raise PatternError(
                f'layer {index} has the unknown key {reprlib.repr(key)}; "(i, j)" is needed, for dilation '
                '(i + 1, j + 1)'
            )
        runs.append((int(match[1]) + 1, int(match[2]) + 1, channels))
    return runs
