"""Sums over ranks against a loop over them, in order; how many bytes a rank gets."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.distributed import ranks
from minigrad.distributed.ranks import Ranks

from .group import BufferRank, Group, Rank


def values(rank):
    rng = np.random.default_rng(rank)
    return [rng.normal(size=(3, 5)).astype(np.float32), np.array(rng.normal()), rng.normal(size=7),
            rng.integers(0, 9, (2, 2)), rng.normal(size=4).astype(np.float16)]


@pytest.mark.parametrize("kind", [Rank, BufferRank])
@pytest.mark.parametrize("small", [0, 1 << 13])
@pytest.mark.parametrize("present", [[True], [True, True], [False, True, True, False, True], [True] * 19])
def test_sums_in_the_order_of_the_ranks(kind, small, present, monkeypatch):
    monkeypatch.setattr(ranks, "_SMALL", small)
    size = len(present)
    found = Group(size, kind).run(lambda comm: Ranks(comm, "f").sums(values(comm.Get_rank()), present, None))
    terms = [values(k) for k in range(size) if present[k]]
    for k, column in enumerate(zip(*terms, strict=True)):
        want = np.sum(column, axis=0, dtype=np.longdouble)
        tolerance = {"f2": 1e-3, "f4": 1e-6}.get(column[0].dtype.str[1:], 1e-14)
        np.testing.assert_allclose(found[0][k], want, rtol=tolerance, atol=tolerance)
        assert found[0][k].dtype == column[0].dtype
        assert found[0][k].shape == column[0].shape
        assert {sums[k].tobytes() for sums in found} == {found[0][k].tobytes()}, "the same bits on all ranks"


def test_the_order_is_that_of_the_ranks():
    terms = [1e16, 1.0, -1e16, 1.0]
    found = Group(4).run(lambda comm: Ranks(comm, "f").sums([np.array(terms[comm.Get_rank()])], [True] * 4, None))
    assert {float(total) for (total,) in found} == {1.0}  # ((1e16 + 1) - 1e16) + 1, where 1e16 + 1 is 1e16


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_rank_gets_at_most_twice_the_bytes_of_the_sums(size):
    def work(comm):
        Ranks(comm, "f").sums([np.ones(10_000 * size)], [True] * size, None)
        return comm.received

    least = 2 * (size - 1) * 10_000 * 8
    assert Group(size, BufferRank).run(work) == [least + 8 * (size - 1)] * size


@pytest.mark.parametrize("n", [2, 5000])
def test_an_error_is_raised_on_all_ranks(n):
    def work(comm):
        error = KeyError("gone") if comm.Get_rank() == 1 else None
        Ranks(comm, "f").sums([np.ones(n)], [True] * 3, error)

    first, own, last = Group(3, BufferRank).run(work)
    assert isinstance(own, KeyError)
    for other in (first, last):
        assert isinstance(other, mg.MinigradError)
        assert "all_reduce(f): rank 1 raised an error; rank 1: KeyError: 'gone'" in str(other)
