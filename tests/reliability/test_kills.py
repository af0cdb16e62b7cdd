"""What a kill leaves behind: no process that waits for ever. (What it leaves on disk: tests of checkpoints, and torture.py.)"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from distil import paths

PROGRAM = """
import os, pathlib, time
from distil import workers


def started():
    folder = pathlib.Path({folder!r})
    (folder / str(os.getpid())).touch()


def slow(chunk):
    time.sleep(600)


if __name__ == "__main__":
    list(workers.spread(slow, range(4), workers=2, setup=started, arguments=()))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def wait_until(happened, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.1)
    return happened()


def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path):
    program, folder = tmp_path / "program.py", tmp_path / "started"
    folder.mkdir()
    program.write_text(PROGRAM.format(folder=str(folder)))
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    process = subprocess.Popen([sys.executable, str(program)], env=environment, start_new_session=True)
    try:
        assert wait_until(lambda: len(list(folder.iterdir())) == 2, 60)
        workers = [int(path.name) for path in folder.iterdir()]
        assert all(map(alive, workers))
        process.kill()
        process.wait()
        assert wait_until(lambda: not any(map(alive, workers)), 20), "they wait for work that will never come"
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
