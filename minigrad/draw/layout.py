"""Layered drawing of a directed acyclic graph (Sugiyama's method), on indices and sizes alone.

`rank` gives every box a layer; `arrange` orders the boxes of each layer so that few edges cross, gives
them coordinates that keep edges straight, and routes the edges. Both run in loops, never recursively, and
their time is linear in the graph but for the sorting.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .order import Edge, fewest_crossings, neighbours
from .shelves import detached, shelves

_APART = 26.0  # between two boxes of a layer
_LANES = 16.0  # between two passing edges, or an edge and a box
_GAP = 30.0  # between layers, at least
_PORTS = 22.0  # between two edges that enter one box, at most
_ROW = 6  # detached boxes in the first or last layer, at most
_NARROW = 900.0  # width of rows of detached boxes that every drawing allows


@dataclass
class Layout:
    """The geometry of a drawing.

    Attributes
    ----------
    x, y : list of float
        The left upper corners of the boxes.
    width, height : float
    curves : list of (float, float, float, float, float, float)
        Per piece of an edge ``(x0, y0, low, x1, high, y1)``: straight down from (x0, y0) to `low`, over to x1
        at `high`, straight down to y1.
    heads : list of (float, float)
        The points at which edges enter boxes.
    """

    x: list[float]
    y: list[float]
    width: float
    height: float
    curves: list[tuple[float, float, float, float, float, float]]
    heads: list[tuple[float, float]]


def rank(count: int, edges: Sequence[Edge], top: Collection[int] = (), bottom: Collection[int] = ()) -> list[int]:
    """Return a layer for each of `count` boxes, such that edges go down and are short.

    Parameters
    ----------
    count : int
    edges : sequence of (int, int)
        Each from a smaller to a larger index.
    top, bottom : collection of int
        Boxes without predecessors that stay in the first layer, and boxes without successors for the last.
    """
    above, below = neighbours(count, edges)
    ranks = [0] * count
    for v in range(count):
        ranks[v] = max((ranks[u] + 1 for u in above[v]), default=0)
    last = max((r for v, r in enumerate(ranks) if v not in bottom), default=-1) + 1
    for v in bottom:
        ranks[v] = last
    fixed = {*top, *bottom}
    # A box moves within the slack between its neighbours to the layer with the shortest edges in total. Ties go down in
    # one sweep and up in the next, so that chains move as a whole. At the end they stand near their users, except those
    # close to their operands.
    for down, tie in ((True, count), (False, count), (True, count), (False, count), (True, count), (False, 3)):
        for v in reversed(range(count)) if down else range(count):
            if v in fixed or not (above[v] or below[v]):
                continue
            pull = len(set(below[v])) - len(set(above[v]))
            low = max((ranks[u] + 1 for u in above[v]), default=None)
            high = min((ranks[w] - 1 for w in below[v]), default=None)
            if down and high is not None and (pull > 0 or (pull == 0 and high - ranks[v] <= tie)):
                ranks[v] = high
            elif not down and low is not None and (pull < 0 or (pull == 0 and ranks[v] - low <= tie)):
                ranks[v] = low
    used = {r: i for i, r in enumerate(sorted(set(ranks)))}
    return [used[r] for r in ranks]


def arrange(sizes: Sequence[tuple[float, float]], edges: Sequence[Edge], ranks: Sequence[int],
            unordered: Collection[int] = ()) -> Layout:
    """Return where to draw boxes of the given sizes in their layers, and the edges between them.

    Parameters
    ----------
    sizes : sequence of (float, float)
        Width and height of each box.
    edges : sequence of (int, int)
        From a lower to a higher rank; a box's edges enter it from left to right in this order.
    ranks : sequence of int
    unordered : collection of int
        Boxes whose edges may enter in any order.
    """
    first, last = detached(edges, ranks)
    if len(first) <= _ROW and len(last) <= _ROW:
        return _layered(sizes, edges, ranks, unordered)
    # A network of many parameters has as many boxes at the top and at the bottom, most of them far from their users
    # or makers, and so without an edge. They stand in rows of the drawing's width, not in one row of their own.
    apart = {v for column in (*first, *last) for v in column}
    kept = [v for v in range(len(sizes)) if v not in apart]
    place = {v: i for i, v in enumerate(kept)}
    levels = {r: i for i, r in enumerate(sorted({ranks[v] for v in kept}))}
    inner = _layered([sizes[v] for v in kept], [(place[u], place[v]) for u, v in edges if u in place],
                     [levels[ranks[v]] for v in kept], {place[v] for v in unordered if v in place})
    width = max(inner.width, _NARROW)
    above, above_height = shelves(first, sizes, width, _APART, _GAP)
    below, below_height = shelves(last, sizes, width, _APART, _GAP)
    down = above_height + _GAP if first else 0.0
    under = down + inner.height + (_GAP if last else 0.0)
    corners = {v: (inner.x[i], inner.y[i] + down) for v, i in place.items()} | above
    corners |= {v: (left, top + under) for v, (left, top) in below.items()}
    x, y = ([corners[v][axis] for v in range(len(sizes))] for axis in (0, 1))
    curves = [(a, start + down, low + down, b, high + down, end + down) for a, start, low, b, high, end in inner.curves]
    heads = [(a, end + down) for a, end in inner.heads]
    for u, v in edges:
        if u in apart:
            start, middle = y[u] + sizes[u][1], x[u] + sizes[u][0] / 2
            curves.append((middle, start, start, middle, y[v], y[v]))
            heads.append((middle, y[v]))
    right = max(left + w for left, (w, _) in zip(x, sizes, strict=True))
    return Layout(x, y, max(right, inner.width), under + below_height, curves, heads)


def _layered(sizes: Sequence[tuple[float, float]], edges: Sequence[Edge], ranks: Sequence[int],
             unordered: Collection[int]) -> Layout:
    """Return the layered drawing of boxes that belong together."""
    if not sizes:
        return Layout([], [], 0.0, 0.0, [], [])
    net = _Net(sizes, edges, ranks)
    net.layers = fewest_crossings(net.layers, net.links, net.above, net.below)
    net.place_ports(unordered)
    net.place()
    net.close_up()
    return net.layout()


class _Net:
    """The boxes, plus one point in each layer that an edge passes, on its way from one box to others.

    The edges that leave a box share their points: one value is one line that forks.
    """

    def __init__(self, sizes: Sequence[tuple[float, float]], edges: Sequence[Edge], ranks: Sequence[int]):
        self.boxes = len(sizes)
        self.widths = [w for w, _ in sizes]
        self.heights = [h for _, h in sizes]
        self.ranks = list(ranks)
        self.links: list[Edge] = []  # between neighbouring layers
        self.ports: dict[int, list[int]] = defaultdict(list)  # box -> links that enter it, in order
        lanes: dict[int, list[int]] = {}
        for u, v in edges:
            lane = lanes.setdefault(u, [u])
            while ranks[u] + len(lane) < ranks[v]:
                self.ranks.append(ranks[u] + len(lane))
                self.widths.append(0.0)
                self.heights.append(0.0)
                lane.append(len(self.ranks) - 1)
                self.links.append((lane[-2], lane[-1]))
            self.ports[v].append(len(self.links))
            self.links.append((lane[ranks[v] - ranks[u] - 1], v))
        self.above, self.below = neighbours(len(self.ranks), self.links)
        self.layers: list[list[int]] = [[] for _ in range(max(self.ranks) + 1)]
        for v, r in enumerate(self.ranks):
            self.layers[r].append(v)
        # Boxes with one link follow the box at its other end.
        self.loose = self._hanging(self.layers, self.above, self.below)
        self.loose |= self._hanging(self.layers[::-1], self.below, self.above)

    @staticmethod
    def _hanging(layers: list[list[int]], before: list[list[int]], after: list[list[int]]) -> set[int]:
        hanging: set[int] = set()
        for v in itertools.chain.from_iterable(layers):
            if len(after[v]) == 1 and (not before[v] or (len(before[v]) == 1 and before[v][0] in hanging)):
                hanging.add(v)
        return hanging

    # -- coordinates -------------------------------------------------------------------------------

    def place_ports(self, unordered: Collection[int]) -> None:
        """Spread the edges that enter a box over its upper side."""
        position = {v: i for layer in self.layers for i, v in enumerate(layer)}
        self.shift = [0.0] * len(self.links)  # of a link's end, from the middle of the box
        for v, ports in self.ports.items():
            if v in unordered:
                ports.sort(key=lambda p: position[self.links[p][0]])
            step = min(_PORTS, (self.widths[v] - 24) / max(len(ports), 1))
            middle = (len(ports) - 1) / 2
            main = [i for i, p in enumerate(ports) if self.links[p][0] not in self.loose]
            if len(main) == 1 and len(ports) > 1:  # a chain with something joining from the side stays straight
                middle, step = main[0], min(step, (self.widths[v] - 24) / 2 / (len(ports) - 1))
            for i, p in enumerate(ports):
                self.shift[p] = (i - middle) * step

    def place(self) -> None:
        """Pull everything to the mean of its neighbours, as far as the layer's order leaves room."""
        pulls: list[list[list[tuple[int, float, float]]]] = [[[] for _ in self.ranks] for _ in range(2)]
        self.pulls = pulls
        for (u, v), shift in zip(self.links, self.shift, strict=True):
            # Long edges have the largest weight, then the only edge of a box.
            passing = (u >= self.boxes) + (v >= self.boxes)
            weight = (1.0, 3.0, 9.0)[passing] / (1 if passing else max(len(self.above[v]), 1) ** 0.5)
            if (u in self.loose) != (v in self.loose):
                weight = 0.3  # it gives way to the boxes beside it
            pulls[0][v].append((u, -shift, weight * (0.02 if u in self.loose else 1)))
            pulls[1][u].append((v, shift, weight * (0.02 if v in self.loose else 1)))
        x = [0.0] * len(self.ranks)
        offsets = []
        for layer in self.layers:
            offset, extent = [], 0.0
            for i, v in enumerate(layer):
                extent += self._gap(layer[i - 1], v) if i else 0.0
                offset.append(extent)
            offsets.append(offset)
            for v, o in zip(layer, offset, strict=True):
                x[v] = o - extent / 2
        rounds = 40 if len(self.ranks) < 1500 else 14
        for sweep in range(rounds):
            down = sweep % 2 == 0
            both = sweep >= rounds - 8
            layers = list(zip(self.layers, offsets, strict=True))
            for layer, offset in layers if down else reversed(layers):
                targets, weights = [], []
                for v, o in zip(layer, offset, strict=True):
                    pull = pulls[0][v] + pulls[1][v] if both else pulls[0 if down else 1][v]
                    weight = sum(w for _, _, w in pull)
                    goal = sum((x[u] + s) * w for u, s, w in pull) / weight if weight else x[v]
                    targets.append(goal - o)
                    weights.append(weight or 0.05)
                for v, o, start in zip(layer, offset, _monotone(targets, weights), strict=True):
                    x[v] = start + o
        self.x = x
        for _ in range(4):
            self._straighten()

    def _gap(self, u: int, v: int) -> float:
        """Return how far apart the middles of two neighbours in a layer must be."""
        apart = _APART if u < self.boxes and v < self.boxes else _LANES
        return (self.widths[u] + self.widths[v]) / 2 + apart

    def _straighten(self) -> None:
        """Put runs of links exactly under each other, as far down as there is room for each run."""
        x = self.x
        linked = [x[v] for v in range(len(x)) if self.above[v] or self.below[v]]
        self.middle = sum(linked) / len(linked) if linked else 0.0  # where boxes without edges gather
        left, right = {}, {}
        for layer in self.layers:
            for u, v in itertools.pairwise(layer):
                right[u], left[v] = v, u

        def order(link: int) -> tuple[int, float]:
            u, v = self.links[link]
            passing = (u >= self.boxes) + (v >= self.boxes)
            alone = len(self.below[u]) == 1 and len(self.above[v]) == 1
            level = 0 if passing == 2 else 1 if alone else 3 if u in self.loose or v in self.loose else 2
            return level, abs(x[u] - x[v] - self.shift[link])

        ends = defaultdict(list)
        for link, uv in enumerate(self.links):
            ends[uv].append(self.shift[link])
        under: dict[int, tuple[int, float]] = {}
        taken: set[int] = set()
        for link in sorted(range(len(self.links)), key=order):
            u, v = self.links[link]
            if u not in under and v not in taken:
                under[u] = v, sum(ends[u, v]) / len(ends[u, v])
                taken.add(v)
        for first in range(len(x)):
            if first in taken:
                continue
            run: list[tuple[int, float]] = []
            shift, low, high = 0.0, -math.inf, math.inf
            box: int | None = first
            while box is not None:
                lo = x[left[box]] + self._gap(left[box], box) + shift if box in left else -math.inf
                hi = x[right[box]] - self._gap(box, right[box]) + shift if box in right else math.inf
                if run and max(lo, low) > min(hi, high):
                    self._set(run, low, high)
                    run, low, high = [], -math.inf, math.inf
                low, high = max(lo, low), min(hi, high)
                run.append((box, shift))
                box, more = under.get(box, (None, 0.0))
                shift += more
            self._set(run, low, high)

    def _set(self, run: list[tuple[int, float]], low: float, high: float) -> None:
        """Move a run as a whole to the mean position of its links, within its limits."""
        inside = {v for v, _ in run}
        total = weight = 0.0
        for v, shift in run:
            for u, s, w in itertools.chain(self.pulls[0][v], self.pulls[1][v]):
                if u not in inside:
                    total += (self.x[u] + s + shift) * w
                    weight += w
        target = total / weight if weight else self.middle
        target = max(low, min(target, high))
        for v, shift in run:
            self.x[v] = target - shift

    def close_up(self) -> None:
        """Move components that no edge holds towards the ones on their left, as far as every layer has room."""
        component = list(range(len(self.x)))

        def root(v: int) -> int:
            while component[v] != v:
                component[v] = component[component[v]]
                v = component[v]
            return v

        for u, v in self.links:
            component[root(u)] = root(v)
        for layer in self.layers:  # boxes between two of a component move with it
            spans: dict[int, int] = {}
            for i, v in enumerate(layer):
                for u in layer[spans.get(root(v), i):i]:
                    component[root(u)] = root(v)
                spans[root(v)] = i
        groups: dict[int, list[int]] = defaultdict(list)
        for v in range(len(self.x)):
            groups[root(v)].append(v)
        left = {v: u for layer in self.layers for u, v in itertools.pairwise(layer)}
        for group in sorted(groups.values(), key=lambda g: min(self.x[v] for v in g)):
            inside = set(group)
            room = min((self.x[v] - self.x[left[v]] - self._gap(left[v], v) for v in group
                        if v in left and left[v] not in inside), default=0.0)
            for v in group if room > 0 else ():
                self.x[v] -= room

    def layout(self) -> Layout:
        """Give layers their heights, and collect the boxes' corners and the edges' pieces."""
        x = self.x
        left = min(x[v] - self.widths[v] / 2 for v in range(len(x)))
        x = [c - left for c in x]
        reach = [0.0] * len(self.layers)
        for (u, v), shift in zip(self.links, self.shift, strict=True):
            reach[self.ranks[u]] = max(reach[self.ranks[u]], abs(x[v] + shift - x[u]))
        tops, depths, y = [], [], 0.0
        for layer, far in zip(self.layers, reach, strict=True):
            tops.append(y)
            depths.append(max(self.heights[v] for v in layer))
            y += depths[-1] + _GAP + min(far * 0.06, _GAP)
        top = [tops[r] + (depths[r] - h) / 2 for r, h in zip(self.ranks, self.heights, strict=True)]
        curves, heads = [], []
        for (u, v), shift in zip(self.links, self.shift, strict=True):
            low = tops[self.ranks[u]] + depths[self.ranks[u]]
            start = top[u] + self.heights[u] if u < self.boxes else tops[self.ranks[u]]
            end = top[v] if v < self.boxes else tops[self.ranks[v]]
            curves.append((x[u], start, low, x[v] + shift, tops[self.ranks[v]], end))
            if v < self.boxes:
                heads.append((x[v] + shift, end))
        corners = [x[v] - self.widths[v] / 2 for v in range(self.boxes)]
        width = max(c + w / 2 for c, w in zip(x, self.widths, strict=True))
        return Layout(corners, top[:self.boxes], width, tops[-1] + depths[-1], curves, heads)


def _monotone(targets: list[float], weights: list[float]) -> list[float]:
    """Return the non-decreasing sequence nearest to `want` in weighted least squares."""
    blocks: list[list[float]] = []  # mean, weight, length
    for value, weight in zip(targets, weights, strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            b, w, n = blocks.pop()
            a, v, m = blocks[-1]
            blocks[-1] = [(a * v + b * w) / (v + w), v + w, m + n]
    return [mean for mean, _, length in blocks for _ in range(int(length))]
