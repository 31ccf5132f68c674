"""vecstore, by its public names alone."""

import vecstore
from peers import contract


class Peer(contract.Peer):
    title = "vecstore"
    packages = ("numba",)

    def prepare(self, source, target):
        vecstore.convert(source, target)

    def open(self, path):
        self.store = vecstore.open(path)

    def close(self):
        self.store = None

    def count(self):
        return len(self.store)

    def find(self, keys):
        return self.store.find(keys)

    def lookup(self, keys):
        return self.store.lookup(keys)

    def matrix(self, word_index):
        return self.store.matrix(word_index).vectors

    def get_each(self, keys):
        store = self.store
        return [store[key] for key in keys]

    def contains_each(self, keys):
        store = self.store
        return [key in store for key in keys]

    def embed(self, texts):
        return self.store.embed(texts, tokenizer=vecstore.Tokenizer(filters="", lower=False))

    def gather(self, rows, out):
        return self.store.gather(rows, out=out)
