"""model2vec: its StaticModel with a token a word; tokenizers cuts at blanks, in Rust and on all cores."""

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import CharDelimiterSplit

from peers import contract, word2vec

UNKNOWN = "<unknown to model2vec>"


class Peer(contract.Peer):
    title = "model2vec"
    packages = ("model2vec", "tokenizers")

    def prepare(self, source, target):
        keys, vectors = word2vec.read(source, more_rows=1)
        rows = {key: row for row, key in enumerate([*keys, UNKNOWN])}
        tokenizer = Tokenizer(WordLevel(rows, unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = CharDelimiterSplit(" ")
        StaticModel(vectors, tokenizer, normalize=False, max_length=None).save_pretrained(target)

    def open(self, path):
        self.model = StaticModel.from_pretrained(path)

    def close(self):
        self.model = None

    def count(self):
        return len(self.model.tokens) - 1

    def get_each(self, keys):
        return [self.model.embedding[self.model.tokenizer.token_to_id(key)] for key in keys]

    def embed(self, texts):
        return self.model.encode(texts).astype(np.float32, copy=False)
