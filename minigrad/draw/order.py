"""The order of boxes within layers, with few crossings of edges."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

Edge = tuple[int, int]

_HUB = 64  # pairs of neighbours above which two boxes are not exchanged


def neighbours(count: int, edges: Sequence[Edge]) -> tuple[list[list[int]], list[list[int]]]:
    """Return the items above each of `count` items, and those below."""
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for u, v in edges:
        above[v].append(u)
        below[u].append(v)
    return above, below


def fewest_crossings(layers: Sequence[Sequence[int]], links: Sequence[Edge],
                     above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the layers in the order with the fewest crossings found.

    Sweeps sort each layer by the mean position of its neighbours, downwards and upwards in turn; then adjacent boxes
    are exchanged wherever that saves a crossing.

    Parameters
    ----------
    layers : sequence of sequence of int
    links : sequence of (int, int)
        Edges from one layer to the next.
    above, below : sequence of sequence of int
        The ends of each item's links.
    """
    current = [list(layer) for layer in layers]
    position = [0.0] * len(above)  # positions, counted from the middle of the layer

    def number(layer: list[int]) -> None:
        for i, v in enumerate(layer):
            position[v] = i - (len(layer) - 1) / 2

    for layer in current:
        number(layer)
    best, order = None, current
    for sweep in range(14 if len(above) < 4000 else 6):
        down = sweep % 2 == 0
        near = above if down else below
        for layer in current if down else reversed(current):
            key = {v: sum(position[u] for u in near[v]) / len(near[v]) if near[v] else position[v] for v in layer}
            layer.sort(key=key.__getitem__)
            number(layer)
        _exchange(current, above, below, position)
        crossings = _count(current, links, position)
        if best is None or crossings < best:
            best, order = crossings, [list(layer) for layer in current]
        if best == 0:
            break
    return order


def _exchange(layers: list[list[int]], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]],
              position: list[float]) -> None:
    for _ in range(2):
        changed = False
        for layer in layers:
            for i in range(len(layer) - 1):
                u, v = layer[i], layer[i + 1]
                saved = sum(_crossed(near[u], near[v], position) - _crossed(near[v], near[u], position)
                            for near in (above, below))
                if saved > 0:
                    layer[i], layer[i + 1] = v, u
                    position[u], position[v] = position[v], position[u]
                    changed = True
        if not changed:
            return


def _crossed(first: Sequence[int], second: Sequence[int], position: list[float]) -> int:
    """Return the number of crossings between links to `first` and links to `second`, the box to its right."""
    if len(first) * len(second) > _HUB:
        return 0  # the sweeps place it, and counting here would be quadratic
    return sum(position[a] > position[b] for a in first for b in second)


def _count(layers: list[list[int]], links: Sequence[Edge], position: list[float]) -> int:
    layer_of = {v: r for r, layer in enumerate(layers) for v in layer}
    between: list[list[tuple[float, float]]] = [[] for _ in layers]
    for u, v in links:
        between[layer_of[u]].append((position[u], position[v]))
    total = 0
    for pairs in between:
        lower: list[float] = []
        for _, low in sorted(pairs):
            place = bisect.bisect_right(lower, low)
            total += len(lower) - place
            lower.insert(place, low)
    return total
