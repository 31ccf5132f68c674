"""What the README shows is what happens: its Python is run, and so are its commands."""

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
COMMANDS = re.findall(r"^\$ (vecstore (?!convert GoogleNews).*)\n((?:(?![$`]).*\n)*)", README.read_text(), re.MULTILINE)
WORDS = "nice great best amazing stop lies pitiful nerd excellent work supreme quality bad respectable qwertzuiop"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_readme_python_runs(glove_folder, monkeypatch):
    monkeypatch.chdir(glove_folder)
    results = doctest.testfile(str(README), module_relative=False, encoding="utf-8")
    assert results.attempted > 15
    assert results.failed == 0


def test_readme_commands_run(glove_folder, tmp_path):
    assert len(COMMANDS) >= 5
    for name in ("glove.bin",):
        (tmp_path / name).symlink_to(glove_folder / name)
    (tmp_path / "vocabulary.txt").write_text("\n".join(WORDS.split()))
    for command, output in COMMANDS:
        arguments = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "vecstore", *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert output in done.stdout
