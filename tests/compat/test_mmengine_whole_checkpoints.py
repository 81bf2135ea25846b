"""Trainings that are killed at every step of a save can be resumed."""

import builtins
import itertools
import os
import signal
import stat
import threading

import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook, checkpoint_hook
from mmengine.model import BaseModel
from mmengine.runner import Runner, runner
from torch.utils.data import Dataset

from mmext.compat import mmengine_latest_checkpoint, mmengine_whole_checkpoints
from mmext.compat.mmengine_whole_checkpoints import SUFFIX, write_whole


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1000))

    def forward(self, x, mode):
        return dict(loss=(self.weight - x).square().sum())


class Data(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.ones(1)


def train(work_dir, epochs, resume=False, **checkpoint):
    """Train a model of one parameter, saving after each epoch, and return the runner."""
    made = Runner(
        Model(),
        str(work_dir),
        train_dataloader=dict(dataset=Data(), sampler=dict(type='DefaultSampler'), batch_size=1),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-4, momentum=0.9)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, **{'max_keep_ckpts': 1, **checkpoint})),
        resume=resume,
        experiment_name=f'{work_dir.name}-{resume}-{epochs}',
        log_level='ERROR',
    )
    made.train()
    return made


class Slow:
    """A file that is written in two halves."""

    def __init__(self, file, point):
        self.file, self.point = file, point

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            self.file.write(half)
            self.file.flush()
            self.point()


def kill_at(number):
    """Let this process be killed at one of the steps in which files are opened, written, renamed and removed."""
    count = itertools.count()
    real = builtins.open

    def point():
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def is_saved(path):
        return '.pth' in str(path) or 'last_checkpoint' in str(path)

    def opened(path, mode='r', *args, **kwargs):
        file = real(path, mode, *args, **kwargs)
        if mode[0] in 'wx' and is_saved(path):
            point()
            return Slow(file, point)
        return file

    def with_points(function):
        def wrapped(path, *args, **kwargs):
            result = function(path, *args, **kwargs)
            if is_saved(path):
                point()
            return result

        return wrapped

    builtins.open = opened
    for name in ('replace', 'remove', 'unlink'):
        setattr(os, name, with_points(getattr(os, name)))


def in_a_process(function):
    """Call a function in a process forked from this one; return its exit status, negative where it was killed."""
    child = os.fork()
    if child == 0:
        try:
            with open(os.devnull, 'w') as devnull:
                os.dup2(devnull.fileno(), 1)
            function()
        except BaseException as error:
            os.write(2, f'{error!r}\n'.encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """What every training does once a process is done before any is forked from this one."""
    monkeypatch.setattr(runner, 'collect_env', dict)  # which asks compilers for their versions
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the threads of a process are not there in one forked from it
    train(tmp_path / 'first', 1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures('quick')
def test_killed_at_every_step_of_a_save(tmp_path):
    for number in itertools.count():
        work_dir = tmp_path / str(number)

        def killed(number=number, work_dir=work_dir):
            kill_at(number)
            train(work_dir, 2)

        status = in_a_process(killed)
        assert status in (0, -signal.SIGKILL)
        files = {path.name: path for path in work_dir.iterdir() if path.is_file() and path.suffix != '.py'}
        whole = [name for name, path in files.items() if name.endswith('.pth') and torch.load(path)]
        saved = (work_dir / 'last_checkpoint').is_file()
        assert not saved or os.path.basename(files['last_checkpoint'].read_text()) in whole
        if status == 0:
            break

        def resumed(work_dir=work_dir, begun=bool(whole)):
            trained = train(work_dir, 3, resume=True)
            assert trained._has_loaded == begun
            assert trained.iter == 6

        assert in_a_process(resumed) == 0, (number, sorted(files))
        assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'epoch_3.pth')
        assert torch.load(work_dir / 'epoch_3.pth')['meta']['epoch'] == 3
        assert not list(work_dir.glob(f'.*{SUFFIX}'))
    assert number == 17  # 4 steps of each of 2 checkpoints, as many of last_checkpoint, and a removal
    assert sorted(files) == ['epoch_2.pth', 'last_checkpoint']


def test_a_second_cure_changes_nothing():
    assert checkpoint_hook.open is mmengine_whole_checkpoints._open
    before = CheckpointHook._save_checkpoint_with_step, CheckpointHook.before_train, LocalBackend.put
    mmengine_whole_checkpoints.apply()
    mmengine_latest_checkpoint.apply()
    assert before == (CheckpointHook._save_checkpoint_with_step, CheckpointHook.before_train, LocalBackend.put)


def test_a_file_is_replaced(tmp_path):
    target = tmp_path / 'folder/file'
    LocalBackend().put(b'first', target)
    target.chmod(0o640)
    link = tmp_path / 'link'
    link.symlink_to(target)
    LocalBackend().put(b'second', str(link))
    assert link.is_symlink()
    assert target.read_bytes() == b'second'
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert list(target.parent.iterdir()) == [target]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / 'usual').write_bytes(b'')
    write_whole(tmp_path / 'new', b'')
    assert (tmp_path / 'new').stat().st_mode == (tmp_path / 'usual').stat().st_mode


def test_a_long_name(tmp_path):
    write_whole(tmp_path / ('n' * 255), b'content')
    assert (tmp_path / ('n' * 255)).read_bytes() == b'content'


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_what_fails_leaves_what_was_there(step, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')

    target = tmp_path / 'file'
    target.write_bytes(b'first')
    monkeypatch.setattr(mmengine_whole_checkpoints.os, step, full)
    with pytest.raises(OSError, match='No space left'):
        LocalBackend().put(b'second', target)
    assert target.read_bytes() == b'first'
    assert list(tmp_path.iterdir()) == [target]


def test_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    LocalBackend().put(b'content', pipe)
    reader.join(10)
    assert found == [b'content']


@pytest.mark.usefixtures('quick')
@pytest.mark.parametrize('room', [True, False])
def test_old_checkpoints_are_removed_last_where_there_is_room(room, tmp_path, monkeypatch):
    steps = []
    put, remove = LocalBackend.put, LocalBackend.remove
    monkeypatch.setattr(LocalBackend, 'put', lambda *args: steps.append(f'+{args[2][-5]}') or put(*args))
    monkeypatch.setattr(LocalBackend, 'remove', lambda *args: steps.append(f'-{args[1][-5]}') or remove(*args))
    if not room:
        usage = mmengine_whole_checkpoints.shutil.disk_usage(tmp_path)._replace(free=100)
        monkeypatch.setattr(mmengine_whole_checkpoints.shutil, 'disk_usage', lambda path: usage)
    train(tmp_path / 'run', 3, max_keep_ckpts=2)
    assert steps == (['+1', '+2', '+3', '-1'] if room else ['+1', '+2', '-1', '+3'])


def test_a_best_checkpoint_that_is_saved_again_by_its_name_stays(tmp_path):
    class Runner:
        work_dir = str(tmp_path)

    class Hook(CheckpointHook):
        def __init__(self):
            self.file_backend, self.last_ckpt = LocalBackend(), None
            self.best_ckpt_path = str(tmp_path / 'best.pth')

    def again(self, runner):
        self.file_backend.remove(self.best_ckpt_path)
        self.file_backend.remove(str(tmp_path / 'old.pth'))
        self.file_backend.put(b'better', self.best_ckpt_path)
        assert (tmp_path / 'old.pth').exists()

    for name in ('best', 'old'):
        (tmp_path / f'{name}.pth').write_bytes(b'good')
    hook = Hook()
    mmengine_whole_checkpoints._remove_last(again)(hook, Runner())
    assert type(hook.file_backend) is LocalBackend
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [('best.pth', b'better')]
