import os
import threading
from pathlib import Path

import fsspec
import pytest
from servers import FolderServer

import vecstore
from vecstore import remote
from vecstore.remote import RemoteFolder

DATA = os.urandom(5 << 20)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves folder/data; what fails is tried again at once."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data").write_bytes(DATA)
    monkeypatch.setattr(remote, "_PAUSE", 0)
    server = FolderServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def folder(server: FolderServer) -> RemoteFolder:
    return RemoteFolder.at(f"{server.address}/folder")


@pytest.fixture(params=["http", "local"])
def any_folder(request: pytest.FixtureRequest, server: FolderServer, tmp_path: Path) -> RemoteFolder:
    """The folder as a stream, and as ranges."""
    return RemoteFolder.at(f"{server.address}/folder" if request.param == "http" else f"local://{tmp_path}/folder")


@pytest.mark.parametrize("start", [0, 1, 1 << 20, len(DATA) - 1, len(DATA)])
@pytest.mark.parametrize("ranges", [True, False])
def test_blocks_are_the_bytes_of_a_file(any_folder, server, start, ranges):
    server.faults.ranges = ranges
    for stop in {start, min(start + 3, len(DATA)), len(DATA)}:
        assert b"".join(any_folder.blocks("data", start, stop)) == DATA[start:stop]


def test_ranges_are_of_any_number(any_folder, monkeypatch):
    monkeypatch.setattr(remote, "_RANGE_BYTES", 1 << 18)
    monkeypatch.setattr(remote, "_PART_BYTES", 1 << 18)
    for stop in 5 << 18, (5 << 18) + 1, (8 << 18) - 1:
        blocks = list(any_folder.blocks("data", 3, stop))
        assert b"".join(blocks) == DATA[3:stop]
        assert max(map(len, blocks)) <= 1 << 18


@pytest.mark.parametrize("limit", [1, 100, len(DATA), len(DATA) + 1])
def test_read_gives_the_start_of_a_file(any_folder, limit):
    assert any_folder.read("data", limit) == DATA[:limit]


def test_a_large_file_is_not_read_beyond_its_limit(folder, server):
    (server.folder / "folder" / "data").write_bytes(bytes(1 << 26))
    server.faults.pause = 0.001
    assert folder.read("data", 1000) == bytes(1000)
    assert server.bytes_served < 1 << 25


def test_a_server_is_not_asked_to_pack_what_is_counted(folder, server):
    assert b"".join(folder.blocks("data", 5, 9)) == DATA[5:9]
    assert server.headers["Accept-Encoding"] == "identity"
    assert server.headers["Range"] == "bytes=5-8"


def test_a_missing_file_is_named(any_folder):
    for read in lambda: any_folder.read("none", 9), lambda: list(any_folder.blocks("none", 0, 9)):
        with pytest.raises(FileNotFoundError, match="folder/none: no such file"):
            read()


def test_a_dropped_connection_is_taken_up_where_it_broke(folder, server):
    server.faults.drop_after = 1 << 21
    assert b"".join(folder.blocks("data", 0, len(DATA))) == DATA
    assert server.bytes_served < 1.5 * len(DATA)
    assert [start for _, start in server.requests] == sorted({start for _, start in server.requests})
    assert len(server.requests) > 2


def test_without_ranges_a_dropped_file_is_read_from_its_start_again(folder, server):
    server.faults.ranges = False
    server.faults.drop_after, server.faults.drops = 1 << 22, 2
    assert b"".join(folder.blocks("data", 0, len(DATA))) == DATA
    assert server.requests == [("data", 0)] * 3


def test_patience_ends_when_several_tries_bring_nothing(folder, server):
    server.faults.ranges = False
    server.faults.drop_after = 1 << 22  # in each try, so that none gets farther than the first
    with pytest.raises(vecstore.RemoteError, match="folder/data: cannot be read: ClientPayloadError: "):
        list(folder.blocks("data", 0, len(DATA)))
    assert remote._TRIES <= len(server.requests) <= 2 * remote._TRIES  # the first may come near its end in steps


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_passing_error_is_survived(folder, server, status):
    server.faults.errors = [status] * (remote._TRIES - 1)
    assert folder.read("data", 9) == DATA[:9]
    server.faults.errors = [status] * (remote._TRIES - 1)
    assert b"".join(folder.blocks("data", 0, len(DATA))) == DATA
    server.faults.errors = [status] * remote._TRIES
    with pytest.raises(vecstore.RemoteError, match=f"ClientResponseError: {status}"):
        folder.read("data", 9)


@pytest.mark.parametrize("status", [401, 403, 410])
def test_a_refusal_is_not_asked_again(folder, server, status):
    server.faults.errors = [status]
    with pytest.raises(vecstore.RemoteError, match=f"folder/data: cannot be read: ClientResponseError: {status}"):
        folder.read("data", 9)
    assert len(server.requests) == 1


def test_a_file_that_ends_early_is_an_error(any_folder):
    with pytest.raises(vecstore.RemoteError, match="cannot be read: "):
        list(any_folder.blocks("data", 0, len(DATA) + 1))


def test_what_a_caller_raises_is_no_failure_of_the_server(folder, server):
    class Stop(Exception):
        pass

    def use():
        for _ in folder.blocks("data", 0, len(DATA)):
            raise Stop

    with pytest.raises(Stop):
        use()
    assert len(server.requests) == 1


def test_a_server_that_cannot_be_reached_is_an_error(server):
    address = server.address
    server.close()
    with pytest.raises(vecstore.RemoteError, match=f"{address}/data: cannot be read: ClientConnectorError: ") as caught:
        RemoteFolder.at(address).read("data", 9)
    assert isinstance(caught.value, OSError)
    assert "\n" not in str(caught.value)


def test_a_query_goes_with_each_file(server):
    folder = RemoteFolder.at(f"{server.address}/folder/?signature=a%2Bb%3D")
    assert folder.read("data", 9) == DATA[:9]
    assert b"".join(folder.blocks("data", 9, 99)) == DATA[9:99]
    assert server.queries == {"signature=a%2Bb%3D"}


@pytest.mark.parametrize("configured", [{}, {"headers": {"X-Name": "value"}, "client_kwargs": {"trust_env": True}}])
def test_a_proxy_is_taken_from_the_environment(server, monkeypatch, configured):
    monkeypatch.setitem(fsspec.config.conf, "http", configured)
    monkeypatch.setenv("http_proxy", server.address)
    assert RemoteFolder.at("http://host.invalid/folder").read("data", 9) == DATA[:9]
    assert server.headers["X-Name"] == configured.get("headers", {}).get("X-Name")
    assert server.headers["Host"] == "host.invalid"


def test_a_scheme_may_be_in_capitals(server):
    assert RemoteFolder.at(server.address.replace("http", "HTTP") + "/folder").read("data", 9) == DATA[:9]


def test_a_folder_is_told_from_nothing(any_folder, server):
    assert any_folder.exists()
    assert not RemoteFolder.at(f"{server.address}/none").exists()


def test_an_unknown_scheme_is_an_error_that_names_those_known():
    with pytest.raises(ValueError, match=r"s4://bucket: expected a scheme .* found 's4'; it knows .*https, .*s3, "):
        RemoteFolder.at("s4://bucket")


MISSING = """
import sys
sys.modules[sys.argv[1]] = None
import vecstore
try:
    vecstore.open(sys.argv[2])
except ModuleNotFoundError as error:
    assert isinstance(error, vecstore.MissingPackageError)
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "address", "says"),
    [
        ("fsspec", "s3://bucket/glove", "pip install 'vecstore[remote]'\n"),
        ("aiohttp", "https://host/glove", "pip install 'vecstore[remote]'\n"),
        ("s3fs", "s3://bucket/glove", "pip install 'vecstore[s3]'\n"),
        ("gcsfs", "gs://bucket/glove", "gs://bucket/glove: Please install gcsfs to access Google Storage\n"),
    ],
)
def test_a_missing_package_is_an_error_that_says_how_to_install_it(run_python, tmp_path, package, address, says):
    printed = run_python(MISSING, package, address, VECSTORE_CACHE=str(tmp_path))
    assert printed.startswith(address)
    assert printed.endswith(says)
    assert printed.count("\n") == 1


def test_folders_are_read_by_many_threads_at_once(server):
    found = []

    def read():
        found.append(b"".join(RemoteFolder.at(f"{server.address}/folder").blocks("data", 0, len(DATA))) == DATA)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4
