"""What --resume resumes from."""

import os
import subprocess
import sys

import mmengine.logging
import pytest
import torch

from mmext.compat.mmengine_latest_checkpoint import find_latest_checkpoint, is_whole

LAST = 'last_checkpoint'


@pytest.fixture
def folder(tmp_path):
    """A training with checkpoints of epochs 1 to 3, the best one among them, and last_checkpoint."""
    for name in ('epoch_1', 'epoch_2', 'epoch_3', 'best_acc_epoch_3', 'epoch_3-0123456a', 'swa'):
        torch.save(dict(meta=dict(epoch=int(name[-1], 16) if name[-1].isdigit() else 0)), tmp_path / f'{name}.pth')
        age = 10 * (name.count('_') + 1) + ('3' in name)
        os.utime(tmp_path / f'{name}.pth', (age, age))
    for epoch in (1, 2, 3):
        os.utime(tmp_path / f'epoch_{epoch}.pth', (epoch, epoch))
    (tmp_path / LAST).write_text(str(tmp_path / 'epoch_3.pth'))
    return tmp_path


def found(folder):
    path = find_latest_checkpoint(str(folder))
    return path and os.path.basename(path)


def test_what_is_named_is_found(folder):
    for name in ('epoch_3.pth', 'epoch_1.pth', 'swa.pth', 'best_acc_epoch_3.pth'):
        (folder / LAST).write_text(f'{folder / name}\n')
        assert find_latest_checkpoint(str(folder)) == str(folder / name)


@pytest.mark.parametrize(
    'content',
    [b'', b' \n', b'\0' * 40, b'\xff\xfe\x00garbage', b'/nowhere/epoch_9.pth', b'x' * 5000, b'..', None],
    ids=['empty', 'blank', 'zeros', 'garbage', 'gone', 'long', 'a folder', 'no file'],
)
def test_last_checkpoint_that_helps_nobody(content, folder):
    if content is None:
        (folder / LAST).unlink()
    elif content == b'..':
        (folder / LAST).unlink()
        (folder / LAST).mkdir()
    else:
        (folder / LAST).write_bytes(content)
    assert found(folder) == 'epoch_3.pth'
    for epoch in (1, 2, 3):
        (folder / f'epoch_{epoch}.pth').unlink()
    assert found(folder) is None


DAMAGE = {
    'gone': lambda path: path.unlink(),
    'empty': lambda path: path.write_bytes(b''),
    'half': lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    'end missing': lambda path: path.write_bytes(path.read_bytes()[:-1]),
    'zeros': lambda path: path.write_bytes(bytes(path.stat().st_size)),
    'one bit': lambda path: path.write_bytes(path.read_bytes().replace(b'epoch', b'epoci')),
    'another archive': lambda path: path.write_bytes(b'PK\5\6' + bytes(18)),
    'empty folder': lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize('damage', DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_passed_over(damage, folder):
    damage(folder / 'epoch_3.pth')
    assert found(folder) == 'epoch_2.pth'
    damage(folder / 'epoch_2.pth')
    assert found(folder) == 'epoch_1.pth'
    damage(folder / 'epoch_1.pth')
    assert found(folder) is None


def test_the_log_says_what_was_wrong(folder, monkeypatch):
    said = []
    monkeypatch.setattr(mmengine.logging, 'print_log', lambda text, **kwargs: said.append(text))
    find_latest_checkpoint(str(folder))
    assert said == []
    (folder / 'epoch_3.pth').write_bytes(b'')
    find_latest_checkpoint(str(folder))
    (folder / LAST).write_text('')
    find_latest_checkpoint(str(folder))
    (folder / LAST).unlink()
    for epoch in (1, 2, 3):
        (folder / f'epoch_{epoch}.pth').unlink()
    find_latest_checkpoint(str(folder))
    resuming = f'resuming from {folder / "epoch_2.pth"}, the newest that is whole'
    assert said == [
        f'{folder / LAST} names {folder / "epoch_3.pth"}, which is damaged; {resuming}',
        f'{folder / LAST} is empty; {resuming}',
        f'{folder / LAST} is not there; no whole checkpoint is there either',
    ]


def test_a_folder_that_moved(folder):
    (folder / LAST).write_text('/home/before/work_dirs/run/epoch_2.pth')
    assert found(folder) == 'epoch_2.pth'  # though there is a newer one


def test_checkpoints_in_another_folder(folder, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('work_dir')
    (work_dir / LAST).write_text(str(folder / 'epoch_4.pth'))
    assert find_latest_checkpoint(str(work_dir)) == str(folder / 'epoch_3.pth')


def test_equal_times_go_by_number(folder):
    torch.save({}, folder / 'epoch_10.pth')
    for path in folder.glob('*.pth'):
        os.utime(path, (5, 5))
    (folder / LAST).write_text('')
    assert found(folder) == 'epoch_10.pth'


def test_remote_checkpoints_and_folders_are_returned_as_named(folder):
    (folder / LAST).write_text('s3://bucket/epoch_3.pth')
    assert find_latest_checkpoint(str(folder)) == 's3://bucket/epoch_3.pth'
    (folder / 'epoch_4.pth').mkdir()  # as DeepSpeed saves
    (folder / 'epoch_4.pth/part').write_text('')
    (folder / LAST).write_text(str(folder / 'epoch_4.pth'))
    assert found(folder) == 'epoch_4.pth'


@pytest.mark.parametrize('checksums', [True, False])
def test_files_that_torch_writes_are_whole(checksums, tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(checksums)
    try:
        torch.save(dict(weight=torch.rand(10)), tmp_path / 'file.pth')
    finally:
        torch.serialization.set_crc32_options(before)
    assert is_whole(tmp_path / 'file.pth')
    torch.save(dict(weight=torch.rand(10)), tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    assert is_whole(tmp_path / 'old.pth')


NAMES = """
{first}
import mmengine.runner
from mmengine.runner import _flexible_runner, checkpoint, runner
found = [module.find_latest_checkpoint.__module__ for module in (mmengine.runner, _flexible_runner, checkpoint, runner)]
print(*set(found))
"""


@pytest.mark.parametrize('first', ['import mmext', 'from mmengine.runner import Runner\nimport mmext'])
def test_the_runner_calls_it(first):
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', NAMES.format(first=first)], capture_output=True, text=True
    )
    assert result.stdout.split() == ['mmext.compat.mmengine_latest_checkpoint'], result.stderr[-2000:]
