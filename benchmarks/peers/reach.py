"""reach: its fast format, read into memory.

It reads text alone, so what it keeps is made of arrays; a last row of zeros is what it gives for unknown keys.
"""

from reach import Reach

from peers import contract, word2vec


class Peer(contract.Peer):
    title = "reach"
    packages = ("reach",)

    def prepare(self, source, target):
        keys, vectors = word2vec.read(source, more_rows=1)
        Reach(vectors, [*keys, "<unknown to reach>"], unk_index=len(keys)).save_fast_format(target)

    def open(self, path):
        self.reach = Reach.load_fast_format(path)

    def close(self):
        self.reach = None

    def count(self):
        return len(self.reach) - 1

    def lookup(self, keys):
        return self.reach.vectorize(keys)

    def get_each(self, keys):
        reach = self.reach
        return [reach[key] for key in keys]

    def contains_each(self, keys):
        items = self.reach.items
        return [key in items for key in keys]
