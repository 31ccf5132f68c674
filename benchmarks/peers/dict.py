"""What NumPy and a dict do: the store's own `.npy` files, mapped, and a dict from key to row."""

import itertools
from pathlib import Path

import numpy as np

from peers import contract


def read_keys(path):
    """Return the keys of a store."""
    data, offsets = np.load(Path(path) / "keys.npy").tobytes(), np.load(Path(path) / "offsets.npy").tolist()
    return [data[start:stop].decode() for start, stop in itertools.pairwise(offsets)]


class Peer(contract.Peer):
    title = "dict"
    packages = ("numpy",)

    def open(self, path):
        self.row_of = {key: row for row, key in enumerate(read_keys(path))}
        self.vectors = np.load(Path(path) / "vectors.npy", mmap_mode="r").view(np.ndarray)

    def close(self):
        self.row_of = self.vectors = None

    def find(self, keys):
        get = self.row_of.get
        return [get(key, -1) for key in contract.to_list(keys)]

    def lookup(self, keys):
        rows = np.array(self.find(keys))
        # The default mode="raise" copies through a buffer; "clip" is the fastest that take offers.
        vectors = np.take(self.vectors, rows, axis=0, mode="clip")
        vectors[rows < 0] = 0
        return vectors

    def matrix(self, word_index):
        get = self.row_of.get
        rows = np.full(len(word_index) + 1, -1)
        rows[np.fromiter(word_index.values(), np.int64, len(word_index))] = [get(word, -1) for word in word_index]
        matrix = np.take(self.vectors, rows, axis=0, mode="clip")
        matrix[rows < 0] = 0
        return matrix

    def get_each(self, keys):
        row_of, vectors = self.row_of, self.vectors
        return [vectors[row_of[key]] for key in keys]

    def contains_each(self, keys):
        row_of = self.row_of
        return [key in row_of for key in keys]

    def embed(self, texts):
        row_of, vectors = self.row_of, self.vectors
        out = np.zeros((len(texts), vectors.shape[1]), np.float32)
        for i, text in enumerate(texts):
            found = [vectors[row_of[key]] for key in text.split(" ") if key in row_of]
            if found:
                out[i] = np.mean(found, axis=0)
        return out

    def gather(self, rows, out):
        return np.take(self.vectors, rows, axis=0, out=out, mode="clip")
