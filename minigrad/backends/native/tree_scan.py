"""Native loops over trees: the rows of the nodes of each level, and of their children."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ...graph import Node
from ...ops.tree_scan import Counts, Levels, Outs, run_level
from ..subgraph import ArraySpec, Build, Evaluation, Trees
from .turns import ADDABLE, LoopArrays, NativeLoop, Sizes, Turns

NODES, CHILDREN = "nodes", "children"


class NativeTrees(NativeLoop, Trees):
    """A `tree_scan` node whose levels run without Python, if the program of a level is native."""

    def __init__(self, node: Node, build: Build):
        super().__init__(node, build)
        self._counts, self._outs = Counts(*node.params["counts"]), Outs(*node.params["outs"])
        _, sums, _, _ = self._outs.split(node.params["graph"].outputs)
        self.addable = all(n.dtype.name in ADDABLE for n in sums)

    def bind_slow(self, sizes: Sizes) -> Evaluation:
        return Trees.bind(self, sizes)

    def run(self, turns: Turns, sizes: Sizes, specs: Sequence[ArraySpec], xs: Sequence[np.ndarray]
            ) -> tuple[np.ndarray, ...] | None:
        reverse, (parent, heights, *operands) = self.node.params["reverse"], xs
        levels, roles = Levels(parent, heights), self._counts.split(operands)
        each = [{**sizes, self._names["nodes"]: len(nodes), self._names["children"]: len(children)}
                for nodes, children in zip(levels.nodes, levels.children, strict=True)]
        empty = [turns.empty(own) for own in each]
        if any(empty[1:]) or len(each) <= 1:
            return None
        results = list(self._outs.split([np.zeros(shape, dtype) for shape, dtype in specs]))
        results[0] = [np.array(s, order="C") for s in roles[3]]
        if empty[0] and not reverse:
            results = self._leaves(sizes, levels, roles, results)
        order = [k for k in levels.order(reverse) if not empty[k]]
        arrays = LoopArrays(turns.program.launch_plan, sizes)
        self._enter(arrays, levels, roles, results)
        if not turns.run(turns.bodies([each[k] for k in order]), order, arrays):
            return None
        if empty[0] and reverse:
            results = self._leaves(sizes, levels, roles, results)
        return tuple(x for part in results for x in part)

    def _leaves(self, sizes: Sizes, levels: Levels, roles: Sequence[Sequence[np.ndarray]],
                results: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        """Return the results after the level of the leaves: NumPy has the rules for arrays without children."""
        return run_level(np, partial(self._call, sizes), levels, 0, roles, results, self._outs,
                         self.node.params["reverse"])

    def _enter(self, arrays: LoopArrays, levels: Levels, roles: Sequence[Sequence[np.ndarray]],
               results: Sequence[Sequence[np.ndarray]]) -> None:
        """Enter the operands and results of a run."""
        for name, lists in ((NODES, levels.nodes), (CHILDREN, levels.children)):
            arrays.place(name, np.concatenate(lists), np.cumsum([0, *map(len, lists)]))
        lengths, owners = (np.zeros(len(levels.heights), np.int64) for _ in range(2))
        lengths[np.concatenate(levels.nodes)] = np.concatenate(levels.lengths)
        owners[np.concatenate(levels.children)] = np.concatenate(levels.owners)
        reads, writes = (NODES, CHILDREN) if self.node.params["reverse"] else (CHILDREN, NODES)
        (shared, own, child, _), (states, sums, own_rows, child_rows) = roles, results
        for i, x in enumerate(shared, 2):
            arrays.fix(i, np.asarray(x, order="C"))
        read = [(lengths, NODES), (owners, CHILDREN), *[None] * len(shared), *((x, NODES) for x in own),
                *((x, CHILDREN) for x in child), *((x, reads) for x in states), *((x, writes) for x in states)]
        for i, (node, entry) in enumerate(zip(self._level.inputs, read, strict=True)):
            if entry is not None:
                arrays.read(i, node, np.asarray(entry[0], order="C"), entry[1])
        written = [*((x, writes) for x in states), *((x, "") for x in sums), *((x, NODES) for x in own_rows),
                   *((x, CHILDREN) for x in child_rows)]
        for k, (node, (x, place)) in enumerate(zip(self._level.outputs, written, strict=True)):
            if place:
                arrays.write(k, node, x, place)
            else:
                arrays.add_up(k, x)
