"""Arenas of memory for runs, and offsets of pieces in them, which pieces with disjoint lifetimes share."""

from __future__ import annotations

import bisect
import heapq
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

ALIGN = 64  # bytes
Evaluation = Callable[..., np.ndarray | tuple[np.ndarray, ...]]  # of a node, from its operands
SPARE = 8  # layouts that have to grow grow by one part in so many more


def allocate(pieces: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Assign offsets such that pieces in use at the same time do not overlap.

    Parameters
    ----------
    pieces : sequence of (first, last, nbytes)
        In order of `first`.

    Returns
    -------
    offsets : list of int
    total : int
    """
    offsets: list[int] = []
    ends: list[tuple[int, int, int]] = []  # heap of (last, offset, nbytes) of the pieces in use
    holes: list[tuple[int, int]] = []  # (offset, nbytes) of the free memory below `total`, in order, never adjacent
    total = 0
    for first, last, n in pieces:
        while ends and ends[0][0] < first:
            _, offset, size = heapq.heappop(ends)
            i = bisect.bisect(holes, (offset,))
            if i < len(holes) and holes[i][0] == offset + size:
                size += holes.pop(i)[1]
            if i and sum(holes[i - 1]) == offset:
                i -= 1
                offset, before = holes.pop(i)
                size += before
            holes.insert(i, (offset, size))
        n = max(-(-n // ALIGN), 1) * ALIGN
        fits = [(size, i) for i, (_, size) in enumerate(holes) if size >= n]
        if fits:
            size, i = min(fits)
            place, _ = holes[i]
            holes[i:i + 1] = [(place + n, size - n)] if size > n else []
        elif holes and sum(holes[-1]) == total:  # the last hole reaches the end: grow from there
            place, _ = holes.pop()
            total = place + n
        else:
            place, total = total, total + n
        offsets.append(place)
        heapq.heappush(ends, (last, place, n))
    return offsets, total


class Arena:
    """Memory for one run."""

    def __init__(self, nbytes: int):
        self.size = nbytes
        self.memory = np.empty(nbytes + ALIGN, np.uint8)
        self.start = -self.memory.ctypes.data % ALIGN
        self.address = self.memory.ctypes.data + self.start
        self.spaces: dict[object, tuple[object, ...]] = {}  # the items that its program has made in it, by sizes

    def array(self, shape: Sequence[int], dtype: np.dtype, offset: int) -> np.ndarray:
        """Return the memory from an offset on as an array."""
        return np.ndarray(shape, dtype, self.memory, self.start + offset)


class ArenaPool:
    """Arenas that no run uses now: batches of ever new sizes share them."""

    def __init__(self) -> None:
        self._free: deque[Arena] = deque()

    def borrow(self, nbytes: int) -> Arena:
        """Return memory for a run, which gives it back."""
        try:
            arena = self._free.pop()
        except IndexError:
            return Arena(nbytes)
        if arena.size >= nbytes:
            return arena
        del arena  # before there is a larger one
        return Arena(nbytes)

    def give_back(self, arena: Arena) -> None:
        self._free.append(arena)


def owning(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation with results that own their memory.

    Some evaluations return an operand or a view of one, such as a loop without turns its initial state. The plan counts
    results as new memory, and reuses the memory of an operand after its last reader.
    """

    def own(*xs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        result = evaluation(*xs)
        if isinstance(result, tuple):
            return tuple([x if x.flags.owndata else _unshared(x, xs) for x in result])
        return result if result.flags.owndata else _unshared(result, xs)  # no array owns memory of the arena

    return own


def _unshared(result: np.ndarray, xs: Sequence[np.ndarray]) -> np.ndarray:
    shared = any(result is x for x in xs) or any(np.may_share_memory(result, x) for x in xs)
    return result.copy() if shared else result
