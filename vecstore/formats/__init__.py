"""Readers of published word-vector files: one module a grammar, each a `source.VectorSource`.

``stream``    a file's bytes, decompressed by content
``source``    what every reader gives: blocks of keys and vectors
``word2vec``  word2vec binary
``detect``    which reader a file needs

A new format is a module beside these with a class that has a `VectorSource`'s attributes, and a line in
``detect``.
"""
