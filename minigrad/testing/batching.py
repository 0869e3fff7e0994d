"""`check_batching`: `vmap` against the plain loop, and the first node whose batch is not its examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from .. import interpreters
from ..errors import CheckError, MinigradError
from ..graph import ArrayType, Graph, Node, TupleType
from ..ops.constants import proj
from ..primitive import placeholder
from ..tracebacks import boundary
from ..transforms.in_axes import by_kind, mapped_axes
from ..transforms.trace import Staged, flatten_arguments, stage
from ..transforms.vmap import vmap
from .common import (
    Checked,
    at_element,
    describe,
    element,
    leaf_names,
    name_of,
    number,
    plural,
    precision,
    stage_precisely,
    type_of,
)
from .tolerance import Seen, tolerance


@boundary
def check_batching(f: Callable[..., Any], args: Sequence[Any], in_axes: Any = 0, rtol: float | None = None,
                   atol: float | None = None) -> Checked:
    """Check that ``vmap(f, in_axes)`` is the plain loop over `f`, and that no example has a part in another's result.

    The loop calls `f` itself, on the arrays of one example at a time, in float64 where `f` takes it. It runs on
    the examples given (equal ones are made distinct; of a single one, three are made), and on a batch of one.
    Then one example at a time is moved, and no other result may move.

    Parameters
    ----------
    f : callable
        A function of one example.
    args : sequence
        Its arguments, those that `in_axes` maps with the examples along an axis, or as a batch (`minigrad.batch`).
    in_axes : int, None, or a pytree of them
        As in `vmap`.
    rtol, atol : float, optional
        Tolerances of ``|batched - alone| <= atol + rtol |alone|``; chosen by the coarsest dtype in the graph and the
        scale of the result where not given.

    Returns
    -------
    Checked

    Raises
    ------
    CheckError
        Naming the result, the example, the element, both numbers, and the first node of the graph of one example
        whose batch is not the stack of its values.

    Examples
    --------
    >>> print(mg.check_batching(loss, (params, X, y), in_axes=(None, 0, 0)))
    """
    return check_batch_of(args, f, in_axes, rtol, atol)


@by_kind
def check_batch_of(args: Sequence[Any], f: Callable[..., Any], in_axes: Any, rtol: float | None, atol: float | None
                   ) -> Checked:
    """Check the batch of `f` on the examples in `args`; see `check_batching`."""
    args, staged = stage_precisely(f, args, lambda args: _stage_example(f, args, in_axes))
    batch = Batch(f, staged, args, in_axes)
    tol = tolerance(precision(batch.graph), rtol, atol)
    seen = Seen(tol)
    batch = batch.distinct()
    one = batch.take([0])
    for some in (batch, one):
        some.against_loop(seen)
    batch.without_leaks(seen)
    return Checked(f"check_batching({name_of(f)}): {plural(batch.size, 'example')}, one alone, each moved in turn",
                   seen.comparisons, seen.largest)


def _stage_example(f: Callable[..., Any], args: tuple, in_axes: Any) -> Staged:
    leaves, tree, types = flatten_arguments(f, args, {})
    axes, _ = mapped_axes(f, args, {}, in_axes, types, "check_batching", symbolic=False)
    example = [t if a is None else ArrayType(t.shape[:a] + t.shape[a + 1:], t.dtype)
               for t, a in zip(types, axes, strict=True)]
    return stage(f, args, {}, (leaves, tree, example))


class Batch:
    """A function, its graph for one example, and arguments for several."""

    def __init__(self, f: Callable[..., Any], staged: Staged, args: tuple, in_axes: Any):
        self.f, self.staged, self.args, self.in_axes = f, staged, args, in_axes
        leaves, self._tree, types = flatten_arguments(f, args, {})
        self._axes, self.size = mapped_axes(f, args, {}, in_axes, types, "check_batching", symbolic=False)
        # The examples in front, whatever the axes were.
        self._fronts = [np.asarray(x) if a is None else np.moveaxis(np.asarray(x), a, 0)
                        for x, a in zip(leaves, self._axes, strict=True)]
        self.graph = Graph(tuple(staged.inputs), tuple(staged.outputs), staged.names, name=name_of(f))

    def _with(self, fronts: Sequence[np.ndarray]) -> Batch:
        leaves = [x if a is None else np.moveaxis(x, 0, a) for x, a in zip(fronts, self._axes, strict=True)]
        args, _ = optree.tree_unflatten(self._tree, leaves)
        return Batch(self.f, self.staged, args, self.in_axes)

    def take(self, rows: Sequence[int]) -> Batch:
        """Return the batch of some of the examples."""
        return self._with([x if a is None else x[list(rows)] for x, a in zip(self._fronts, self._axes, strict=True)])

    def distinct(self) -> Batch:
        """Return a batch of at least two examples, no two of them equal where floating values can tell them apart."""
        rows = list(range(self.size)) if self.size > 1 else [0] * 3
        fronts = [x if a is None else x[rows].copy() for x, a in zip(self._fronts, self._axes, strict=True)]
        mapped = [x for x, a in zip(fronts, self._axes, strict=True) if a is not None]
        known: set[tuple[bytes, ...]] = set()
        for k in range(len(rows)):
            if tuple(x[k].tobytes() for x in mapped) in known:
                for x in mapped:
                    if x.dtype.kind == "f":
                        x[k] = x[k] * (1 + 0.05 * k) + 0.01 * k * (x[k] == 0)
            known.add(tuple(x[k].tobytes() for x in mapped))
        return self._with(fronts)

    def moved(self, k: int) -> Batch:
        """Return the batch with example `k` changed."""
        return self._with([x if a is None else _move(x, k) for x, a in zip(self._fronts, self._axes, strict=True)])

    def _example(self, k: int) -> list[np.ndarray]:
        return [x if a is None else x[k] for x, a in zip(self._fronts, self._axes, strict=True)]

    def _alone(self, k: int) -> list[Any]:
        """Return the results of the user's function itself on one example."""
        args, _ = optree.tree_unflatten(self._tree, self._example(k))
        return optree.tree_leaves(self.f(*args))

    def _together(self) -> list[Any]:
        return optree.tree_leaves(vmap(self.f, self.in_axes)(*self.args))

    def _result(self, i: int) -> str:
        """Return the name of result `i`."""
        whole = optree.tree_unflatten(self.staged.out_tree, range(len(self.staged.outputs)))
        return f"the result{leaf_names(whole)[i]}"

    # -- the checks --------------------------------------------------------------------------------------------

    def against_loop(self, seen: Seen) -> None:
        """Raise `CheckError` where `vmap` and the loop differ."""
        try:
            have = self._together()
        except (MinigradError, ValueError, IndexError) as error:
            node, why = self._first_wrong(seen)
            if node is None:
                raise
            raise CheckError("\n".join([f"check_batching({name_of(self.f)}), a batch of {self.size}: vmap fails",
                                        *self._blame(node, why)]), node) from error
        for k in range(self.size):
            for i, want in enumerate(self._alone(k)):
                at = seen.first(have[i][k], want)
                if at is not None:
                    raise self._error(seen, k, i, at, have[i][k], want)

    def without_leaks(self, seen: Seen) -> None:
        """Raise `CheckError` where moving one example moves another's result."""
        before = self._together()
        for k in sorted({0, self.size // 2, self.size - 1}):
            moved = self.moved(k)
            for i, (have, want) in enumerate(zip(moved._together(), before, strict=True)):
                rest = np.arange(self.size) != k
                at = seen.first(have[rest], want[rest])
                if at is not None:
                    row, *at = at
                    other = int(np.flatnonzero(rest)[row])
                    node, why = self._first_leak(moved, k, seen)
                    raise CheckError("\n".join([
                        f"check_batching({name_of(self.f)}): moving example {k} alone moves "
                        f"{element(self._result(i), tuple(at))} of example {other} from {number(want[(other, *at)])} "
                        f"to {number(have[(other, *at)])}", *self._blame(node, why)]), node)

    def _error(self, seen: Seen, k: int, i: int, at: tuple[int, ...], have: Any, want: Any) -> CheckError:
        have, want = np.asarray(have), np.asarray(want)
        said = (f"check_batching({name_of(self.f)}), a batch of {self.size}: {element(self._result(i), at)} of "
                f"example {k} ")
        if have.shape != want.shape:
            said += f"has shape {have.shape} under vmap, {want.shape} in the loop"
        else:
            said += f"is {number(have[at])} under vmap, {number(want[at])} in the loop"
        node, why = self._first_wrong(seen)
        return CheckError("\n".join([said, *self._blame(node, why)]), node)

    def _blame(self, node: Node | None, why: str) -> list[str]:
        if node is None:
            return ["  each node's batch is the stack of its examples: the function computes something else on plain "
                    "arrays than it does when traced, or it is not the same from call to call"]
        return [f"  first node that disagrees: {describe(node, self.graph)}", f"    {why}"]

    # -- node by node --------------------------------------------------------------------------------------------

    def _nodes(self) -> list[Node]:
        return [n for n in self.graph.nodes if n.inputs]

    def _batched_values(self) -> list[tuple[Any, bool]]:
        """Return the batched value of each of `_nodes`, and whether it has the batch axis."""
        new = [placeholder(ArrayType(x.shape, x.dtype)) for x in self._fronts]
        pairs = list(zip(self.graph.inputs, new, self._axes, strict=True))
        made = interpreters.batch(self._nodes(), {s: n for s, n, a in pairs if a is None},
                          {s: n for s, n, a in pairs if a is not None}, self.size)
        values = interpreters.evaluate(Graph(tuple(new), tuple(n for n, _ in made)), self._fronts)
        return [(v, has) for v, (_, has) in zip(values, made, strict=True)]

    def _first_wrong(self, seen: Seen) -> tuple[Node | None, str]:
        """Return the first node whose batch rule, on the stacked operands, does not make the stack of its values."""
        nodes = [n for n in self._nodes() if n.prim is not proj]
        needed = list(dict.fromkeys([*nodes, *(i for n in nodes for i in n.inputs)]))
        graph = self.graph.replace(outputs=tuple(needed), out_names=())
        alone = [
            dict(zip(needed, interpreters.evaluate(graph, self._example(k)), strict=True)) for k in range(self.size)
        ]
        mapped = [n for n, a in zip(self.graph.inputs, self._axes, strict=True) if a is not None]
        reached = set(interpreters.dependent(nodes, mapped))
        for node in nodes:
            if node in reached:
                why = _wrong_rule(node, [i in reached for i in node.inputs], alone, seen)
                if why:
                    return node, why
        return None, ""

    def _first_leak(self, moved: Batch, k: int, seen: Seen) -> tuple[Node | None, str]:
        """Return the first node of which other rows than `k` differ between two batches that differ in example `k`."""
        for node, (a, has_axis), (b, _) in zip(self._nodes(), self._batched_values(), moved._batched_values(),
                                               strict=True):
            for before, after in zip(_parts(node, a), _parts(node, b), strict=True):
                if not has_axis or np.ndim(before) == 0 or len(before) != self.size:
                    continue
                rest = np.arange(self.size) != k
                at = seen.first(after[rest], before[rest])
                if at is not None:
                    other = int(np.flatnonzero(rest)[at[0]])
                    where = (other, *at[1:])
                    return node, (f"{at_element(f'example {other}', at[1:])}: {number(before[where])} before, "
                                  f"{number(after[where])} after")
        return None, ""


def _wrong_rule(node: Node, mapped: Sequence[bool], alone: Sequence[dict[Node, Any]], seen: Seen) -> str:
    """Return what is wrong with the batch rule of a node, given the values of each example; "" where nothing is."""
    size = len(alone)
    single = [placeholder(i.type) for i in node.inputs]
    batch = [placeholder(ArrayType((size, *i.shape), i.dtype)) if m else i for i, m in zip(single, mapped, strict=True)]
    stacks = [np.stack([v[i] for v in alone]) if m else np.asarray(alone[0][i])
              for i, m in zip(node.inputs, mapped, strict=True)]
    pairs = list(zip(single, batch, mapped, strict=True))
    out = node.prim(*single, **node.params)
    try:
        ((made, _),) = interpreters.batch(
            [out], {s: b for s, b, m in pairs if not m}, {s: b for s, b, m in pairs if m}, size
        )
        run = Graph(tuple(batch), (made,))
        (value,) = interpreters.evaluate(run, stacks)
    except (MinigradError, ValueError, IndexError) as error:
        return f"its batch rule fails: {error}"
    for i, have in enumerate(_parts(node, value)):
        want = np.stack([_parts(node, v[node])[i] for v in alone])
        if np.shape(have) != want.shape or have.dtype != want.dtype:
            return (f"its batch is {type_of(have)}; {plural(size, 'example')} of type "
                    f"{type_of(want[0])} stack to {type_of(want)}")
        at = seen.first(have, want)
        if at is not None:
            where = at_element(f"example {at[0]}", at[1:])
            said = f"{where}: {number(have[at])} in the batch, {number(want[at])} alone"
            return said + _mixing(run, stacks, mapped, i, node, seen)
    return ""


def _mixing(run: Graph, stacks: Sequence[np.ndarray], mapped: Sequence[bool], part: int, node: Node, seen: Seen) -> str:
    """Say so where moving one example's operands moves the node's value of another example."""
    before = _parts(node, interpreters.evaluate(run, stacks)[0])[part]
    for k in range(len(before)):
        moved = [_move(x, k) if m else x for x, m in zip(stacks, mapped, strict=True)]
        after = _parts(node, interpreters.evaluate(run, moved)[0])[part]
        rest = np.arange(len(before)) != k
        if seen.first(after[rest], before[rest]) is not None:
            return f"; its batch rule mixes examples: moving example {k} alone moves others"
    return ""


def _move(x: np.ndarray, k: int) -> np.ndarray:
    """Return a batch with example `k` changed: floating values a little, others to the next example's."""
    x = x.copy()
    x[k] = x[k] * 1.125 + 0.01 * (x[k] == 0) if x.dtype.kind == "f" else x[(k + 1) % len(x)]
    return x


def _parts(node: Node, value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(node.type, TupleType) else (value,)
