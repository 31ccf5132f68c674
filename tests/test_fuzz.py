import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from fuzz import readers, seeds
from fuzz.__main__ import CORPUS, TARGETS

TESTS = Path(__file__).parent
COUNT = 200
KEPT = sorted(path for path in CORPUS.rglob("*") if path.is_file())


def fuzz(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "fuzz", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=TESTS, timeout=120)


def test_no_input_does_harm(tmp_path):
    process = fuzz("--count", COUNT, "--keep", tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    lines = process.stdout.splitlines()
    assert [line.partition(" in ")[0] for line in lines] == [f"{target}: {COUNT} inputs" for target in TARGETS]


def test_no_input_that_was_kept_does_harm():
    process = fuzz("--replay", *KEPT)
    assert process.returncode == 0, process.stdout + process.stderr
    assert {path.parent.name for path in KEPT} <= set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_are_the_same_in_every_run(target):
    first, again = (TARGETS[target].make(Random("x")) for _ in range(2))
    assert first == again


SOUND = {
    "word2vec": (seeds.word2vec, {"format": "word2vec"}),
    "text": (lambda rng: seeds.text(rng, header=True), {"format": "word2vec-text"}),
    "glove": (lambda rng: seeds.text(rng, header=False), {"format": "glove"}),
    "npy": (seeds.npy, {"format": "npy"}),
    "safetensors": (seeds.safetensors, {"format": "safetensors"}),
    "streams": (readers.make_stream, {}),
}


@pytest.mark.parametrize("name", SOUND)
def test_most_sound_files_are_read(name):
    make, options = SOUND[name]
    row_keys = readers.written(b"\n".join(readers.KEYS), "keys.txt")
    read = [
        readers.read(readers.written(make(Random(i))), row_keys=row_keys, **options).records is not None
        for i in range(40)
    ]
    assert sum(read) > 25


BROKEN = """
import os, signal, sys, time
from fuzz import __main__ as fuzz
from fuzz.readers import Target
harms = {
    b"1": lambda: int("x"),
    b"2": os.abort,
    b"3": lambda: time.sleep(9),
    b"4": lambda: (signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]), time.sleep(9)),
    b"5": lambda: bytearray(1 << 34),
    b"6": lambda: bytearray(b"1") * (200 << 20),
}
fuzz.TARGETS["broken"] = Target(lambda rng: b"", lambda data: harms.get(data, int)())
fuzz.make_input = lambda name, seed, i: b"%d" % i
fuzz._SECONDS, fuzz._MEMORY = 1, 100 << 20
sys.argv[1:] = ["broken", "--count", "20", "--keep", sys.argv[1]]
sys.exit(fuzz.main())
"""
NOTICED = [
    "ValueError at .*: invalid literal for int.*",
    "the process ended with exit code -6",
    "TooLongError at .*: more than 1 seconds",
    "the process ended with exit code -9",
    "MemoryError at .*",
    "MemoryError at .*: more than 104,857,600 bytes",
]


def test_every_harm_is_noticed_and_its_input_kept(tmp_path):
    command = [sys.executable, "-W", "error", "-c", BROKEN, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, cwd=TESTS, timeout=60)
    assert process.returncode == 1, process.stderr
    *lines, last = process.stdout.splitlines()
    assert last.startswith("broken: 20 inputs in ")
    assert last.endswith(", 6 failed")
    assert len(lines) == 2 * len(NOTICED), process.stdout
    for i, (named, noticed, pattern) in enumerate(zip(lines[::2], lines[1::2], NOTICED, strict=True), 1):
        assert named.startswith(f"FAILED input {i}, 1 bytes")
        assert re.fullmatch(f"  {pattern}", noticed)
    assert {path.read_bytes() for path in (tmp_path / "broken").iterdir()} == {b"%d" % i for i in range(1, 7)}
