"""finalfusion, the library in Python: its own format, mapped, which holds unit vectors and their norms."""

import numpy as np
from finalfusion import load_finalfusion
from finalfusion.compat import load_word2vec

from peers import contract


class Peer(contract.Peer):
    title = "finalfusion"
    packages = ("finalfusion", "numpy")
    unit = True

    def prepare(self, source, target):
        load_word2vec(source).write(target)

    def open(self, path):
        self.embeddings = load_finalfusion(path, mmap=True)

    def close(self):
        self.embeddings = None

    def count(self):
        return len(self.embeddings.vocab)

    def find(self, keys):
        get = self.embeddings.vocab.idx
        return [get(key, -1) for key in keys]

    def lookup(self, keys):
        embedding = self.embeddings.embedding
        vectors = np.zeros((len(keys), self.embeddings.storage.shape[1]), np.float32)
        for i, key in enumerate(keys):
            embedding(key, out=vectors[i])
        return vectors

    def matrix(self, word_index):
        embedding = self.embeddings.embedding
        matrix = np.zeros((len(word_index) + 1, self.embeddings.storage.shape[1]), np.float32)
        for word, i in word_index.items():
            embedding(word, out=matrix[i])
        return matrix

    def get_each(self, keys):
        embeddings = self.embeddings
        return [embeddings[key] for key in keys]

    def contains_each(self, keys):
        vocab = self.embeddings.vocab
        return [key in vocab for key in keys]
