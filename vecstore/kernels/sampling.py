"""Normal vectors drawn from nothing but a hash, so that a key's vector depends on no other key.

Checked by the caller: `hashes` is (n,) uint64, `mean` and `deviation` (d,) float64, `out` (n, d) float32.
"""

import math

import numpy as np

from vecstore.kernels.code import inline
from vecstore.kernels.machine import kernel

__all__ = ["draw_normal"]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_UNIT = 2.0**-53


@inline
def _uniform(state):
    """Return the SplitMix64 output for `state` as a float in (0, 1] (Steele, Lea and Flood, OOPSLA 2014)."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 1.0) * _UNIT


@kernel("u64[:], f64[:], f64[:], i64, i64, f32[:,:]")
def draw_normal(hashes, mean, deviation, start, stop, out):
    """Fill rows start <= i < stop of `out` from the stream that ``hashes[i]`` seeds (Box and Muller, 1958)."""
    d = mean.shape[0]
    for i in range(start, stop):
        state = hashes[i]
        for j in range(0, d, 2):
            state += _GAMMA
            radius = math.sqrt(-2.0 * math.log(_uniform(state)))
            state += _GAMMA
            angle = 2.0 * math.pi * _uniform(state)
            out[i, j] = mean[j] + deviation[j] * radius * math.cos(angle)
            if j + 1 < d:
                out[i, j + 1] = mean[j + 1] + deviation[j + 1] * radius * math.sin(angle)
