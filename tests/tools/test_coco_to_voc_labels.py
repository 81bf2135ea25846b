"""Labels with VOC's ids from COCO's instance annotations."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('pycocotools')
TOOLS = Path(__file__).resolve().parents[2] / 'tools'
# Ids as COCO's own where it matters: not in VOC's order, with gaps, and classes that VOC does not have.
CATEGORIES = {
    1: 'person', 2: 'bicycle', 3: 'car', 4: 'motorcycle', 5: 'airplane', 6: 'bus', 7: 'train', 8: 'truck', 9: 'boat',
    16: 'bird', 17: 'cat', 18: 'dog', 19: 'horse', 20: 'sheep', 21: 'cow', 22: 'elephant', 44: 'bottle', 62: 'chair',
    63: 'couch', 64: 'potted plant', 67: 'dining table', 72: 'tv',
}  # fmt: skip
VOC_IDS = {
    1: 15, 2: 2, 3: 7, 4: 14, 5: 1, 6: 6, 7: 19, 9: 4, 16: 3, 17: 8, 18: 12, 19: 13, 20: 17, 21: 10, 44: 5, 62: 9,
    63: 18, 64: 16, 67: 11, 72: 20,
}  # fmt: skip
HEIGHT, WIDTH = 12, 16


@pytest.fixture(scope='module')
def tool():
    if str(TOOLS) not in sys.path:
        sys.path.insert(0, str(TOOLS))
    return importlib.import_module('coco_to_voc_labels')


def box(left, top, right, bottom):
    """Polygon of the pixels left <= x < right, top <= y < bottom."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def crowd_code(left, top, right, bottom):
    """The same as COCO outlines crowds: uncompressed run lengths, down the columns."""
    mask = np.zeros((HEIGHT, WIDTH), int)
    mask[top:bottom, left:right] = 1
    line = mask.T.ravel()
    changes = np.flatnonzero(np.diff(line, prepend=0))
    return dict(size=[HEIGHT, WIDTH], counts=np.diff([0, *changes, line.size]).tolist())


def annotation(category, outline, picture=1, crowd=0):
    return dict(id=7, image_id=picture, category_id=category, segmentation=outline, iscrowd=crowd)


def content(annotations, pictures=(1,)):
    return dict(
        images=[dict(id=i, file_name=f'{i:012d}.jpg', height=HEIGHT, width=WIDTH) for i in pictures],
        categories=[dict(id=number, name=name) for number, name in CATEGORIES.items()],
        annotations=annotations,
    )


@pytest.fixture
def run(tool, tmp_path, capsys):
    """Runs the command on annotations; returns the exit code, what was printed and the labels."""

    def run_(annotations, *options):
        path = tmp_path / 'instances.json'
        path.write_text(annotations if isinstance(annotations, str) else json.dumps(annotations))
        code = tool.main([str(path), str(tmp_path / 'out'), *options])
        labels = {path.stem: Image.open(path) for path in sorted((tmp_path / 'out').glob('*'))}
        return code, capsys.readouterr(), labels

    return run_


def test_classes_are_found_by_name(tool):
    assert tool.voc_ids(content([])['categories']) == VOC_IDS
    voc = pytest.importorskip('mmseg.datasets').PascalVOCDataset.METAINFO
    assert voc['classes'] == tool.CLASSES
    assert voc['palette'] == np.reshape(tool.palette(), (256, 3))[:21].tolist()


def test_the_colour_of_ignored_pixels(tool):
    assert tool.palette()[-3:] == [224, 224, 192]


def test_a_label(tool):
    """A table with a bottle on it, a truck (no class of VOC), a crowd behind a person."""
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[6:12, 0:8] = 11
    expected[4:8, 2:4] = 5
    expected[0:6, 9:16] = 255
    expected[2:12, 12:14] = 15
    annotations = [
        annotation(44, box(2, 4, 4, 8)),
        annotation(67, box(0, 6, 8, 12)),
        annotation(8, box(0, 0, 8, 6)),
        annotation(1, box(12, 2, 14, 12)),
        annotation(1, crowd_code(9, 0, 16, 6), crowd=1),
    ]
    for order in (annotations, annotations[::-1]):
        np.testing.assert_array_equal(tool.label(order, HEIGHT, WIDTH, VOC_IDS), expected)
    expected[expected == 255] = 15
    np.testing.assert_array_equal(tool.label(annotations, HEIGHT, WIDTH, VOC_IDS, crowds='class'), expected)


def test_a_small_crowd_lies_behind_a_large_object(tool):
    annotations = [annotation(3, box(0, 0, 16, 10)), annotation(1, crowd_code(2, 8, 6, 12), crowd=1)]
    labels = tool.label(annotations, HEIGHT, WIDTH, VOC_IDS)
    assert (labels[:10] == 7).all()
    assert (labels[10:, 2:6] == 255).all()


def test_outlines_in_every_form(tool):
    from pycocotools import mask

    code = crowd_code(3, 2, 9, 7)
    compressed = mask.frPyObjects(code, HEIGHT, WIDTH)
    text = dict(compressed, counts=compressed['counts'].decode())
    parts = box(3, 2, 5, 7) + box(5, 2, 9, 7)
    for outline in (code, text, parts):
        labels = tool.label([annotation(18, outline)], HEIGHT, WIDTH, VOC_IDS)
        assert (labels[2:7, 3:9] == 12).all()
        assert (labels > 0).sum() == 30


def test_files_and_counts(tool, run, tmp_path):
    annotations = [
        annotation(3, box(0, 0, 8, 12), picture=20),
        annotation(3, box(0, 0, 4, 4), picture=3),
        annotation(1, crowd_code(0, 0, 16, 12), picture=4, crowd=1),
        annotation(8, box(0, 0, 4, 4), picture=5),
    ]
    code, printed, labels = run(content(annotations, pictures=(20, 3, 4, 5, 6)))
    assert code == 0
    assert list(labels) == ['000000000003', '000000000020']  # nothing for crowds alone, nor for a truck, nor for none
    assert (tmp_path / 'out.txt').read_text() == '000000000003\n000000000020\n'
    picture = labels['000000000020']
    assert picture.mode == 'P'
    assert picture.getpalette() == tool.palette()
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[:, :8] = 7
    np.testing.assert_array_equal(np.asarray(picture), expected)
    lines = printed.out.splitlines()
    assert lines[1].split() == ['background', '2', '70.83%']
    assert next(line for line in lines if line.startswith('car')).split() == ['car', '2', '29.17%']
    assert next(line for line in lines if line.startswith('person')).split() == ['person', '0', '0.00%']
    assert '2 labels of 5 pictures' in lines[-1]


def test_mmseg_reads_them(tool, run, tmp_path):
    datasets = pytest.importorskip('mmseg.datasets')
    from mmengine.registry import DefaultScope

    run(content([annotation(72, box(0, 0, 8, 12)), annotation(1, crowd_code(8, 0, 9, 12), crowd=1)]))
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = datasets.PascalVOCDataset(
            ann_file='out.txt',
            data_root=str(tmp_path),
            data_prefix=dict(img_path='', seg_map_path='out'),
            pipeline=[dict(type='LoadAnnotations')],
        )
        labels = dataset[0]['gt_seg_map']
    assert dataset[0]['img_path'].endswith('000000000001.jpg')
    assert np.unique(labels, return_counts=True)[0].tolist() == [0, 20, 255]
    assert (labels[:, :8] == 20).all()


def test_least_pixels_and_list(run, tmp_path):
    annotations = [annotation(3, box(0, 0, 8, 12), picture=1), annotation(3, box(0, 0, 4, 4), picture=2)]
    listing = tmp_path / 'new' / 'names.txt'
    run(content(annotations, (1, 2, 3)), '--least-pixels', '17', '--list', str(listing))
    assert listing.read_text() == '000000000001\n'
    assert not (tmp_path / 'out.txt').exists()
    run(content(annotations, (1, 2, 3)), '--least-pixels', '0', '--list', str(listing))
    assert len(listing.read_text().split()) == 3


def test_crowds_as_a_class(run):
    annotations = [annotation(1, crowd_code(0, 0, 4, 4), crowd=1)]
    assert not run(content(annotations))[2]
    (label,) = run(content(annotations), '--crowds', 'class')[2].values()
    assert (np.asarray(label) == 15).sum() == 16


def test_an_interrupted_run_leaves_no_list_and_no_part(tool, run, tmp_path):
    annotations = [annotation(3, box(0, 0, 8, 12)), annotation(3, None, picture=2)]
    code, printed, labels = run(content(annotations, (1, 2)))
    assert code == 2
    assert 'annotation 7 of picture 2 has no usable segmentation' in printed.err
    assert list(labels) == ['000000000001']
    assert not (tmp_path / 'out.txt').exists()


def without(part):
    return {key: value for key, value in content([]).items() if key != part}


def renamed():
    changed = content([])
    changed['categories'][1]['name'] = 'bike'
    return changed


def sized(height, width):
    return dict(id=1, file_name='1.jpg', height=height, width=width)


@pytest.mark.parametrize(
    ('annotations', 'message'),
    [
        ('{', 'cannot be read'),
        ('[]', 'has no list of images, annotations, categories: give an instances_*.json'),
        (without('annotations'), 'has no list of annotations'),
        (renamed(), "no category 'bicycle'; the file has: person, bike, car"),
        (content([annotation(3, box(0, 0, 4, 4), picture=9)]), 'annotation 7 is of picture 9, not listed'),
        (content([annotation(3, [])]), 'no usable segmentation'),
        (content([annotation(3, dict(size=[4, 4], counts=[16]))]), 'size (4, 4) in a picture of (12, 16)'),
        (content([annotation(3, dict(size=[HEIGHT, WIDTH], counts=[999]))]), 'no usable segmentation'),
        ({**content([]), 'images': [dict(id=1, file_name='1.jpg')]}, "has no 'height'"),
        ('[' * 100_000, 'cannot be read: maximum recursion depth'),
        ({**content([]), 'annotations': [5]}, 'has a int among its annotations'),
        ({**content([]), 'images': [sized(10**9, 10**9)]}, 'picture 1 is 1000000000 pixels high and 1000000000 wide'),
        ({**content([]), 'images': [sized(0, 5)]}, 'picture 1 is 0 pixels high'),
        ({**content([]), 'images': [sized('5', 5)]}, "picture 1 is '5' pixels high"),
    ],
)
def test_annotations_that_cannot_be_used(run, annotations, message):
    code, printed, labels = run(annotations)
    assert code == 2
    assert printed.err.startswith('error: ')
    assert message in printed.err
    assert printed.err.count('\n') == 1
    assert not labels


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['a.json', 'out', '--least-pixels', '-1'], '--least-pixels is -1: give an integer >= 0'),
        (['a.json', __file__], 'which is a file: give a folder'),
        (['a.json', 'out', '--crowds', 'drop'], 'invalid choice'),
    ],
)
def test_wrong_options(tool, capsys, options, message):
    with pytest.raises(SystemExit) as end:
        tool.main(options)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_file(tool, capsys, tmp_path):
    assert tool.main([str(tmp_path / 'none.json'), str(tmp_path / 'out')]) == 2
    assert 'none.json cannot be read' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
