"""The mini datasets: right in the standard formats, disjoint, repeatable, and never in the way of other data."""

import collections
import importlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip('cv2')
pytest.importorskip('sklearn')

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
ALL = ('coco', 'coco_keypoints', 'cityscapes', 'imagenet', 'kinetics400')
# Small enough to be quick, large enough for the statistics below.
COUNTS = {
    'coco': (24, 8),
    'coco_keypoints': (16, 6),
    'cityscapes': (3, 2),
    'imagenet': (40, 20),
    'kinetics400': (24, 8),
}


def _load(name):
    if str(TOOLS) not in sys.path:
        sys.path.insert(0, str(TOOLS))
    return importlib.import_module(name)


def _run(out, *arguments):
    return _load('make_mini_datasets').main([*map(str, arguments), '--out', str(out)])


def _content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def _modified(folder):
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob('*')]}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp('mini')
    for name, (train, val) in COUNTS.items():
        assert _run(out, name, '--train', train, '--val', val) == 0
    return out


def _coco(folder, kind, split):
    coco = pytest.importorskip('pycocotools.coco')
    return coco.COCO(str(folder / 'annotations' / f'{kind}_{split}2017.json'))


@pytest.mark.parametrize(
    ('name', 'kind', 'size'), [('coco', 'instances', 192), ('coco_keypoints', 'person_keypoints', 256)]
)
@pytest.mark.parametrize('split', ['train', 'val'])
def test_boxes_areas_and_masks_agree(made, name, kind, size, split):
    annotations = _coco(made / name, kind, split)
    assert len(annotations.imgs) == COUNTS[name][split == 'val']
    for image in annotations.imgs.values():
        picture = cv2.imread(str(made / name / f'{split}2017' / image['file_name']))
        assert picture.shape == (image['height'], image['width'], 3) == (size, size, 3)
        entries = annotations.imgToAnns[image['id']]
        assert 1 <= len(entries) <= 5
        seen = np.zeros((size, size), int)
        for entry in entries:
            mask = annotations.annToMask(entry)
            assert mask.shape == (size, size)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
            assert entry['bbox'] == [columns[0], rows[0], width, height]
            assert entry['area'] == mask.sum() > 0
            assert entry['iscrowd'] == 0
            outline = np.concatenate([np.reshape(points, (-1, 2)) for points in entry['segmentation']])
            assert outline.min() >= 0
            assert outline.max() <= size
            seen += mask
        # What is behind another object is cut out of the mask, so no pixel has two owners.
        assert seen.max() == 1


@pytest.mark.parametrize('shape', [(7, 9), (1, 1), (12, 5)])
def test_polygons_rasterise_to_the_mask(shape):
    coder = pytest.importorskip('pycocotools.mask')
    to_polygons = _load('mini_datasets.coco_format').mask_to_polygons
    rng = np.random.default_rng(0)
    # Noise has everything that is awkward: holes, islands in holes, pixels that touch by a corner.
    for mask in [np.ones(shape, bool), *(rng.random((40, *shape)) < 0.6)]:
        if mask.any():
            polygons = to_polygons(mask)
            assert np.array_equal(coder.decode(coder.merge(coder.frPyObjects(polygons, *shape))), mask)


def test_coco_categories_and_disjoint_digits(made, tmp_path):
    drawn = {}
    for split in ('train', 'val'):
        annotations = _coco(made / 'coco', 'instances', split)
        assert [record['name'] for record in annotations.dataset['categories']] == list('01234')
        drawn[split] = {entry['digit_index'] for entry in annotations.anns.values()}
        values = _load('mini_datasets.scene').digits()[1]
        for entry in annotations.anns.values():
            assert entry['category_id'] == values[entry['digit_index']] + 1
    assert not drawn['train'] & drawn['val']
    assert _run(tmp_path, 'coco', '--train', 8, '--val', 2, '--coco-categories', 'star', '3', 'disc') == 0
    annotations = _coco(tmp_path / 'coco', 'instances', 'train')
    assert {record['id']: record['name'] for record in annotations.dataset['categories']} == {
        4: '3',
        11: 'disc',
        14: 'star',
    }
    assert {entry['category_id'] for entry in annotations.anns.values()} == {4, 11, 14}


def test_every_digit_is_in_one_split():
    scene = _load('mini_datasets.scene')
    indices = [scene.digit_indices(split, value) for split in ('train', 'val') for value in range(10)]
    assert sorted(np.concatenate(indices)) == list(range(1797))
    assert {len(found) for found in indices[10:]} <= {34, 35, 36}


def test_keypoints(made):
    flags, persons = collections.Counter(), collections.Counter()
    for split in ('train', 'val'):
        annotations = _coco(made / 'coco_keypoints', 'person_keypoints', split)
        (category,) = annotations.dataset['categories']
        assert category['name'] == 'person'
        assert category['keypoints'][:3] == ['nose', 'left_eye', 'right_eye']
        assert len(category['keypoints']) == 17
        assert len(category['skeleton']) == 19
        for entry in annotations.anns.values():
            joints = np.reshape(entry['keypoints'], (17, 3))
            placed = joints[:, 2] > 0
            assert set(joints[:, 2]) <= {0, 1, 2}
            assert entry['num_keypoints'] == placed.sum() >= 10
            assert not joints[~placed].any()
            assert joints[placed, :2].max() < 256
            mask = annotations.annToMask(entry)
            x, y = joints[joints[:, 2] == 2, :2].T
            assert mask[y, x].all()
            # Persons face the viewer, so that left and right are told by where they are, also in a mirrored picture.
            if placed[5] and placed[6]:
                assert joints[5, 0] > joints[6, 0]
            flags.update(joints[:, 2].tolist())
            persons[split, entry['image_id']] += 1
    assert set(flags) == {0, 1, 2}
    assert flags[2] > 5 * (flags[0] + flags[1])
    assert set(persons.values()) == {1, 2, 3, 4}


def test_cityscapes_labels(made):
    of_training = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13}
    of_training |= {27: 14, 28: 15, 31: 16, 32: 17, 33: 18, 1: 255, 4: 255}
    for split, count in zip(('train', 'val'), COUNTS['cityscapes']):
        pictures = sorted((made / 'cityscapes' / 'leftImg8bit' / split).glob('*/*_leftImg8bit.png'))
        assert len(pictures) == count
        found = set()
        for path in pictures:
            assert path.name.startswith(f'{path.parent.name}_000000_')
            truth = made / 'cityscapes' / 'gtFine' / split / path.parent.name
            stem = path.name.removesuffix('leftImg8bit.png')
            identities = cv2.imread(str(truth / f'{stem}gtFine_labelIds.png'), cv2.IMREAD_UNCHANGED)
            training = cv2.imread(str(truth / f'{stem}gtFine_labelTrainIds.png'), cv2.IMREAD_UNCHANGED)
            assert cv2.imread(str(path)).shape == (128, 256, 3)
            assert identities.shape == training.shape == (128, 256)
            assert np.array_equal(np.vectorize(of_training.__getitem__)(identities), training)
            found |= set(np.unique(training).tolist())
        assert found == {*range(19), 255}


def test_imagenet_layout(made):
    folder, digits = made / 'imagenet', {}
    for split, count in zip(('train', 'val'), COUNTS['imagenet']):
        classes = sorted(path.name for path in (folder / split).iterdir())
        assert classes == [f'n{label:08d}' for label in range(10)]
        lines = [line.rsplit(' ', 1) for line in (folder / 'meta' / f'{split}.txt').read_text().splitlines()]
        assert len(lines) == count
        assert {name for name, _ in lines} == {
            str(path.relative_to(folder / split)) for path in (folder / split).glob('*/*.JPEG')
        }
        assert all(classes.index(name.split('/')[0]) == int(label) for name, label in lines)
        assert set(collections.Counter(label for _, label in lines).values()) == {count // 10}
        assert cv2.imread(str(folder / split / lines[0][0])).shape == (64, 64, 3)
        digits[split] = {name.removesuffix('.JPEG').rsplit('_', 1)[1] for name, _ in lines}
    assert not digits['train'] & digits['val']


def _motion(clip):
    """Returns the sprite's way (x, y) in pixels per frame, by the circular mean of where it differs from the still."""
    differs = np.abs(clip.astype(float) - np.median(clip, 0)).sum(-1) > 90
    if differs.mean() < 0.002:
        return np.zeros(2)
    side = clip.shape[1]
    turns = np.exp(2j * np.pi * np.arange(side) / side)
    centres = [np.angle((differs.sum(axis) * turns).sum(-1)) for axis in (1, 2)]
    return np.array([np.median(np.angle(np.exp(1j * np.diff(centre)))) for centre in centres]) * side / (2 * np.pi)


def test_clips_move_as_their_label_says(made):
    decord = pytest.importorskip('decord')
    folder, ways = made / 'kinetics400', []
    assert (folder / 'classes.txt').read_text().split() == ['rise', 'fall', 'slide', 'rest']
    for split, count in zip(('train', 'val'), COUNTS['kinetics400']):
        lines = (folder / f'kinetics400_{split}_list_videos.txt').read_text().splitlines()
        assert len(lines) == count
        for line in lines:
            name, label = line.split()
            reader = decord.VideoReader(str(folder / f'videos_{split}' / name), num_threads=1)
            clip = reader.get_batch(range(len(reader))).asnumpy()
            assert clip.shape == (32, 64, 64, 3)
            x, y = _motion(clip)
            if label == '2':
                assert abs(x) > 1
                ways.append(np.sign(x))
            else:
                assert abs(x) < 0.6
            assert np.sign(y) * (abs(y) > 0.6) == {'0': -1, '1': 1}.get(label, 0)
    assert set(ways) == {-1, 1}


def test_one_frame_does_not_tell_the_class():
    scene, kinetics = _load('mini_datasets.scene'), _load('mini_datasets.kinetics400')
    first = [kinetics.frames(scene.generator(0, 'test', 'train', 3), 'train', label, 12, 64)[0] for label in range(4)]
    assert all(np.array_equal(first[0], other) for other in first[1:])
    # Later frames: the sprite is as often in the upper as in the lower half, whatever the class.
    for label in range(4):
        upper = []
        for index in range(60):
            rng = scene.generator(0, 'test', 'train', index)
            clip = kinetics.frames(rng, 'train', label, 12, 48).astype(int)
            rng = scene.generator(0, 'test', 'train', index)
            differs = np.abs(clip[-1] - scene.background(rng, 'train', 48, 48)).sum(-1) > 60
            upper.append(differs[:24].sum() > differs[24:].sum())
        assert 0.25 < np.mean(upper) < 0.75


def test_contact_sheets_and_manifests(made):
    for name in ALL:
        sheet = cv2.imread(str(made / name / 'contact_sheet.png'))
        assert sheet.std() > 10
        manifest = json.loads((made / name / 'mini.json').read_text())
        train, val = COUNTS[name]
        assert manifest['name'] == name
        assert manifest['options'] | {'seed': 0, 'train': train, 'val': val} == manifest['options']
    assert sorted(path.name for path in made.iterdir()) == sorted(ALL)


@pytest.mark.parametrize('name', ALL)
def test_same_seed_same_bytes(tmp_path, name):
    few = (name, '--train', 2, '--val', 1)
    for folder, seed in (('a', 5), ('b', 5), ('c', 6)):
        assert _run(tmp_path / folder, *few, '--seed', seed) == 0
    same, again, other = (_content(tmp_path / folder / name) for folder in 'abc')
    assert same == again
    pictures = [path for path in same if path.suffix in ('.jpg', '.JPEG', '.mp4') or 'leftImg8bit' in path.name]
    assert len(pictures) == 3
    assert all(same[path] != other.get(path) for path in pictures)


def test_more_samples_keep_the_first_ones(tmp_path):
    _run(tmp_path / 'few', 'imagenet', '--train', 3, '--val', 1)
    _run(tmp_path / 'more', 'imagenet', '--train', 6, '--val', 1)
    more = _content(tmp_path / 'more' / 'imagenet')
    for path, content in _content(tmp_path / 'few' / 'imagenet').items():
        if path.suffix == '.JPEG':
            assert more[path] == content


@pytest.mark.parametrize('name', ALL)
def test_smallest_size(tmp_path, name):
    smallest = _load('mini_datasets.catalog').DATASETS[name].smallest
    assert _run(tmp_path, name, '--train', 3, '--val', 1, '--size', smallest) == 0


def test_second_run_touches_nothing(tmp_path, capsys):
    arguments = ('imagenet', '--train', 4, '--val', 2)
    _run(tmp_path, *arguments)
    before = _modified(tmp_path)
    assert _run(tmp_path, *arguments) == 0
    assert 'up to date' in capsys.readouterr().out
    assert _modified(tmp_path) == before


def test_other_options_replace_the_dataset_when_the_new_one_is_whole(tmp_path, monkeypatch):
    _run(tmp_path, 'imagenet', '--train', 4, '--val', 2)
    before = _content(tmp_path)
    scene = _load('mini_datasets.scene')
    with monkeypatch.context() as patch:
        patch.setattr(scene, 'write_picture', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            _run(tmp_path, 'imagenet', '--train', 5, '--val', 2)
    assert _content(tmp_path) == before
    assert _run(tmp_path, 'imagenet', '--train', 5, '--val', 2) == 0
    assert len(list(tmp_path.glob('imagenet/train/*/*.JPEG'))) == 5
    assert [path.name for path in tmp_path.iterdir()] == ['imagenet']


@pytest.mark.parametrize('manifest', [None, '', '{"name": "coco"}', '[]'])
def test_folder_without_a_valid_manifest_is_refused_and_kept(tmp_path, capsys, manifest):
    (tmp_path / 'coco').mkdir()
    (tmp_path / 'coco' / 'mine.txt').write_text('precious')
    if manifest is not None:
        (tmp_path / 'coco' / 'mini.json').write_text(manifest)
    before = _content(tmp_path)
    assert _run(tmp_path, 'coco', '--train', 1, '--val', 1) == 2
    message = capsys.readouterr().err
    assert message.startswith(f'error: {tmp_path / "coco"} exists but holds no valid mini.json')
    assert 'move or delete it' in message
    assert _content(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ['coco']


def test_files_of_the_user_in_an_old_dataset_are_kept(tmp_path, capsys):
    _run(tmp_path, 'imagenet', '--train', 2, '--val', 1)
    (tmp_path / 'imagenet' / 'mine.txt').write_text('precious')
    assert _run(tmp_path, 'imagenet', '--train', 3, '--val', 1) == 2
    assert '1 more file(s) than this tool wrote' in capsys.readouterr().err
    assert (tmp_path / 'imagenet' / 'mine.txt').read_text() == 'precious'


def test_dataset_with_missing_files_is_made_anew(tmp_path, capsys):
    arguments = ('imagenet', '--train', 3, '--val', 1)
    _run(tmp_path, *arguments)
    whole = _content(tmp_path)
    next(tmp_path.glob('imagenet/train/*/*.JPEG')).unlink()
    assert _run(tmp_path, *arguments) == 0
    assert _content(tmp_path) == whole


def test_killed_run_is_cleaned_up_and_not_taken_for_whole(tmp_path, capsys):
    for leftover in ('.coco.partial-123', '.coco.partial-123-old'):
        (tmp_path / leftover / 'train2017').mkdir(parents=True)
        (tmp_path / leftover / 'train2017' / '000000000001.jpg').write_text('half')
    (tmp_path / '.imagenet.partial-5').mkdir()
    assert _run(tmp_path, 'coco', '--train', 2, '--val', 1) == 0
    assert 'up to date' not in capsys.readouterr().out
    assert len(list((tmp_path / 'coco' / 'train2017').iterdir())) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.imagenet.partial-5', 'coco']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['cocoo'],
            "error: unknown dataset 'cocoo': choose from coco, coco_keypoints, cityscapes, imagenet, kinetics400",
        ),
        (['coco', '--train', '0'], 'error: --train is 0: give an integer >= 1'),
        (['coco', '--val', '-3'], 'error: --val is -3: give an integer >= 1'),
        (['coco', '--seed', '-1'], 'error: --seed is -1: give an integer >= 0'),
        (['kinetics400', '--frames', '2'], 'error: --frames is 2: give an integer >= 8'),
        (['cityscapes', '--size', '64'], 'error: --size is 64: cityscapes needs an even number of pixels >= 128'),
        (['kinetics400', '--size', '65'], 'error: --size is 65: kinetics400 needs an even number of pixels >= 48'),
        (
            ['coco', '--coco-categories', '0', 'cat'],
            "error: --coco-categories: unknown category 'cat': choose from 0 1",
        ),
        (['coco', '--train', 'many'], "error: argument --train: invalid int value: 'many'"),
    ],
)
def test_bad_options(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        _run(tmp_path, *arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.endswith('see --help\n')
    assert printed.count('\n') == 1
    assert not list(tmp_path.iterdir())


def test_out_that_is_a_file(tmp_path, capsys):
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(SystemExit) as stop:
        _run(tmp_path / 'file', 'coco')
    assert stop.value.code == 2
    assert f'--out is {tmp_path / "file"}, which is a file: give a folder' in capsys.readouterr().err


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        _load('make_mini_datasets').main(['--help'])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert 'examples:' in printed
    assert '1200 + 160 pictures' in printed
