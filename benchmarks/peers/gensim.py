"""gensim's KeyedVectors: its own format with the vectors mapped, or the published file read into memory."""

import numpy as np
from gensim.models import KeyedVectors

from peers import contract


class Peer(contract.Peer):
    title = "gensim"
    packages = ("gensim",)

    def prepare(self, source, target):
        KeyedVectors.load_word2vec_format(source, binary=True).save(target)

    def open(self, path):
        if path.endswith(".bin"):
            self.kv = KeyedVectors.load_word2vec_format(path, binary=True)
        else:
            self.kv = KeyedVectors.load(path, mmap="r")

    def close(self):
        self.kv = None

    def count(self):
        return len(self.kv)

    def find(self, keys):
        get = self.kv.get_index
        return [get(key, -1) for key in contract.to_list(keys)]

    def lookup(self, keys):
        kv = self.kv
        vectors = np.zeros((len(keys), kv.vector_size), np.float32)
        for i, key in enumerate(keys):
            if key in kv:
                vectors[i] = kv[key]
        return vectors

    def matrix(self, word_index):
        # The loop that the tutorials teach.
        kv = self.kv
        matrix = np.zeros((len(word_index) + 1, kv.vector_size), np.float32)
        for word, i in word_index.items():
            if word in kv:
                matrix[i] = kv[word]
        return matrix

    def get_each(self, keys):
        kv = self.kv
        return [kv[key] for key in keys]

    def contains_each(self, keys):
        kv = self.kv
        return [key in kv for key in keys]

    def gather(self, rows, out):
        return self.kv.vectors[rows]
