"""spaCy's Vectors, read into memory; `key in vectors` takes hashes alone there, so `find` is asked."""

from spacy.vectors import Vectors

from peers import contract, word2vec


class Peer(contract.Peer):
    title = "spaCy Vectors"
    packages = ("spacy",)

    def prepare(self, source, target):
        keys, vectors = word2vec.read(source)
        Vectors(data=vectors, keys=keys).to_disk(target)

    def open(self, path):
        self.vectors = Vectors().from_disk(path)

    def close(self):
        self.vectors = None

    def count(self):
        return self.vectors.n_keys

    def find(self, keys):
        return self.vectors.find(keys=keys)

    def lookup(self, keys):
        rows = self.vectors.find(keys=keys)
        vectors = self.vectors.data[rows]
        vectors[rows < 0] = 0
        return vectors

    def get_each(self, keys):
        vectors = self.vectors
        return [vectors[key] for key in keys]

    def contains_each(self, keys):
        find = self.vectors.find
        return [find(key=key) >= 0 for key in keys]
