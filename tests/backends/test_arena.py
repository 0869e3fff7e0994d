"""The arena: pieces in use at the same time do not overlap, and free memory is used again."""

import numpy as np
import pytest

from minigrad.backends.arena import ALIGN, Arena, ArenaPool, allocate


@pytest.mark.parametrize("seed", range(10))
def test_live_pieces_never_overlap(seed):
    rng = np.random.default_rng(seed)
    wants = sorted((int(a), int(a + rng.integers(0, 12)), int(rng.integers(0, 5000)))
                   for a in rng.integers(0, 60, 120))
    offsets, total = allocate(wants)
    for i, (first, last, n) in enumerate(wants):
        assert offsets[i] % ALIGN == 0
        assert offsets[i] + n <= total
        for j, (first2, last2, n2) in enumerate(wants[:i]):
            if first <= last2 and first2 <= last:
                assert offsets[i] + n <= offsets[j] or offsets[j] + n2 <= offsets[i]
    busiest = max(sum(-(-n // ALIGN) * ALIGN for a, b, n in wants if a <= t <= b) for t in range(80))
    assert total <= 1.5 * busiest


def test_a_chain_needs_two_pieces():
    assert allocate([(k, k + 1, 640) for k in range(100)])[1] == 1280


def test_arenas_are_aligned():
    for nbytes in (0, 1, 1000):
        arena = Arena(nbytes)
        assert arena.address % ALIGN == 0
        assert arena.start + nbytes <= arena.memory.nbytes


def test_pools_lend_large_enough_arenas():
    pool = ArenaPool()
    first = pool.borrow(800)
    assert first.size == 800
    pool.give_back(first)
    assert pool.borrow(500) is first
    assert pool.borrow(500) is not first, "the first is lent"
    pool.give_back(first)
    assert pool.borrow(1600).size == 1600, "layouts leave room for larger sizes, the memory does not again"
