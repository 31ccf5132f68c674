"""TensorFlow: a StaticHashTable from key to row."""

import numpy as np
import tensorflow as tf

from peers import contract
from peers.dict import read_keys


class Peer(contract.Peer):
    title = "TensorFlow StaticHashTable"
    packages = ("tensorflow_cpu", "tensorflow")

    def open(self, path):
        keys = read_keys(path)
        content = tf.lookup.KeyValueTensorInitializer(tf.constant(keys), tf.range(len(keys), dtype=tf.int64))
        self.table = tf.lookup.StaticHashTable(content, -1)

    def close(self):
        self.table = None

    def accept(self, keys):
        return tf.constant(contract.to_list(keys))

    def find(self, keys):
        if not isinstance(keys, tf.Tensor):
            # An array of U it takes as it is; a list is faster than pyarrow's objects.
            keys = tf.constant(keys if isinstance(keys, np.ndarray) else contract.to_list(keys))
        return self.table.lookup(keys).numpy()
