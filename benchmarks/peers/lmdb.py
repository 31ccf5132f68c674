"""lmdb-embeddings: a B-tree from key to a pickled vector, filled in the order of its keys, which is fastest."""

import numpy as np
from lmdb_embeddings.exceptions import MissingWordError
from lmdb_embeddings.reader import LmdbEmbeddingsReader
from lmdb_embeddings.writer import LmdbEmbeddingsWriter

from peers import contract, word2vec


class Peer(contract.Peer):
    title = "lmdb-embeddings"
    packages = ("lmdb-embeddings", "lmdb")
    reader = None

    def prepare(self, source, target):
        keys, vectors = word2vec.read(source)
        order = sorted(range(len(keys)), key=lambda row: keys[row].encode())
        LmdbEmbeddingsWriter((keys[row], vectors[row]) for row in order).write(target)

    def open(self, path):
        self.reader = LmdbEmbeddingsReader(path)
        with self.reader.environment.begin() as transaction, transaction.cursor() as cursor:
            cursor.first()
            self.dim = len(self.reader.unserializer(cursor.value()))

    def close(self):
        if self.reader is not None:
            self.reader.environment.close()
        self.reader = None

    def count(self):
        return self.reader.environment.stat()["entries"]

    def lookup(self, keys):
        get = self.reader.get_word_vector
        vectors = np.zeros((len(keys), self.dim), np.float32)
        for i, key in enumerate(keys):
            try:
                vectors[i] = get(key)
            except MissingWordError:
                continue
        return vectors

    def get_each(self, keys):
        get = self.reader.get_word_vector
        return [get(key) for key in keys]

    def contains_each(self, keys):
        get, answers = self.reader.get_word_vector, []
        for key in keys:
            try:
                get(key)
            except MissingWordError:
                answers.append(False)
            else:
                answers.append(True)
        return answers
