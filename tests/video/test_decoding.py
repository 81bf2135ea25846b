"""Decoding through mmaction2's pipeline and data set, of good clips and of files that cannot be decoded."""

import cv2
import mini_clips
import numpy as np
import pytest
from mmengine.registry import DATASETS, TRANSFORMS

PIPELINE = [
    dict(type='mmext.DecordInit'),
    dict(type='SampleFrames', clip_len=4, frame_interval=2, test_mode=True),
    dict(type='mmext.DecordDecode'),
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return mini_clips.make(tmp_path_factory.mktemp('data'), train=1, val=1)


@pytest.fixture
def clip(folder):
    return next((folder / 'videos_train').glob('*.mp4'))


def run(path, steps=PIPELINE):
    results = dict(filename=str(path), start_index=0, modality='RGB')
    for step in steps:
        results = TRANSFORMS.build(step)(results)
    return results


def frames_of(path):
    reader, frames = cv2.VideoCapture(str(path)), []
    while (found := reader.read())[0]:
        frames.append(found[1][..., ::-1])
    return frames


def test_frames_are_those_that_opencv_reads(clip):
    results = run(clip)
    expected = frames_of(clip)
    assert (results['total_frames'], results['avg_fps']) == (16, 16)
    assert results['frame_inds'].tolist() == [4, 6, 8, 10]
    for index, picture in zip(results['frame_inds'], results['imgs']):
        assert picture.shape == (64, 64, 3)
        assert np.abs(picture.astype(int) - expected[index]).mean() < 3  # two conversions of colour


def test_same_as_mmaction2s(clip):
    own = run(clip)
    theirs = run(clip, [{**step, 'type': step['type'].removeprefix('mmext.')} for step in PIPELINE])
    assert np.array_equal(own['imgs'], theirs['imgs'])
    assert own.keys() == theirs.keys()


@pytest.mark.parametrize(
    'spoil',
    [lambda data: b'', lambda data: b'no video', lambda data: data[: len(data) // 2]],
    ids=['empty', 'text', 'half'],
)
def test_file_that_cannot_be_opened(spoil, clip, tmp_path):
    path = tmp_path / 'spoilt.mp4'
    path.write_bytes(spoil(clip.read_bytes()))
    with pytest.raises(
        ValueError, match=r'cannot decode the clip .*spoilt\.mp4: .*it is damaged, incomplete or no video'
    ):
        run(path)


def test_frames_that_cannot_be_decoded(clip, tmp_path):
    data = clip.read_bytes()
    start = data.index(b'mdat') + 4
    path = tmp_path / 'damaged.mp4'
    path.write_bytes(data[:start] + bytes(1000) + data[start + 1000 :])
    with pytest.raises(ValueError, match=r'cannot decode the clip .*damaged\.mp4: '):
        run(path)


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'absent\.mp4'):
        run(tmp_path / 'absent.mp4')


def test_data_set_names_the_clip(folder, tmp_path):
    (tmp_path / 'bad.mp4').write_bytes(b'no video')
    (tmp_path / 'list.txt').write_text('bad.mp4 0\n')
    dataset = DATASETS.build(
        dict(
            type='VideoDataset',
            ann_file=str(tmp_path / 'list.txt'),
            data_prefix=dict(video=str(tmp_path)),
            pipeline=PIPELINE,
        )
    )
    with pytest.raises(ValueError, match=r'cannot decode the clip .*bad\.mp4'):
        dataset[0]
