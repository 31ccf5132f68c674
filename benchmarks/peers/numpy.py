"""NumPy alone, on the store's own `vectors.npy`, mapped."""

from pathlib import Path

import numpy as np

from peers import contract


class Peer(contract.Peer):
    title = "numpy.take"
    packages = ("numpy",)

    def open(self, path):
        self.vectors = np.load(Path(path) / "vectors.npy", mmap_mode="r").view(np.ndarray)

    def close(self):
        self.vectors = None

    def gather(self, rows, out):
        # The default mode="raise" copies through a buffer; "clip" is the fastest that take offers.
        return np.take(self.vectors, rows, axis=0, out=out, mode="clip")
