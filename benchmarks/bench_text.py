"""Text to store: `vecstore.convert` against gensim, and against those who parse the numbers alone, into memory.

The text is GloVe's own, or in GoogleNews's run a generated one of 400,000 x 300. pyarrow and polars read its numeric
columns and leave the keys; gensim reads both; vecstore makes a store of both and returns when it is on disk (fsync).
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import vecstore
from vecstore.formats.writers import write_text

sys.path.insert(0, str(Path(__file__).parent))
from datasets import text

ROUNDS = 3
PATIENCE = 20  # seconds; gensim's one turn takes minutes
GENERATED = (400_000, 300)
UNTIMED_ROWS = 20_000  # of either, where nothing is timed


@pytest.fixture
def given(folder, store, data, benchmark):
    """Return a path, the keys and the vectors of the text, and its name in the table."""
    path = folder / "source.txt"
    if data["dim"] != GENERATED[1]:
        rows = len(store) if benchmark.enabled else UNTIMED_ROWS
        keys, vectors = store.keys[:rows], store.vectors[:rows]
        write_text(path, keys, vectors, header=False)
        return path, keys, vectors, ".txt"
    rows, dim = GENERATED if benchmark.enabled else (UNTIMED_ROWS, GENERATED[1])
    return path, *text(path, (rows, dim)), f".txt, {rows:,} x {dim}"


# gensim leaves a text without a header open.
@pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
def test_convert_text(contest, prepare, given, run_python):
    from gensim.models import KeyedVectors

    path, keys, vectors, case = given
    names = ["key", *map(str, range(vectors.shape[1]))]

    def by_vecstore(out):
        return vecstore.convert(path, out / "made.vecstore").path

    def by_gensim(_):
        return KeyedVectors.load_word2vec_format(str(path), binary=False, no_header=True)

    def by_pyarrow(_):
        return pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(column_names=names),
            parse_options=pa.csv.ParseOptions(delimiter=" ", quote_char=False),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names[1:], pa.float32()), include_columns=names[1:], check_utf8=False
            ),
        )

    def by_polars(_):
        import polars as pl

        return pl.read_csv(
            path,
            separator=" ",
            has_header=False,
            quote_char=None,
            columns=list(range(1, len(names))),
            schema_overrides=[pl.String] + [pl.Float32] * (len(names) - 1),
        )

    def check(answer):
        made = vecstore.open(answer) if isinstance(answer, Path) else answer
        found = made.keys if isinstance(answer, Path) else made.index_to_key
        assert list(found) == keys
        np.testing.assert_array_equal(made.vectors, vectors)

    # pyarrow and polars round to float32 once, NumPy by way of float64: the last bit may differ, once in many millions.
    columns = by_pyarrow(None)
    np.testing.assert_allclose(np.stack([column.to_numpy() for column in columns.columns], 1), vectors, rtol=2e-7)
    np.testing.assert_allclose(by_polars(None).to_numpy(), vectors, rtol=2e-7)
    del columns

    info = contest(
        "convert",
        case,
        {"vecstore": by_vecstore, "gensim load": by_gensim},
        check=check,
        limits={"pyarrow.csv, numbers alone": by_pyarrow, "polars, numbers alone": by_polars},
        prepare=prepare,
        rounds=ROUNDS,
        patience=PATIENCE,
        least=1,
        rehearse=False,
        headline=True,
        targets={"gensim load": 10, "pyarrow.csv, numbers alone": 1.5, "polars, numbers alone": 1.5},
    )
    script = "import sys, vecstore; vecstore.convert(sys.argv[1], sys.argv[2])"
    info["memory"] = {"vecstore, at its peak": run_python("-c", script, path, prepare() / "made.vecstore", peak=True)}
    path.unlink()
