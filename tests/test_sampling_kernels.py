import numpy as np
import pytest
import reference

from vecstore.kernels.sampling import draw_normal
from vecstore.keys import frozen


def drawn(hashes, mean, deviation, start=0, stop=None):
    out = np.zeros((len(hashes), len(mean)), np.float32)
    moments = frozen(np.array(mean, np.float64)), frozen(np.array(deviation, np.float64))
    draw_normal(frozen(np.array(hashes, np.uint64)), *moments, start, len(hashes) if stop is None else stop, out)
    return out


@pytest.mark.parametrize("d", [1, 2, 3, 50])
def test_draw_agrees_with_reference(d):
    keys = [b"", b"nice", "größe".encode()]
    mean, deviation = np.linspace(-1, 1, d), np.linspace(0, 2, d)
    expected = [reference.normal(key, 5, mean.tolist(), deviation.tolist()) for key in keys]
    hashes = [reference.xxh64(key, 5) for key in keys]
    np.testing.assert_allclose(drawn(hashes, mean, deviation), expected, rtol=1e-5, atol=1e-7)


def test_draw_is_normal():
    hashes = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64)
    vectors = drawn(hashes, [0, 3, -2], [1, 0.5, 2])
    standard = (vectors - np.array([0, 3, -2])) / np.array([1, 0.5, 2])
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(standard.T), np.eye(3), atol=0.03)
    quantiles = np.quantile(standard, [0.02275, 0.15866, 0.5, 0.84134, 0.97725], axis=0)
    np.testing.assert_allclose(quantiles, np.repeat([[-2], [-1], [0], [1], [2]], 3, axis=1), atol=0.08)


@pytest.mark.parametrize("start", [0, 3, 9])
def test_draw_of_a_row_depends_on_its_hash_alone(start):
    hashes = np.arange(10)
    whole = drawn(hashes, [0] * 7, [1] * 7)
    np.testing.assert_array_equal(drawn(hashes[start:][::-1], [0] * 7, [1] * 7), whole[start:][::-1])
    part = drawn(hashes, [0] * 7, [1] * 7, start, start + 1)
    np.testing.assert_array_equal(part[start], whole[start])
    assert not np.delete(part, start, axis=0).any()


def test_draw_without_deviation_is_the_mean():
    np.testing.assert_array_equal(drawn([0, 2**64 - 1], [1, 2, 3], [0, 0, 0]), [[1, 2, 3]] * 2)


def test_draw_is_finite_for_every_kind_of_hash():
    hashes = [0, 1, 2**63, 2**64 - 1, -0x9E3779B97F4A7C15 % 2**64, -2 * 0x9E3779B97F4A7C15 % 2**64]
    assert np.isfinite(drawn(hashes, [0, 0], [1, 1])).all()


def test_draw_works_on_writable_arrays():
    out = np.empty((1, 2), np.float32)
    draw_normal(np.array([3], np.uint64), np.zeros(2), np.ones(2), 0, 1, out)
    np.testing.assert_array_equal(out, drawn([3], [0, 0], [1, 1]))
