import os
from pathlib import Path

import numpy as np
import pytest

import vecstore
from vecstore.location import is_remote, local_folder, local_path


@pytest.mark.parametrize(
    ("location", "remote"),
    [
        ("s3://bucket/glove.vecstore", True),
        ("https://host/glove.vecstore", True),
        ("HTTPS://host/glove.vecstore", True),
        ("git+ssh://host/glove", True),
        ("file:///data/glove.vecstore", False),
        ("glove.vecstore", False),
        ("./s3://bucket", False),
        ("archive.zip::glove.bin", False),
        ("C://glove.vecstore", False),
        ("s3:/bucket", False),
        ("://", False),
        ("", False),
        (Path("s3://bucket/glove.vecstore"), False),
        (None, False),
    ],
)
def test_an_address_has_a_scheme(location, remote):
    assert is_remote(location) is remote


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/glove.vecstore", "/data/glove.vecstore"),
        ("FILE:///data/glove.vecstore", "/data/glove.vecstore"),
        ("file://localhost/data/glove", "/data/glove"),
        ("file:///a%20b/gr%C3%B6%C3%9Fe", "/a b/größe"),
        ("file:///a b/größe", "/a b/größe"),
        ("file:///a%2Fb%25", "/a/b%"),
        ("file:///100%/a?b#c", "/100%/a?b#c"),
        ("file:///%ff", os.fsdecode(b"/\xff")),
        ("file", "file"),
    ],
)
def test_a_file_url_is_a_path(url, path):
    assert local_path(url) == Path(path)


@pytest.mark.parametrize("url", ["file://host/data", "file://data", "file://"])
def test_a_file_url_of_another_machine_is_an_error(url):
    with pytest.raises(ValueError, match="expected file:///, then an absolute path on this machine"):
        vecstore.open(url)


def test_a_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_folder("glove") == tmp_path / "glove"


@pytest.mark.parametrize("quoted", ["a%20b%25%20%C3%B6.vecstore", "a b%25 ö.vecstore"])
def test_a_file_url_is_opened_in_place(small_path, tmp_path, quoted):
    folder = tmp_path / "a b% ö.vecstore"
    folder.symlink_to(small_path)
    url = f"file://{tmp_path}/{quoted}"
    with vecstore.open(url, cache=tmp_path / "cache") as store, vecstore.load(url) as loaded:
        assert (store.path, loaded.path) == (folder, folder)
        assert store.address is None
        assert np.array_equal(store["nice"], vecstore.open(small_path)["nice"])
    assert vecstore.verify(url) == []
    assert not (tmp_path / "cache").exists()


def test_the_source_of_a_conversion_may_be_a_file_url(tmp_path):
    (tmp_path / "a b.txt").write_text("nice 1 2\n")
    with vecstore.load(f"file://{tmp_path}/a%20b.txt") as store:
        assert store.path == tmp_path / "a b.txt.vecstore"
        assert store["nice"].tolist() == [1, 2]


NO_FSSPEC = """
import sys
import vecstore
vecstore.open("file://" + sys.argv[1]), vecstore.open(sys.argv[1])
print([name for name in ("fsspec", "vecstore.fetch", "platformdirs", "hashlib") if name in sys.modules])
"""


def test_a_folder_needs_nothing_of_what_an_address_needs(small_path, run_python):
    assert run_python(NO_FSSPEC, small_path) == "[]\n"
