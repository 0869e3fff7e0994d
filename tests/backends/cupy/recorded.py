"""The stand-in's graphs: nodes with the nodes that they wait for, and a check that concurrent nodes do not race."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minigrad.errors import MinigradError

from .cupy_on_numpy import POOL, Stream

Ranges = Sequence[tuple[int, int]]  # (first address, address behind the last)


@dataclass(frozen=True)
class Node:
    """Work of a graph.

    Attributes
    ----------
    after : frozenset of int
        The nodes that it waits for.
    reads, writes : list of (int, int) or None
        The memory that it reads and writes, where that is known.
    """

    name: str
    run: Callable[[], None]
    after: frozenset[int]
    reads: Ranges | None = None
    writes: Ranges | None = None


class Recording:
    """A capture: each stream knows the nodes that its next one waits for."""

    def __init__(self, main: Stream):
        self.nodes: list[Node] = []
        self.main, self.streams = main, {main}
        main.capture, main.last = self, frozenset()

    def add(self, stream: Stream, name: str, run: Callable[[], None], reads: Ranges | None,
            writes: Ranges | None) -> None:
        self.nodes.append(Node(name, run, stream.last, reads, writes))
        stream.last = frozenset([len(self.nodes) - 1])

    def close(self) -> None:
        """End the capture; refuse streams that were forked and not joined, as the driver does."""
        joined = self.main.last.union(*(before(self.nodes)[k] for k in self.main.last))
        loose = [s for s in self.streams if not s.last <= joined]
        for stream in self.streams:
            stream.capture, stream.last = None, frozenset()
        if loose:
            raise MinigradError("cuStreamEndCapture failed (904)")


def before(nodes: Sequence[Node]) -> list[set[int]]:
    """Return all nodes that each one waits for."""
    found: list[set[int]] = []
    for node in nodes:
        found.append(set(node.after).union(*(found[k] for k in node.after)))
    return found


def concurrent(nodes: Sequence[Node]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of nodes that may run at the same time."""
    waited = before(nodes)
    for k in range(len(nodes)):
        for i in range(k):
            if i not in waited[k]:
                yield i, k


def races(nodes: Sequence[Node]) -> list[str]:
    """Return, for each pair of concurrent nodes, what one of them writes and the other one reads or writes."""
    found = []
    for i, k in concurrent(nodes):
        for a, b in ((nodes[i], nodes[k]), (nodes[k], nodes[i])):
            if a.writes is not None and b.reads is not None:
                found += [f"{a.name} writes {w}, {b.name} uses {u}, and neither waits for the other"
                          for w in a.writes for u in (*b.reads, *b.writes) if w[0] < u[1] and u[0] < w[1]]
    return found


def reordered(nodes: Sequence[Node]) -> list[int]:
    """Return an order that the nodes may run in: of those that can come next, the one recorded last."""
    order: list[int] = []
    left = dict(enumerate(nodes))
    while left:
        nxt = max(k for k, node in left.items() if node.after.isdisjoint(left))
        del left[nxt]
        order.append(nxt)
    return order


class Recorded:
    """A graph: what was launched during a capture, with the arguments of then, but for the `first` launches.

    Attributes
    ----------
    forks : int
        The number of pairs of nodes that may run at the same time.
    """

    def __init__(self, nodes: Sequence[Node], first: int):
        self.nodes, self.first = list(nodes), list(nodes[:first])
        self.launches = 0
        self.forks = len(list(concurrent(nodes)))
        assert not (found := races(nodes)), found

    @property
    def calls(self) -> list[Node]:
        """The nodes behind the first ones."""
        return self.nodes[len(self.first):]

    def launch(self) -> None:
        """Run the nodes in their order and, where some are concurrent, the first time in another one as well.

        Other threads would change the memory that is compared.
        """
        self.launches += 1
        # A collection of garbage frees none of the memory that is compared.
        memory = POOL.buffers() if self.forks and self.launches == 1 == threading.active_count() else []
        start = [buffer.copy() for buffer in memory]
        self._run(range(len(self.nodes)))
        if memory:
            want = [buffer.copy() for buffer in memory]
            for buffer, before in zip(memory, start, strict=True):
                buffer[...] = before
            self._run(reordered(self.nodes))
            assert all(map(np.array_equal, memory, want)), "concurrent nodes race: their order changes the results"

    def _run(self, order: Collection[int]) -> None:
        for k in order:
            self.nodes[k].run()
