"""An engine does all steps, in a task's order, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from last.data.engines import EngineError, run

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system that can kill")


def note(folder: Path, step: str) -> None:
    with (folder / step[0]).open("a") as file:
        file.write(f"{os.getpid()} {step}\n")


def die(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(step: str) -> None:
    raise ValueError(f"step {step} is wrong")


def announce_and_sleep(folder: Path, step: str) -> None:
    (folder / f"{os.getpid()}.{step}").touch()
    time.sleep(60)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_step_is_done_once_and_a_task_by_one_worker(tmp_path, workers):
    tasks = [[f"{letter}{i}" for i in range(3)] for letter in "abcdefg"]
    for _ in run(partial(note, tmp_path), tasks, workers):
        pass
    for task in tasks:
        processes, steps = zip(
            *(line.split() for line in (tmp_path / task[0][0]).read_text().splitlines()), strict=True
        )
        assert list(steps) == task and len(set(processes)) == 1
        assert (str(os.getpid()) in processes) == (workers == 1)


def test_threads_do_each_step_once_in_this_process(tmp_path):
    tasks = [[f"{letter}{i}" for i in range(3)] for letter in "abcdefg"]
    before = sys.getswitchinterval()
    seen = []

    def step(name):
        note(tmp_path, name)
        seen.append(sys.getswitchinterval())

    list(run(step, tasks, 3, "threads"))
    assert max(seen) < 1e-3 and sys.getswitchinterval() == before
    with pytest.raises(ValueError, match="max_workers"):
        list(run(step, tasks, -1, "threads"))
    assert sys.getswitchinterval() == before
    for task in tasks:
        lines = (tmp_path / task[0][0]).read_text().splitlines()
        assert lines == [f"{os.getpid()} {step}" for step in task]
    with pytest.raises(ValueError, match=r"step [ab] is wrong"):
        list(run(fail, ["a", "b"], 2, "threads"))


def test_no_task_is_no_work():
    assert list(run(fail, [], 2)) == []


def test_what_a_step_raises_is_raised():
    with pytest.raises(ValueError, match=r"step [ab] is wrong"):
        list(run(fail, ["a", "b"], 2))


@needs_signals
def test_a_killed_worker_is_a_sentence():
    with pytest.raises(EngineError, match="a worker process died, perhaps for want of memory: run it again"):
        list(run(die, ["a", "b"], 2))


def lives(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_though_they_are_busy(tmp_path, how):
    script = """
import signal
import sys
from functools import partial
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin by ignoring it
sys.path.insert(0, sys.argv[2])
from test_engines import announce_and_sleep
from last.data.engines import run

if __name__ == "__main__":
    list(run(partial(announce_and_sleep, Path(sys.argv[1])), ["a", "b"], 2))
"""
    (tmp_path / "script.py").write_text(script)
    folder = tmp_path / "announced"
    folder.mkdir()
    command = [sys.executable, tmp_path / "script.py", folder, Path(__file__).parent]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as parent:
        wait_until(lambda: len(list(folder.iterdir())) == 2)
        workers = [int(file.stem) for file in folder.iterdir()]
        assert all(lives(worker) for worker in workers)
        parent.send_signal(how)
        wait_until(lambda: not any(lives(worker) for worker in workers))


def test_as_many_workers_as_cores_that_may_be_used(monkeypatch):
    asked = []

    class Pool:
        def __init__(self, workers: int, *_: object, **__: object) -> None:
            asked.append(workers)
            raise InterruptedError

    monkeypatch.setattr("last.data.engines.ProcessPoolExecutor", Pool)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {5, 9, 11}, raising=False)
    for _ in range(2):
        with pytest.raises(InterruptedError):
            list(run(fail, [[i] for i in range(100)]))
        monkeypatch.delattr("os.sched_getaffinity", raising=False)  # as on macOS and Windows
    assert asked == [3, 64]


def test_an_engine_that_is_not_installed_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"'ray' is not installed; pip install 'last-action-recognition\[ray\]'"):
        list(run(fail, [["a"]], engine="ray"))
