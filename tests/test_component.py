import re

import numpy as np
import pytest

from vecstore import CommonComponent, component


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return (rng.standard_normal((300, 20)) + 3 * rng.standard_normal(20)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 1000, 1 << 20])
def test_component_is_the_first_singular_vector(vectors, monkeypatch, block):
    monkeypatch.setattr(component, "_BLOCK", block)
    first = np.linalg.svd(vectors.astype(np.float64), full_matrices=False)[2][0]
    first *= np.sign(first[np.abs(first).argmax()])
    common = CommonComponent.fit(vectors)
    np.testing.assert_allclose(common.direction, first, rtol=0, atol=1e-6)
    np.testing.assert_allclose(common.remove(vectors), vectors - np.outer(vectors @ first, first), rtol=0, atol=1e-5)


def test_nothing_is_left_of_what_was_removed(vectors):
    common = CommonComponent.fit(vectors[:100])
    left = common.remove(vectors)
    np.testing.assert_allclose(left @ common.direction, 0, atol=1e-5)
    np.testing.assert_allclose(common.remove(left), left, rtol=0, atol=1e-5)


def test_vectors_may_be_changed_in_place(vectors):
    common, expected = CommonComponent.fit(vectors), CommonComponent.fit(vectors).remove(vectors)
    assert common.remove(vectors, out=vectors) is vectors
    np.testing.assert_array_equal(vectors, expected)


@pytest.mark.parametrize("n", [0, 3])
def test_zeros_have_no_component(n):
    common = CommonComponent.fit(np.zeros((n, 4)))
    assert common.direction.tolist() == [0, 0, 0, 0]
    assert common.remove([[1, 2, 3, 4]]).tolist() == [[1, 2, 3, 4]]


def test_what_has_no_component():
    with pytest.raises(ValueError, match=re.escape("expected (n, d) vectors, found shape (3,)")):
        CommonComponent.fit([1, 2, 3])
    with pytest.raises(ValueError, match="expected finite vectors, found NaN or infinities"):
        CommonComponent.fit([[np.nan, 1]])
    with pytest.raises(ValueError, match=re.escape("expected vectors of width 2, found shape (1, 3)")):
        CommonComponent.fit([[1, 2]]).remove([[1, 2, 3]])
