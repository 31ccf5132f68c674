"""What the README shows is what happens: its Python is run, and so are its commands."""

import doctest
import gzip
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
COMMANDS = re.findall(r"^\$ ((?:zcat|vecstore) .*)\n((?:(?![$`]).*\n)*)", README.read_text(), re.MULTILINE)
WORDS = "nice great best amazing stop lies pitiful nerd excellent work supreme quality bad respectable qwertzuiop"


def write_reviews(folder):
    (folder / "reviews.csv").write_text('id,review\n1,"Nice, nice work"\n2,Stop lies\n')


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_readme_python_runs(glove_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(glove_folder, tmp_path / "glove", copy_function=os.link)
    monkeypatch.chdir(folder)
    write_reviews(folder)
    results = doctest.testfile(str(README), module_relative=False, encoding="utf-8")
    assert results.attempted > 20
    assert results.failed == 0


def test_readme_commands_run(glove_folder, tmp_path):
    assert len(COMMANDS) >= 9
    (tmp_path / "glove.bin").symlink_to(glove_folder / "glove.bin")
    (tmp_path / "vocabulary.txt").write_text("\n".join(WORDS.split()))
    (tmp_path / "vectors.gz").write_bytes(gzip.compress(b"nice 1 2\n"))
    for archive, name in ("glove.6B.zip", "glove.6B.300d.txt"), ("crawl-300d-2M.vec.zip", "crawl-300d-2M.vec"):
        with zipfile.ZipFile(tmp_path / archive, "w") as file:
            file.writestr(name, "nice 1 2\nthe 3 4\n")
            if archive == "glove.6B.zip":
                file.writestr("glove.6B.50d.txt", "nice 1 2\n")
    write_reviews(tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command, output in COMMANDS:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command.partition("  #")[0]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert output in done.stdout
