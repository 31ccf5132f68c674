import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from files import numbered, word2vec_bytes

import vecstore

ROOT = Path(__file__).parents[1]
USE = """
import sys, vecstore
print(vecstore.__file__)
print(vecstore.convert("vectors.bin", "store").rows)
with vecstore.open("store") as store:
    print(store.find(["k7", "absent"]).tolist(), store["k7"].tolist())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what it is made of."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "vecstore", folder / "vecstore", ignore=shutil.ignore_patterns("__pycache__"))
    for name in "pyproject.toml", "README.md", "LICENSE":
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", folder]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = (folder / "dist").iterdir()
    return path


def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        license = next(name for name in names if name.endswith("/LICENSE"))
        assert b"Apache License" in archive.read(license)
    info = f"vecstore-{vecstore.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"vecstore", info}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "vecstore").rglob("*.py")}
    assert {name for name in names if name.startswith("vecstore/")} == sources | {"vecstore/py.typed"}


def test_wheel_works_from_an_empty_folder(wheel, tmp_path):
    site, folder = tmp_path / "site", tmp_path / "empty"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(command, check=True, capture_output=True)
    folder.mkdir()
    keys, vectors = numbered(10, 2)
    (folder / "vectors.bin").write_bytes(word2vec_bytes(keys, vectors))
    environment = {**os.environ, "PYTHONPATH": str(site)}
    run = {"cwd": folder, "env": environment, "check": True, "capture_output": True, "text": True}
    lines = subprocess.run([sys.executable, "-c", USE], **run).stdout.splitlines()
    assert lines == [str(site / "vecstore" / "__init__.py"), "10", f"[7, -1] {vectors[7].tolist()}"]
    command = [sys.executable, site / "bin" / "vecstore", "get", "store", "k3"]
    assert subprocess.run(command, **run).stdout == " ".join(["k3", *map(str, vectors[3])]) + "\n"
