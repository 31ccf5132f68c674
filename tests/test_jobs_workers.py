import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import vecstore
from vecstore.errors import FormatError, VecstoreError
from vecstore.jobs.workers import work_on


def double(task):
    return 2 * task


def fail(wanted, task):
    if task == wanted:
        raise FormatError(f"task {task} is bad")
    return task


def fail_strangely(task):
    class Strange(Exception):
        pass

    raise Strange("of no module")


def answer_strangely(task):
    return lambda: task


def die(task):
    os.kill(os.getpid(), signal.SIGKILL)


def describe(task):
    return os.getpid(), os.environ.get("VECSTORE_NUM_THREADS"), signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 10])
def test_every_task_is_answered(workers, count):
    assert sorted(work_on(range(count), double, workers)) == [(task, 2 * task) for task in range(count)]


def test_one_worker_is_this_process_and_takes_one_task_at_a_time():
    taken = []
    tasks = (taken.append(task) or task for task in range(5))
    for task, (process, _, _) in work_on(tasks, describe, 1):
        assert process == os.getpid()
        assert taken == list(range(task + 1))


def test_workers_share_the_threads_and_ignore_interrupts(monkeypatch):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "6")
    answers = [answer for _, answer in work_on(range(12), describe, 2)]
    assert {answer[1:] for answer in answers} == {("3", True)}
    assert os.getpid() not in {answer[0] for answer in answers}
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "1")
    assert {answer[1] for _, answer in work_on(range(2), describe, 2)} == {"1"}


def allocator(task):
    return os.environ.get("ARROW_DEFAULT_MEMORY_POOL")


def test_workers_give_memory_back_and_this_process_stays_as_it_is(monkeypatch):
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    assert {answer for _, answer in work_on(range(2), allocator, 2)} == {"system"}
    assert "ARROW_DEFAULT_MEMORY_POOL" not in os.environ
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "mimalloc")
    assert {answer for _, answer in work_on(range(2), allocator, 2)} == {"mimalloc"}
    assert os.environ["ARROW_DEFAULT_MEMORY_POOL"] == "mimalloc"


def test_tasks_are_not_taken_long_before_they_are_worked_on():
    taken = []
    tasks = (taken.append(task) or task for task in range(100))
    for done, _ in enumerate(work_on(tasks, double, 2)):
        assert len(taken) <= done + 5


@pytest.mark.parametrize("workers", [1, 2])
def test_what_work_raises_is_raised_and_workers_end(workers):
    with pytest.raises(FormatError, match="task 3 is bad"):
        list(work_on(range(10), partial(fail, 3), workers))


def test_an_error_that_cannot_be_sent_is_told():
    with pytest.raises(VecstoreError, match="Strange: of no module"):
        list(work_on(range(3), fail_strangely, 2))


def test_an_answer_that_cannot_be_sent_is_an_error():
    with pytest.raises(Exception, match="pickle"):
        list(work_on(range(3), answer_strangely, 2))


def test_a_worker_that_is_killed_is_an_error_and_no_endless_wait():
    with pytest.raises(VecstoreError, match="a worker ended with exit code -9"):
        list(work_on(range(3), die, 2))


def test_a_script_that_starts_workers_when_it_is_imported_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from vecstore.jobs.workers import work_on\nprint(list(work_on(range(3), abs, 2)))\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(vecstore.__file__).parents[1])}
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=60)
    assert "exit code 1" in ended.stderr
    assert "has to call this under `if __name__ == '__main__':`" in ended.stderr


ORPHANS = """
import os, sys, time
from vecstore.jobs.workers import work_on
def wait(task):
    print(os.getpid(), flush=True)
    time.sleep(60)
if __name__ == "__main__":
    list(work_on(range(2), wait, 2))
"""


def test_workers_end_with_the_process_that_started_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ORPHANS)
    environment = {**os.environ, "PYTHONPATH": str(Path(vecstore.__file__).parents[1])}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as process:
        workers = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while any(is_alive(worker) for worker in workers):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
