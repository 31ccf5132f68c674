"""Conversions that are killed, raced, starved of disk or robbed of their source: a store is whole or not there.

What must happen many times happens in one fresh process that forks, so that nobody imports vecstore a hundred times.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from files import GZIP, left_in, numbered, word2vec_bytes

import vecstore
from vecstore.layout import METADATA

compressions = pytest.mark.parametrize("packed", GZIP.values(), ids=GZIP)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source of several blocks, so that converting it can be met in the middle."""
    path = tmp_path / "vectors.bin"
    path.write_bytes(word2vec_bytes(*numbered(20_000, 300)))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


KILLS = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import numpy as np
import vecstore

folder, wanted, replaces = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "replaced"
sources, target = [folder / "one.bin", folder / "two.bin"], folder / "target"
random.seed(0)
whole = {}
for source in sources:
    vecstore.convert(source, target, overwrite=True)
    whole[source.name] = np.array(vecstore.open(target).vectors)

def start(source):
    child = os.fork()
    if not child:
        vecstore.convert(source, target, overwrite=replaces)
        os._exit(0)
    return child

def clear():
    if target.exists() and not replaces:
        shutil.rmtree(target)

def ended(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)

clear()
usual = []
for _ in range(5):
    begun = time.perf_counter()
    os.waitpid(start(sources[0]), 0)
    usual.append(time.perf_counter() - begun)
    clear()
usual = sorted(usual)[2]

counts = dict(kills=0, before=0, writing=0, publishing=0, after=0, missed=0, old=0, new=0)
while counts["writing"] + counts["publishing"] < wanted and counts["kills"] < 4 * wanted:
    old = vecstore.open(target).metadata.source.name if replaces else None
    debris = set(folder.glob(".*.partial"))
    child = start(next(source for source in sources if source.name != old))
    if counts["kills"] % 3:
        time.sleep(random.uniform(0, usual))
    else:  # from when the last file appears
        while not list(folder.glob(".*.partial/metadata.json")) and not ended(child):
            pass
        time.sleep(random.uniform(0, 0.001))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    found = None
    if target.exists():
        assert vecstore.verify(target) == []
        with vecstore.open(target) as store:
            found = store.metadata.source.name
            assert np.array_equal(store.vectors, whole[found])
    assert found or not replaces
    left = set(folder.glob(".*.partial")) - debris
    counts["kills"] += 1
    counts["old" if found == old else "new"] += 1
    if not status:
        counts["missed"] += 1
    elif any((path / "metadata.json").exists() for path in left):
        counts["publishing"] += 1
    elif left:
        counts["writing"] += 1
    else:
        counts["before" if found == old else "after"] += 1
    clear()

vecstore.convert(sources[0], target, overwrite=True)
assert vecstore.verify(target) == []
print(json.dumps(dict(counts, left=sorted(path.name for path in folder.iterdir()))))
"""


@compressions
@pytest.mark.parametrize("existing", ["absent", "replaced"])
def test_a_killed_conversion_leaves_no_store_or_a_whole_one(tmp_path, run_python, existing, packed):
    wanted = 60  # kills that meet a conversion at work
    for seed, name in enumerate(["one.bin", "two.bin"]):
        (tmp_path / name).write_bytes(packed(word2vec_bytes(*numbered(4000, 300, seed))))
    counts = json.loads(run_python(KILLS, tmp_path, wanted, existing))
    print(existing, counts)
    assert counts["left"] == ["one.bin", "target", "two.bin"]
    assert counts["writing"] + counts["publishing"] == wanted
    assert counts["publishing"] > 0
    assert counts["old"] > 0


RACES = """
import json, os, sys, time
from pathlib import Path
import vecstore

folder, rounds, racers, overwrite = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True"
vecstore.convert(folder / "vectors.bin", folder / "warm")
outcomes = []
for turn in range(rounds):
    target, begin = folder / f"target{turn}", time.monotonic() + 0.01
    said, says = os.pipe()
    for _ in range(racers):
        if not os.fork():
            while time.monotonic() < begin:
                pass
            try:
                vecstore.convert(folder / "vectors.bin", target, overwrite=overwrite)
                os.write(says, b"converted\\n")
            except vecstore.TargetError as error:
                os.write(says, f"{error}\\n".encode())
            os._exit(0)
    os.close(says)
    with open(said) as lines:
        outcomes.append([line.strip().removeprefix(f"{target}: ") for line in lines])
    for _ in range(racers):
        assert os.wait()[1] == 0
    assert vecstore.verify(target) == []
print(json.dumps([outcomes, sorted(path.name for path in folder.iterdir())]))
"""


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(("racers", "rounds"), [(2, 40), (8, 15)])
def test_conversions_to_one_target_at_once_have_one_winner(tmp_path, run_python, racers, rounds, overwrite):
    (tmp_path / "vectors.bin").write_bytes(word2vec_bytes(*numbered(2000, 100)))
    outcomes, left = json.loads(run_python(RACES, tmp_path, rounds, racers, overwrite))
    refusals = {"is being written by another process"}
    if not overwrite:
        refusals.add("exists already; to replace it: --overwrite (overwrite=True)")
    for outcome in outcomes:
        assert len(outcome) == racers
        assert set(outcome) <= {"converted"} | refusals
        assert outcome.count("converted") == 1 if not overwrite else "converted" in outcome
    assert any("is being written by another process" in outcome for outcome in outcomes)
    assert left == sorted(["vectors.bin", "warm", *(f"target{i}" for i in range(rounds))])


REPLACING = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
import vecstore

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
names, target = ["one.bin", "two.bin"], folder / "target"
expected = {}
for name in names:
    vecstore.convert(folder / name, target, overwrite=True)
    with vecstore.open(target) as store:
        expected[name] = list(store.keys), np.array(store.vectors)

def is_whole(store):
    keys, vectors = expected[store.metadata.source.name]
    same = list(store.keys) == keys and np.array_equal(store.vectors, vectors)
    return same and np.array_equal(store.lookup(keys), vectors)

writer = os.fork()
if not writer:
    published = 0
    while True:
        vecstore.convert(folder / names[published % 2], target, overwrite=True)
        published += 1
held, opened, seen, torn, changed = vecstore.open(target), 0, [], 0, 0
end = time.monotonic() + seconds
while time.monotonic() < end:
    store = vecstore.open(target)
    opened += 1
    if not is_whole(store):
        torn += 1
    elif opened % 10 == 0:
        if not is_whole(held):
            changed += 1
        held = store
    seen.append(store.metadata.source.name)
os.kill(writer, signal.SIGKILL)
os.wait()
switches = sum(a != b for a, b in zip(seen, seen[1:]))
vecstore.convert(folder / names[0], target, overwrite=True)
print(json.dumps(dict(opened=opened, switches=switches, torn=torn, changed=changed,
                      left=sorted(path.name for path in folder.iterdir()))))
"""


def test_readers_see_whole_stores_while_others_replace_them(tmp_path, run_python):
    keys, vectors = numbered(200, 20)
    (tmp_path / "one.bin").write_bytes(word2vec_bytes(keys, vectors))
    (tmp_path / "two.bin").write_bytes(word2vec_bytes(keys[::-1], -vectors))
    counts = json.loads(run_python(REPLACING, tmp_path, 5))
    print(counts)
    assert counts["switches"] > 20
    assert (counts["torn"], counts["changed"]) == (0, 0)
    assert counts["left"] == ["one.bin", "target", "two.bin"]


# A source for each file of a store, of which this file is larger than those that are written before it.
LARGER = {
    "vectors.npy": lambda: word2vec_bytes(*numbered(1000, 100)),
    "keys.npy": lambda: word2vec_bytes([b"%050d" % i for i in range(1000)], np.ones((1000, 1))),
    "offsets.npy": lambda: word2vec_bytes(*numbered(1024, 1)),
    "index.npy": lambda: word2vec_bytes(*numbered(1024, 1)),
    "moments.npy": lambda: word2vec_bytes(*numbered(1, 300)),
    METADATA: lambda: word2vec_bytes(*numbered(1, 1)),
}
LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
from vecstore.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""


def command_line(script: str, *arguments: object) -> tuple[int, str]:
    """Run a script that ends as the command does; return its exit code and what it said on stderr."""
    path = str(Path(vecstore.__file__).parents[1])
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path},
    )
    return process.returncode, process.stderr


@pytest.mark.parametrize("name", LARGER)
def test_a_file_too_large_for_its_limit_is_named_and_nothing_is_left(tmp_path, target, name):
    source = tmp_path / "vectors.bin"
    source.write_bytes(LARGER[name]())
    vecstore.convert(source, tmp_path / "whole")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "whole").iterdir()}
    code, said = command_line(LIMITED, sizes[name] - 1, "convert", source, target)
    assert code == 1
    assert said.count("\n") == 1
    assert said.startswith("vecstore: ")
    assert said.endswith(f"{name}: File too large\n")
    assert left_in(tmp_path) == {"vectors.bin", "whole"}
    assert command_line(LIMITED, max(sizes.values()), "convert", source, target) == (0, "")
    assert vecstore.verify(target) == []


FULL = """
import contextlib, errno, json, os, subprocess, sys
from pathlib import Path
import vecstore

source, disk = Path(sys.argv[1]), Path(sys.argv[2])
vecstore.convert(source, disk / "store")
size = sum(path.stat().st_size for path in (disk / "store").iterdir())
outcomes = []
for pages in range(1, size // 4096 + 30, int(sys.argv[3])):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={pages * 4096}", "none", disk], check=True)
    try:
        vecstore.convert(source, disk / "store")
        outcomes.append("whole" if vecstore.verify(disk / "store") == [] else "damaged")
    except OSError as error:
        outcomes.append(errno.errorcode[error.errno])
        assert os.listdir(disk) == []
    subprocess.run(["umount", disk], check=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", disk], check=True)
try:
    vecstore.convert(source, disk / "store")
except vecstore.TargetError as error:
    outcomes.append(str(error))
subprocess.run(["umount", disk], check=True)
print(json.dumps(outcomes))
"""
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
IN_NAMESPACE = f"import os, sys; os.execvp('unshare', [*{NAMESPACE}, sys.executable, '-c', *sys.argv[1:]])"


def may_mount() -> bool:
    """Say whether this machine lets a test mount a disk of its own."""
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


if may_mount():

    @pytest.mark.parametrize(("rows", "dim", "step"), [(1024, 20, 1), (4096, 100, 17)])
    def test_a_full_disk_is_an_error_and_nothing_is_left(tmp_path, run_python, rows, dim, step):
        source, disk = tmp_path / "vectors.bin", tmp_path / "disk"
        source.write_bytes(word2vec_bytes(*numbered(rows, dim)))
        disk.mkdir()
        *outcomes, readonly = json.loads(run_python(IN_NAMESPACE, FULL, source, disk, step))
        assert set(outcomes) == {"ENOSPC", "whole"}
        assert outcomes.index("whole") > 10
        assert set(outcomes[outcomes.index("whole") :]) == {"whole"}
        assert readonly.startswith(f"{disk}/store: cannot write beside it: [Errno 30] Read-only file system")


UNPRIVILEGED = """
import contextlib, os, sys, tempfile
from vecstore.cli import main

arguments, source = list(sys.argv), sys.argv[2]
with tempfile.TemporaryDirectory() as folder, contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):
    sys.argv[1:] = ["convert", source, f"{folder}/store"]
    main()  # imports and compiles what perhaps root alone can read
sys.argv = arguments
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
main()
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody can look into; pytest's own are for the user alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_folder_that_cannot_be_written_to_is_refused(public, mode, options):
    source, folder = public / "vectors.bin", public / "folder"
    source.write_bytes(word2vec_bytes(*numbered(3, 2)))
    source.chmod(0o644)
    folder.mkdir()
    vecstore.convert(source, folder / "store")
    folder.chmod(mode)
    code, said = command_line(UNPRIVILEGED, "convert", source, folder / "new", *options)
    folder.chmod(0o755)
    assert code == 1
    assert said.startswith(f"vecstore: {folder}/new: cannot write beside it: [Errno 13] Permission denied")
    assert said.count("\n") == 1
    assert left_in(folder) == {"store"}


@compressions
def test_a_source_that_vanishes_is_read_to_its_end(source, target, packed):
    source.write_bytes(packed(source.read_bytes()))
    vecstore.convert(source, target, progress=lambda progress: source.unlink(missing_ok=True))
    assert vecstore.verify(target) == []
    assert len(vecstore.open(target)) == 20_000
    assert left_in(target.parent) == {"target"}


@compressions
@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_a_source_that_shrinks_is_refused(source, target, packed, share):
    source.write_bytes(packed(source.read_bytes()))
    size = int(share * source.stat().st_size)
    shrink: list[Callable[[], None]] = [lambda: os.truncate(source, size)]
    message = (
        r"record [\d,]+, byte [\d,]+: expected .*found|byte [\d,]+ of [\d,]+: the gzip data is damaged or cut short"
    )
    with pytest.raises(vecstore.FormatError, match=message):
        vecstore.convert(source, target, progress=lambda progress: shrink.pop()() if shrink else None)
    assert left_in(target.parent) == {"vectors.bin"}


def test_a_source_that_is_replaced_is_read_as_it_was(source, target):
    expected = numbered(20_000, 300)[1]

    def replace(progress: vecstore.Progress) -> None:
        other = source.with_name("other")
        other.write_bytes(word2vec_bytes(*numbered(3, 300, 1)))
        other.replace(source)

    vecstore.convert(source, target, progress=replace)
    np.testing.assert_array_equal(vecstore.open(target).vectors, expected)


CONVERT = "import sys, vecstore; vecstore.convert(*sys.argv[1:], overwrite=True)"


@contextlib.contextmanager
def converting(source: Path, target: Path) -> Iterator[subprocess.Popen[str]]:
    """A converting process whose partial folder is there."""
    environment = {**os.environ, "PYTHONPATH": str(Path(vecstore.__file__).parents[1])}
    command = [sys.executable, "-c", CONVERT, source, target]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            while process.poll() is None and not list(target.parent.glob(".*.partial/keys.npy")):
                os.sched_yield()
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_while_the_first_goes_on(source, target):
    with converting(source, target) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(vecstore.TargetError, match="target: is being written by another process"):
            vecstore.convert(source, target)
        process.send_signal(signal.SIGCONT)
        assert process.wait() == 0
    assert vecstore.verify(target) == []
    assert left_in(target.parent) == {"vectors.bin", "target"}


def test_an_interrupted_process_leaves_nothing(source, target):
    with converting(source, target) as process:
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    assert process.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert left_in(target.parent) == {"vectors.bin"}
