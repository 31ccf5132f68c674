"""Runs the command in a process of its own, with a terminal or without."""

import io
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import vecstore

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(vecstore.__file__).parents[1]), "COLUMNS": "100"}
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)  # what is printed then waits until the end, as it does for most users


def start(folder: Path, *arguments: str | bytes, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "vecstore", *arguments]
    options = {"env": ENVIRONMENT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, cwd=folder, **options)


def run(folder: Path, *arguments: str | bytes, **options: object) -> tuple[int, str, str]:
    """Run ``vecstore ARGUMENTS`` in `folder`; return its exit code, stdout and stderr."""
    with start(folder, *arguments, **options) as process:
        out, err = process.communicate()
    return process.returncode, out.decode(), err.decode()


def assert_fails(folder: Path, *arguments: str | bytes, code: int = 1, says: str) -> None:
    found, out, err = run(folder, *arguments)
    assert (found, out) == (code, "")
    assert says in err
    assert "Traceback" not in err
    if code == 1:
        assert err.startswith("vecstore: ")
        assert err.count("\n") == 1


def shown_on_a_terminal(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command whose stderr is a terminal; return its exit code, stdout and what the terminal got."""
    master, slave = pty.openpty()
    shown = io.BytesIO()

    def read() -> None:
        try:
            while data := os.read(master, 4096):
                shown.write(data)
        except OSError:  # Linux: the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    process = start(folder, *arguments, stderr=slave, env={**ENVIRONMENT, "TERM": "xterm-256color"})
    os.close(slave)
    out = process.communicate()[0].decode()
    reader.join()
    os.close(master)
    return process.returncode, out, shown.getvalue().decode()
