"""A thousand million documents: processor time, bytes, copies of the store, parts, and the merging of counts."""

from itertools import pairwise
from typing import Any

import numpy as np

import vecstore
from benchmarks.scaling import arithmetic, corpora
from benchmarks.scaling.arithmetic import Heaps
from benchmarks.scaling.cores import LENGTHS, ask_worker, seconds_per_document
from benchmarks.scaling.nodes import DIM
from benchmarks.scaling.tables import duration, number, rate, scaled, size, table

DOUBLINGS = 6
DOCUMENTS = 10**9
LENGTH = 50
MACHINE_CORES = 16
MACHINES = (1, 10, 100)
COPIES = (10, 100, 1000)
LINE = 1.25e9
FAN_IN = 8
WORKERS = 1600
PART_ROWS = (10_000, 100_000, 1_000_000)


def measure(keys: int, drawn: int, real_bytes: int, distinct: int) -> dict[str, Any]:
    """Measure how many distinct tokens texts hold, `drawn` from `keys` and real; and what `distinct` ones take."""
    texts = list(corpora.programs(real_bytes))
    stops = [len(texts) >> k for k in reversed(range(DOUBLINGS))]
    total, real = vecstore.count([]), {}
    for start, stop in pairwise([0, *stops]):
        total += vecstore.count(texts[start:stop])
        real[total.tokens] = len(total)
    sizes = [10**k for k in range(3, len(str(drawn)))]
    return {
        "keys": keys,
        "real": real,
        "drawn": {tokens: len(np.unique(corpora.zipf_rows(keys, tokens))) for tokens in sizes},
        "counts": ask_worker("counts", distinct),
    }


def fits(found: dict[str, Any]) -> dict[str, Heaps]:
    """Return Heaps' law for both corpora."""
    return {name: arithmetic.fit_heaps(list(found[name]), list(found[name].values())) for name in ("real", "drawn")}


def render(found: dict[str, Any], cores: dict[str, Any], nodes: dict[str, Any]) -> dict[str, str]:
    """Return the tables."""
    return {
        "job": _render_job(cores),
        "copies": _render_copies(nodes),
        "checkpoints": _render_checkpoints(cores),
        "heaps": _render_heaps(found),
        "counts": _render_counts(found),
        "merges": _render_merges(found),
    }


def _render_job(cores: dict[str, Any]) -> str:
    rows = []
    for length in LENGTHS:
        seconds = DOCUMENTS * seconds_per_document(cores, length)
        part, chain = cores["parts"][length], cores["chains"][length][1]
        bytes_read = DOCUMENTS * part["compressed"] / part["documents"]
        hours = [duration(seconds / machines / MACHINE_CORES) for machines in MACHINES]
        each = seconds / DOCUMENTS / MACHINE_CORES
        moved = [size(bytes_read), size(DOCUMENTS * chain["written"])]
        speeds = [rate(chain["written"] / each, "B"), rate(4 * DIM * length / each, "B")]
        rows.append([str(length), number(seconds / 3600), *hours, *moved, *speeds])
    names = [f"{machines} x {MACHINE_CORES} cores" for machines in MACHINES]
    return table(
        ["tokens a document", "core hours", *names, "read", "written", "a machine writes", "its vectors pass"], rows
    )


def _render_copies(nodes: dict[str, Any]) -> str:
    rows = []
    for dtype in ("float32", "int8"):
        stored = arithmetic.store_bytes(nodes["rows"], nodes["dim"], dtype, nodes["key_bytes"]).total
        for machines in COPIES:
            one, passed = arithmetic.copy_seconds(stored, machines, LINE)
            rows.append(
                [f"{dtype}, {size(stored)}", str(machines), size(machines * stored), duration(one), duration(passed)]
            )
    return table(["store", "machines", "over the network", "from one source", "each sends it on"], rows)


def _render_checkpoints(cores: dict[str, Any]) -> str:
    seconds, chain = seconds_per_document(cores, LENGTH), cores["chains"][LENGTH][1]
    rows = [
        [f"{rows:,}", f"{DOCUMENTS // rows:,}", size(rows * chain["written"]), duration(rows * seconds)]
        for rows in PART_ROWS
    ]
    return table(["documents a part", "parts", "a part", "work lost with a worker, at most"], rows)


def _render_heaps(found: dict[str, Any]) -> str:
    shares = arithmetic.zipf_shares(found["keys"])
    laws = fits(found)
    rows = []
    titles = {"real": "programs", "drawn": f"drawn from {scaled(found['keys'])} keys"}
    for name, law in laws.items():
        for tokens, distinct in found[name].items():
            rows.append([titles[name], f"{tokens:,}", f"{distinct:,}", f"{law.distinct(tokens):,.0f}"])
    tokens = DOCUMENTS * LENGTH
    for name, law in laws.items():
        drawn = f", by formula {arithmetic.distinct_expected(shares, tokens):,.0f}" if name == "drawn" else ""
        words = f"{titles[name]}: {number(law.factor)} T^{number(law.power)}"
        rows.append([words, scaled(tokens), "", f"{scaled(law.distinct(tokens))}{drawn}"])
    return table(["texts", "tokens T", "distinct, counted", "by Heaps' law"], rows)


def per_key(found: dict[str, Any]) -> dict[str, float]:
    """Return bytes and seconds a distinct token, as measured."""
    counts = found["counts"]
    return {
        "peak": counts["peak"] / counts["distinct"],
        "kept": counts["kept"] / counts["distinct"],
        "merge peak": counts["merge_peak"] / counts["merged"],
        "merge seconds": counts["merge_seconds"] / counts["merged"],
    }


def _render_counts(found: dict[str, Any]) -> str:
    each = per_key(found)
    row = [f"{found['counts']['distinct']:,}", *(number(each[name], 3) for name in ("peak", "kept", "merge peak"))]
    head = [
        "distinct tokens",
        "bytes of each while counting",
        "afterwards",
        "while merging, of each that goes in",
        "time",
    ]
    return table(head, [[*row, duration(each["merge seconds"])]])


def _render_merges(found: dict[str, Any]) -> str:
    each, law, tokens = per_key(found), fits(found)["real"], DOCUMENTS * LENGTH
    rows = []
    for workers in (16, 160, WORKERS):
        for title, fan_in in (("all at once", workers), (f"a tree of {FAN_IN}", FAN_IN)):
            cost = arithmetic.merge_counts(workers, fan_in, tokens, law.distinct, each["merge seconds"])
            rows.append(
                [
                    f"{workers:,}",
                    scaled(law.distinct(tokens / workers)),
                    title,
                    scaled(cost.largest),
                    size(cost.largest * (each["kept"] + each["merge peak"])),
                    size(cost.sent * each["kept"]),
                    duration(cost.seconds),
                ]
            )
    head = ["workers", "distinct of each", "merged", "keys of the largest merge", "its memory", "sent in all", "time"]
    return table(head, rows)
