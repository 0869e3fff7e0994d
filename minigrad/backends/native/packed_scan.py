"""Native packed scans: the rows of the examples that run at each step, and the carry between the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ...graph import Node
from ...ops.packed_scan import inverse, rows_of
from ...ops.packed_steps import Steps, inside
from ...ops.subgraph import signature
from ...symbolic import Dim
from ..subgraph import ArraySpec, Build, Evaluation, PackedScan
from .turns import ADDABLE, LoopArrays, NativeLoop, Sizes, Turns


class NativePackedScan(NativeLoop, PackedScan):
    """A `packed_scan` node whose steps run without Python, if its body is native."""

    def __init__(self, node: Node, build: Build):
        super().__init__(node, build)
        symbols = inside(node.params["packed"])
        results = signature(node).ends(node.params["body"].outputs)[1]
        self.addable = all(rows_of(o.types[0], symbols) is not None or o.dtype.name in (*ADDABLE, "int8")
                           for o in results)  # integers are the zeros of checks

    def bind_slow(self, sizes: Sizes) -> Evaluation:
        return PackedScan.bind(self, sizes)

    def run(self, turns: Turns, sizes: Sizes, specs: Sequence[ArraySpec], xs: Sequence[np.ndarray]
            ) -> tuple[np.ndarray, ...] | None:
        packed = self.node.params["packed"]
        steps = Steps(packed, xs[:len(packed)], self.node.params["once"])
        own = {n: {**sizes, **steps.sizes(n)} for n in dict.fromkeys(steps.active.tolist())}
        if not own or any(map(turns.empty, own.values())):
            return None
        bodies = dict(zip(own, turns.bodies(list(own.values())), strict=True))
        arrays = LoopArrays(turns.program.launch_plan, sizes)
        ends = self._enter(arrays, steps, specs, xs)
        order = range(steps.length - 1, -1, -1) if self.node.params["reverse"] else range(steps.length)
        active = steps.active.tolist()
        if not turns.run([bodies[active[t]] for t in order], order, arrays):
            return None
        return tuple([end() for end in ends])

    def _enter(self, arrays: LoopArrays, steps: Steps, specs: Sequence[ArraySpec], xs: Sequence[np.ndarray]
               ) -> list[Callable[[], np.ndarray]]:
        """Enter the operands and results of a run, and return functions that return the results after it."""
        params, roles = self.node.params, signature(self.node)
        body, symbols = params["body"], inside(params["packed"])
        ends: list[Callable[[], np.ndarray]] = []

        def placed(rows: Dim) -> Dim:
            if not arrays.placed(rows):
                arrays.place(rows, *steps.sliced(rows))
            return rows

        for i, (own, x) in enumerate(zip(body.inputs, xs, strict=True)):
            rows, x = rows_of(own.types[0], symbols), np.asarray(x, own.dtype, order="C")
            if i >= roles.n_shared + roles.n_carry:
                assert rows is not None
                arrays.read(i, own, x, placed(rows))
            elif i >= roles.n_shared:
                assert rows is not None
                rooms, end = self._rooms(steps, x, rows)
                arrays.carry(i, i - roles.n_shared, rooms)
                ends.append(end)
            else:
                arrays.fix(i, x if rows is None else x.take(steps.whole(rows), axis=0))
        for k, (own, (shape, dtype)) in enumerate(zip(body.outputs, specs, strict=True)):
            rows = rows_of(own.types[0], symbols)
            if k < roles.n_carry:
                continue
            result = np.empty(shape, dtype) if rows is not None and not params["once"] else np.zeros(shape, dtype)
            ends.append(partial(np.asarray, result))
            if rows is not None:
                arrays.write(k, own, result, placed(rows))
            elif dtype.name in ADDABLE:
                arrays.add_up(k, result)
            else:
                arrays.ignore(k, result)
        return ends

    def _rooms(self, steps: Steps, x: np.ndarray, rows: Dim) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
        """Return the two rooms of a carry, which begins in the first one, and a function that returns its end."""
        order = steps.whole(rows)
        rooms = np.empty((2, *x.shape), x.dtype)
        x.take(order, axis=0, out=rooms[0])
        if self.node.params["reverse"]:  # examples that begin later find their start in either
            rooms[1] = rooms[0]
            room = np.full(len(order), steps.length % 2)
        else:
            room = np.repeat(steps.lengths % 2, steps.count(rows))[order]
        last = inverse(order)
        return rooms, lambda: rooms.reshape(-1, *x.shape[1:]).take(room[last] * len(order) + last, axis=0)
