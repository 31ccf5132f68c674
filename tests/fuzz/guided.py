"""Coverage-guided fuzzing of the parsers in Python: ``python -m fuzz.guided TARGET [libFuzzer's options]``.

atheris sees the branches of Python code, none of compiled code. It starts from sound files and from the corpus, changes
inputs as `fuzz.mutation` does or in its own ways, and stops at the first one that fails.
"""

import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

# Kernels keep their own bytecode, which numba may have to compile.
with atheris.instrument_imports(
    include=["vecstore", "json", "zipfile"],
    exclude=[f"vecstore.kernels.{path.stem}" for path in Path(__file__).parents[2].glob("vecstore/kernels/*.py")],
):
    import vecstore  # noqa: F401

from fuzz.__main__ import CORPUS, TARGETS, limit_memory, make_input
from fuzz.mutation import mutate

_SEEDS = 200


def main() -> None:
    name, options = sys.argv[1], sys.argv[2:]
    target = TARGETS[name]

    def change(data: bytes, limit: int, seed: int) -> bytes:
        rng = Random(seed)
        changed = atheris.Mutate(data, len(data) + 8) if rng.random() < 0.3 else mutate(rng, data, target.make(rng))
        return changed[:limit]

    with tempfile.TemporaryDirectory() as folder:
        for i in range(_SEEDS):
            Path(folder, str(i)).write_bytes(make_input(name, 0, i))
        for path in (CORPUS / name).glob("*"):
            Path(folder, path.name).write_bytes(path.read_bytes())
        target.check(make_input(name, 0, 0))
        limit_memory()
        found = f"-artifact_prefix={CORPUS / name}/"
        atheris.Setup(["fuzz", found, "-timeout=10", *options, folder], target.check, custom_mutator=change)
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
