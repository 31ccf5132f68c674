"""Reading a word2vec binary for those peers that cannot."""

import mmap

import numpy as np


def read(path, more_rows=0):
    """Return keys and vectors of a binary without newlines between its records, with so many rows of zeros more."""
    with open(path, "rb") as file:
        count, dim = map(int, file.readline().split())
        start = file.tell()
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    keys, vectors = [], np.zeros((count + more_rows, dim), np.float32)
    for row in range(count):
        end = data.find(b" ", start)
        keys.append(data[start:end].decode())
        vectors[row] = np.frombuffer(data, np.float32, dim, end + 1)
        start = end + 1 + 4 * dim
    assert start == len(data), path
    return keys, vectors
