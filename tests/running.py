"""Running of the toolboxes' own installed scripts on tiny data."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def script(toolbox, name):
    """Return the path of a script that a toolbox installed, such as tools/train.py of mmdet."""
    folder = Path(importlib.util.find_spec(toolbox).origin).parent
    return folder / '.mim' / 'tools' / name


def start(*command):
    """Start a Python script in a process group of its own; its output is in .stdout."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={'OMP_NUM_THREADS': '2', **os.environ},
    )


def finish(process):
    """Wait for a started script to succeed and return what it printed."""
    output = process.communicate()[0]
    assert process.returncode == 0, output[-4000:]
    return output


def run(*command):
    """Run a Python script that must succeed and return what it printed."""
    return finish(start(*command))


def kill_when(process, condition, seconds=300):
    """Send SIGKILL to a script and all its children as soon as a line of its output fulfils a condition."""
    deadline = time.monotonic() + seconds
    lines = []
    for line in process.stdout:
        lines.append(line)
        if condition(line):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
        assert time.monotonic() < deadline, ''.join(lines)[-4000:]
    raise AssertionError('the script ended by itself:\n' + ''.join(lines)[-4000:])
