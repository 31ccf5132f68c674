"""What docs/scaling.md says is measured and computed here: beyond one machine, and beyond today's sizes.

    python -m benchmarks.scaling             # measures, and writes the tables of docs/scaling.md: some minutes
    python -m benchmarks.scaling --quick     # the same on little data, into nothing but the output

Needs the extra `demo` (GloVe's words), 16 GiB of memory and 15 GB of disk in a temporary folder, which is removed.
"""
