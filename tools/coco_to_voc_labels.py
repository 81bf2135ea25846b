#!/usr/bin/env python3
"""Make label pictures with the ids of PASCAL VOC out of COCO's instance annotations.

They are for training a segmentation network on VOC, SBD and COCO together. Which of COCO's pictures the published
Wider-ResNet was trained on is not known: its list was never published. Run with --help for the rules used here.
"""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from mmext.utils.whole_files import write_whole

# The place is the id; 0 is background.
CLASSES = (
    'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable',
    'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
)  # fmt: skip
COCO_NAMES = {
    'aeroplane': 'airplane',
    'diningtable': 'dining table',
    'motorbike': 'motorcycle',
    'pottedplant': 'potted plant',
    'sofa': 'couch',
    'tvmonitor': 'tv',
}
IGNORED = 255
_PROGRESS = 10_000  # pictures between two lines of progress
_MAX_PIXELS = 2**26  # of a picture; COCO's have up to 640 x 640

_DESCRIPTION = """\
Make label pictures with the ids of PASCAL VOC (palette PNGs, as VOC's own) out of COCO's instance annotations, for
training a segmentation network on VOC, SBD and COCO together.

rules:
  - the 20 classes of VOC are found by name (aeroplane is airplane in COCO, and so on); all else is background, 0
  - where objects overlap the smaller one lies in front; no border is drawn around them
  - crowds, whose outlines are coarse, lie behind all objects; they are 255 (ignored) unless --crowds class
  - a picture with fewer pixels of the 20 classes than --least-pixels gets no label and is not listed

Which of COCO's pictures the published Wider-ResNet was trained on is not known: its list was never published.
"""
_EXAMPLE = """\
example:
  python tools/coco_to_voc_labels.py data/coco/annotations/instances_train2017.json data/coco/voc_labels/train2017

writes data/coco/voc_labels/train2017/000000000009.png and so on, and last the list of them,
data/coco/voc_labels/train2017.txt, one name without suffix a line, as mmseg's PascalVOCDataset takes it (ann_file).
"""


class AnnotationError(ValueError):
    """The annotations cannot be used; the message says why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Ends the program with one line; the usage that argparse would add hides it."""
        self.exit(2, f'error: {message}; see --help\n')


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(description=_DESCRIPTION, epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('annotations', type=Path, help="COCO's instances_*.json")
    parser.add_argument('out', type=Path, help='folder for the labels, which is made if missing')
    parser.add_argument('--list', type=Path, help='file for the list of labels (default: OUT with .txt added)')
    parser.add_argument(
        '--crowds', choices=('ignore', 'class'), default='ignore', help='what crowds become (default: %(default)s)'
    )
    parser.add_argument(
        '--least-pixels', type=int, default=1, metavar='N', help='see the rules; 0 keeps all (default: %(default)s)'
    )
    return parser


def palette() -> list[int]:
    """Returns VOC's 256 colours as 768 numbers: red, green, blue of id 0, of id 1, and so on.

    The bits of an id, lowest first, go in turn to red, green and blue, from each colour's highest bit downwards.
    """
    colours = np.zeros((256, 3), int)
    for bit in range(8):
        place, channel = divmod(bit, 3)
        colours[:, channel] |= ((np.arange(256) >> bit) & 1) << (7 - place)
    return colours.ravel().tolist()


def read(path: Path) -> dict:
    """Returns the contents of an annotation file.

    Raises:
        AnnotationError: If it cannot be read or is no such file.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as problem:
        raise AnnotationError(f'{path} cannot be read: {problem}') from problem
    parts = content if isinstance(content, dict) else {}
    missing = [part for part in ('images', 'annotations', 'categories') if not isinstance(parts.get(part), list)]
    if missing:
        raise AnnotationError(f'{path} has no list of {", ".join(missing)}: give an instances_*.json of COCO')
    for part in ('images', 'annotations', 'categories'):
        odd = next((entry for entry in parts[part] if not isinstance(entry, dict)), None)
        if odd is not None:
            raise AnnotationError(
                f'{path} has a {type(odd).__name__} among its {part}: give an instances_*.json of COCO'
            )
    return content


def voc_ids(categories: list[dict]) -> dict[int, int]:
    """Returns {COCO's category id: VOC's class id} for the 20 classes of VOC.

    Raises:
        AnnotationError: If a class is missing.
    """
    by_name = {category['name']: category['id'] for category in categories}
    names = {name: COCO_NAMES.get(name, name) for name in CLASSES[1:]}
    missing = [f'{name!r}' for name in names.values() if name not in by_name]
    if missing:
        raise AnnotationError(f'no category {", ".join(missing)}; the file has: {", ".join(by_name) or "none"}')
    return {by_name[name]: CLASSES.index(voc_name) for voc_name, name in names.items()}


def _mask(annotation: dict, height: int, width: int) -> np.ndarray:
    """Returns where an annotation's object is: bool [height, width], from polygons or a run-length code of any kind."""
    outline = annotation.get('segmentation')
    try:
        code = outline
        if isinstance(outline, list):
            code = coco_mask.merge(coco_mask.frPyObjects(outline, height, width))
        elif isinstance(outline['counts'], list):
            code = coco_mask.frPyObjects(outline, *outline['size'])
        mask = coco_mask.decode(code) > 0
        if mask.shape != (height, width):
            raise ValueError(f'it is of size {mask.shape} in a picture of {(height, width)}')
        return mask
    except Exception as problem:  # of this very class where pycocotools does not know what it is given
        raise AnnotationError(
            f'annotation {annotation.get("id")} of picture {annotation.get("image_id")} has no usable segmentation '
            f'({problem}): give an instances_*.json of COCO'
        ) from problem


def label(annotations: list[dict], height: int, width: int, ids: dict[int, int], crowds: str = 'ignore') -> np.ndarray:
    """Returns the label of a picture.

    Args:
        annotations: The picture's annotations. Those whose category is not in `ids` are passed over.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        ids: As `voc_ids` returns them.
        crowds: What crowds become, 'ignore' (255) or 'class'.

    Returns:
        Class ids [height, width], uint8: 0 to 20, and 255 where ignored.

    Raises:
        AnnotationError: If an outline cannot be used.
    """
    layers = []
    for annotation in annotations:
        if annotation['category_id'] in ids:
            mask = _mask(annotation, height, width)
            crowd = bool(annotation.get('iscrowd'))
            number = IGNORED if crowd and crowds == 'ignore' else ids[annotation['category_id']]
            layers.append((crowd, mask.sum(), number, mask))
    labels = np.zeros((height, width), np.uint8)
    for _, _, number, mask in sorted(layers, key=lambda layer: layer[:2], reverse=True):
        labels[mask] = number
    return labels


def _check_size(picture: dict) -> None:
    height, width = picture['height'], picture['width']
    if type(height) is not int or type(width) is not int or min(height, width) < 1 or height * width > _MAX_PIXELS:
        raise AnnotationError(
            f'picture {picture["id"]} is {height!r} pixels high and {width!r} wide: whole numbers above 0 are needed, '
            f'and no more than {_MAX_PIXELS} pixels'
        )


def _png(labels: np.ndarray) -> bytes:
    picture = Image.fromarray(labels)
    picture.putpalette(palette())
    file = io.BytesIO()
    picture.save(file, format='PNG')
    return file.getvalue()


def convert(content: dict, out: Path, crowds: str, least_pixels: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Writes the labels.

    Args:
        content: As `read` returns it.
        out: Folder to write to, which exists.
        crowds: As for `label`.
        least_pixels: Least number of pixels of VOC's 20 classes in a picture that gets a label.

    Returns:
        The names of the pictures that got a label, sorted, without suffix; and two arrays over the ids 0 to 255: in how
        many of these pictures an id occurs, and in how many pixels.

    Raises:
        AnnotationError: If the annotations cannot be used.
        OSError: If a file cannot be written.
    """
    ids = voc_ids(content['categories'])
    of_picture = {picture['id']: [] for picture in content['images']}
    for annotation in content['annotations']:
        if annotation['image_id'] not in of_picture:
            raise AnnotationError(f'annotation {annotation["id"]} is of picture {annotation["image_id"]}, not listed')
        of_picture[annotation['image_id']].append(annotation)
    names, pictures, pixels = [], np.zeros(256, int), np.zeros(256, int)
    for number, picture in enumerate(content['images'], start=1):
        _check_size(picture)
        labels = label(of_picture[picture['id']], picture['height'], picture['width'], ids, crowds)
        counts = np.bincount(labels.ravel(), minlength=256)
        if counts[1 : len(CLASSES)].sum() >= least_pixels:
            name = Path(picture['file_name']).stem
            write_whole(out / f'{name}.png', _png(labels))
            names.append(name)
            pictures += counts > 0
            pixels += counts
        if number % _PROGRESS == 0:
            print(f'{number} of {len(content["images"])} pictures', file=sys.stderr, flush=True)
    return sorted(names), pictures, pixels


def main(argv: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments without the program's name; None takes them from the command line.

    Returns:
        The exit code: 0 when all labels are written, 2 when the annotations, a folder or the disk is in the way.

    Raises:
        SystemExit: With code 2 on a bad option, 0 on --help.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.least_pixels < 0:
        parser.error(f'--least-pixels is {arguments.least_pixels}: give an integer >= 0')
    if arguments.out.exists() and not arguments.out.is_dir():
        parser.error(f'OUT is {arguments.out}, which is a file: give a folder, which is made if missing')
    out = arguments.out
    listing = out.with_name(f'{out.name}.txt') if arguments.list is None else arguments.list
    try:
        content = read(arguments.annotations)
        out.mkdir(parents=True, exist_ok=True)
        names, pictures, pixels = convert(content, out, arguments.crowds, arguments.least_pixels)
        listing.parent.mkdir(parents=True, exist_ok=True)
        write_whole(listing, ''.join(f'{name}\n' for name in names))
    except KeyError as problem:
        print(
            f'error: an entry of {arguments.annotations} has no {problem}: give an instances_*.json of COCO',
            file=sys.stderr,
        )
        return 2
    except (AnnotationError, OSError) as problem:
        print(f'error: {problem}', file=sys.stderr)
        return 2
    print(f'{"class":<12}{"pictures":>10}{"pixels":>9}')
    for number, name in [*enumerate(CLASSES), (IGNORED, 'ignored')]:
        print(f'{name:<12}{pictures[number]:>10}{pixels[number] / max(pixels.sum(), 1):>9.2%}')
    print(f'{out}: {len(names)} labels of {len(content["images"])} pictures; {listing}: their names')
    return 0


if __name__ == '__main__':
    sys.exit(main())
