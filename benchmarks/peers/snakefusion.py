"""snakefusion, finalfusion's library in Rust: the same format, mapped, which holds unit vectors and their norms."""

import numpy as np
from snakefusion import Embeddings

from peers import contract


class Peer(contract.Peer):
    title = "snakefusion"
    packages = ("snakefusion",)
    unit = True

    def prepare(self, source, target):
        Embeddings.read_word2vec(source).write(target)

    def open(self, path):
        self.embeddings = Embeddings(path, mmap=True)
        self.dim = self.embeddings.storage.shape[1]

    def close(self):
        self.embeddings = None

    def count(self):
        return len(self.embeddings.vocab)

    def find(self, keys):
        get = self.embeddings.vocab.get
        return [get(key, -1) for key in keys]

    def lookup(self, keys):
        vectors = np.zeros((len(keys), self.dim), np.float32)
        self.embeddings.embedding_batch(keys, out=vectors)
        return vectors

    def get_each(self, keys):
        embeddings = self.embeddings
        return [embeddings[key] for key in keys]

    def contains_each(self, keys):
        vocab = self.embeddings.vocab
        return [key in vocab for key in keys]
