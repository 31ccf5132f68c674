"""The contestants: one module each, with a class `Peer` that keeps the contract of `contract.py`.

Each works in a process of its own, in the environment that has its package (`worker.py`), so that all are measured
alike, none disturbs another's memory, and those that need an old NumPy can take part.
"""
