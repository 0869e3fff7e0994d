"""Topological order of tasks that run in groups."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")
K = TypeVar("K")
R = TypeVar("R")


def in_order(before: Mapping[T, Collection[T]], key: Callable[[T], K], rank: Callable[[K], R]) -> Iterator[list[T]]:
    """Yield tasks in groups of equal keys, each task after those `before` it; of ready groups, by least rank first."""
    waiting = {task: len(earlier) for task, earlier in before.items()}
    after: dict[T, list[T]] = defaultdict(list)
    ready: dict[K, list[T]] = defaultdict(list)
    heap: list[tuple[R, K]] = []

    def release(task: T) -> None:
        own = key(task)
        if not ready[own]:
            heapq.heappush(heap, (rank(own), own))
        ready[own].append(task)

    for task, earlier in before.items():
        for other in earlier:
            after[other].append(task)
        if not earlier:
            release(task)
    while heap:
        group = ready.pop(heapq.heappop(heap)[1])
        yield group
        for task in group:
            for later in after[task]:
                waiting[later] -= 1
                if not waiting[later]:
                    release(later)
