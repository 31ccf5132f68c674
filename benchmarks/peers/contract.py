"""What a contestant does; NumPy and the standard library alone, as some environments have nothing more.

Each method of `Peer` is done as the documentation of the package would have its user do it, with the fastest call
that it offers. Whatever is not defined here for a peer, it does not offer.
"""

import numpy as np


class Peer:
    """One contestant: makes its own format of a word2vec binary, opens it and answers."""

    title = ""  # as tables call it
    packages = ()  # distributions whose versions are told
    unit = False  # whether its format holds vectors of length one

    def prepare(self, source, target):
        """Make the peer's own format of the word2vec binary `source`, at the path `target` or beginning with it."""
        raise NotImplementedError

    def open(self, path):
        """Open what `prepare` made, replacing what was open."""
        raise NotImplementedError

    def close(self):
        """Let go of what is open."""
        raise NotImplementedError

    def count(self):
        """Return the number of keys."""
        raise NotImplementedError

    def accept(self, keys):
        """Return a batch of keys in the form that the peer needs no time to convert."""
        return keys

    def find(self, keys):
        """Return the rows of keys, (n,) integers, -1 where out of vocabulary."""
        raise NotImplementedError

    def lookup(self, keys):
        """Return the vectors of keys, (n, d), zeros where out of vocabulary."""
        raise NotImplementedError

    def matrix(self, word_index):
        """Return the vectors of a vocabulary, (v, d): row i is the vector of the key that has i, else zeros."""
        keys = self.lookup(list(word_index))
        matrix = np.zeros((len(word_index) + 1, keys.shape[1]), np.float32)
        matrix[np.fromiter(word_index.values(), np.int64, len(word_index))] = keys
        return matrix

    def get_each(self, keys):
        """Return the vector of each key, asked for one at a time; all are in the vocabulary."""
        raise NotImplementedError

    def contains_each(self, keys):
        """Say of each key whether it is there, asked for one at a time."""
        raise NotImplementedError

    def embed(self, texts):
        """Return the mean of the vectors of the tokens of each text, which blanks separate; (n, d)."""
        raise NotImplementedError

    def gather(self, rows, out):
        """Return the vectors at rows, in `out` if the peer can."""
        raise NotImplementedError


def to_list(keys):
    """Return keys as a list of str, whatever they came in."""
    if isinstance(keys, list):
        return keys
    return keys.tolist() if isinstance(keys, np.ndarray) else keys.to_pylist()
