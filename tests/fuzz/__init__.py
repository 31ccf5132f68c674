"""Fuzzing of the readers and of opened stores.

``python -m fuzz TARGET`` in ``tests`` runs one target; ``tools/fuzz`` runs all. A target makes inputs from numbers and
checks one: it returns, or raises whatever went wrong. Inputs that ever failed are kept in ``corpus/TARGET`` and
replayed by ``test_fuzz.py``.
"""
