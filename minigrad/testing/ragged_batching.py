"""`check_batching` where examples differ in size: against the loop, in another order, with one example moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from .. import interpreters
from ..errors import CheckError, MinigradError
from ..graph import Graph, Node, TupleType
from ..primitive import input_
from ..ragged.batch import Batch
from ..ragged.rules import Batching
from ..symbolic import Symbol, value
from ..transforms.ragged import is_batch, stage_batch
from ..transforms.trace import Call
from ..transforms.vmap import vmap
from .batching import check_batch_of
from .common import Checked, at_element, describe, element, leaf_names, name_of, number, plural, precision, widen
from .tolerance import Seen, tolerance


@check_batch_of.register(is_batch)
def check_ragged(args: Sequence[Any], f: Callable[..., Any], in_axes: Any, rtol: float | None, atol: float | None
                 ) -> Checked:
    """Check that ``vmap(f, in_axes)`` over batches is the loop over their examples; see `check_batching`."""
    examples = Examples(f, widen(tuple(args)), in_axes)
    batch = stage_batch(Call(f, examples.args, {}), in_axes)
    graph = Graph(tuple(batch.staged.inputs), tuple(batch.staged.outputs), batch.staged.names, name=name_of(f))
    seen = Seen(tolerance(precision(graph), rtol, atol))
    n = examples.size
    for some in (examples, examples.take([0]), examples.take(list(range(n))[::-1])):
        _against_loop(some, seen)
    _without_leaks(examples, seen)
    return Checked(f"check_batching({name_of(f)}): {plural(n, 'example')} of different size, one alone, all in the "
                   "other order, each moved in turn", seen.comparisons, seen.largest)


class Examples:
    """A function and its arguments for several examples, batches among them."""

    def __init__(self, f: Callable[..., Any], args: tuple, in_axes: Any):
        self.f, self.args, self.in_axes = f, args, in_axes
        self._parts, self._tree = optree.tree_flatten(args, is_leaf=is_batch)
        axes = in_axes if not isinstance(in_axes, list) else tuple(in_axes)
        whole = optree.tree_unflatten(self._tree, [0] * len(self._parts))
        self._axes = optree.broadcast_prefix(axes, whole, none_is_leaf=True)
        self.size = next(len(p) if is_batch(p) else np.shape(p)[a] for p, a in zip(self._parts, self._axes, strict=True)
                         if a is not None)

    def _with(self, parts: Sequence[Any]) -> Examples:
        return Examples(self.f, optree.tree_unflatten(self._tree, parts), self.in_axes)

    def take(self, rows: Sequence[int]) -> Examples:
        """Return some of the examples."""
        return self._with([p if a is None else p[list(rows)] if is_batch(p) else np.take(p, rows, axis=a)
                           for p, a in zip(self._parts, self._axes, strict=True)])

    def moved(self, k: int) -> Examples:
        """Return the examples with floating values of example `k` changed."""
        def move(p: Any, a: int | None) -> Any:
            if a is None:
                return p
            if not is_batch(p):
                return _moved(np.asarray(p), np.arange(np.shape(p)[a]) == k, a)
            fields = {}
            for name, t in p.schema.fields.items():
                x = p._fields.get(name)
                if x is not None and not t.shared:
                    own = np.arange(len(p)) == k
                    x = _moved(x, np.repeat(own, p._rows(t)) if t.axes else own, 0)
                if not t.counts:
                    fields[name] = x
            return Batch(p.schema, fields, p._lengths, size=len(p))

        return self._with([move(p, a) for p, a in zip(self._parts, self._axes, strict=True)])

    def alone(self, k: int) -> list[Any]:
        """Return the results of the user's function itself on one example."""
        parts = [p if a is None else p[k] if is_batch(p) else np.take(p, k, axis=a)
                 for p, a in zip(self._parts, self._axes, strict=True)]
        return optree.tree_leaves(self.f(*optree.tree_unflatten(self._tree, parts)))

    def together(self) -> list[list[Any]]:
        """Return, for each result, its value for each example, computed at once."""
        out = optree.tree_leaves(vmap(self.f, self.in_axes)(*self.args), is_leaf=is_batch)
        return [x.unbatch() if is_batch(x) else list(x) for x in out]

    def result(self, i: int) -> str:
        """Return the name of result `i`."""
        tree = stage_batch(Call(self.f, self.args, {}), self.in_axes).staged.out_tree
        return f"the result{leaf_names(optree.tree_unflatten(tree, range(tree.num_leaves)))[i]}"


def _moved(x: np.ndarray, rows: np.ndarray, axis: int) -> np.ndarray:
    if x.dtype.kind != "f":
        return x
    rows = rows.reshape((-1,) + (1,) * (x.ndim - axis - 1))
    return np.where(rows, x * 1.125 + 0.01 * (x == 0), x)


def _against_loop(examples: Examples, seen: Seen) -> None:
    name = f"check_batching({name_of(examples.f)}), a batch of {examples.size}"
    have = examples.together()
    for k in range(examples.size):
        for i, want in enumerate(examples.alone(k)):
            at = seen.first(have[i][k], want)
            if at is None:
                continue
            got, want = np.asarray(have[i][k]), np.asarray(want)
            said = f"{name}: {element(examples.result(i), at)} of example {k} "
            said += (f"has shape {got.shape} under vmap, {want.shape} in the loop" if got.shape != want.shape else
                     f"is {number(got[at])} under vmap, {number(want[at])} in the loop")
            node, words = _first_wrong(examples, seen)
            raise CheckError("\n".join([said, *words]), node)


def _without_leaks(examples: Examples, seen: Seen) -> None:
    before = examples.together()
    for k in sorted({0, examples.size // 2, examples.size - 1}):
        after = examples.moved(k).together()
        for i, (have, want) in enumerate(zip(after, before, strict=True)):
            for other in range(examples.size):
                at = None if other == k else seen.first(have[other], want[other])
                if at is not None:
                    raise CheckError(
                        f"check_batching({name_of(examples.f)}): moving example {k} alone moves "
                        f"{element(examples.result(i), at)} of example {other} from "
                        f"{number(np.asarray(want[other])[at])} to {number(np.asarray(have[other])[at])}")


_NO_NODE = ("  each node's rows are those of its examples: the function computes something else on plain arrays than "
            "it does when traced, or it is not the same from call to call")


def _first_wrong(examples: Examples, seen: Seen) -> tuple[Node | None, list[str]]:
    """Return the first node of the program for one example whose rows in the batch are not those of its examples."""
    batch = stage_batch(Call(examples.f, examples.args, {}), examples.in_axes)
    staged, batching = batch.staged, batch.batching
    arrays = [np.asarray(x) for x in batch.call.leaves]
    nodes = [n for n in interpreters.reachable(staged.outputs, staged.since)
             if n.prim is not input_ and not isinstance(n.type, TupleType)]
    try:
        made = batching.run(nodes, staged.since)
    except MinigradError as error:
        return None, [str(error)]
    values = interpreters.evaluate(Graph(tuple(batch.inputs), tuple(n for n, _ in made)), arrays)
    lengths = {s: np.asarray(v) for s, v in zip(batching.rows.lengths, interpreters.evaluate(
        Graph(tuple(batch.inputs), tuple(batching.rows.lengths.values())), arrays),
        strict=True)}
    alone = Graph(tuple(staged.inputs), tuple(nodes), staged.names)
    begin = dict.fromkeys(nodes, 0)
    for k in range(examples.size):
        sizes = {s: int(n[k]) for s, n in lengths.items()}
        one = examples.take([k])
        each = interpreters.evaluate(alone, _example_leaves(one), sizes)
        for node, (_, mapped), value_, want in zip(nodes, made, values, each, strict=True):
            have, rows = _rows_of(node, batching, value_, mapped, k, begin[node], sizes)
            begin[node] += rows
            at = seen.first(have, want)
            if at is not None:
                why = (f"{at_element(f'example {k}', at)}: {number(np.asarray(have)[at])} in the batch, "
                       f"{number(np.asarray(want)[at])} alone" if np.shape(have) == np.shape(want) else
                       f"example {k} has shape {np.shape(have)} in the batch, {np.shape(want)} alone")
                return node, [f"  first node that disagrees: {describe(node, alone)}", f"    {why}"]
    return None, [_NO_NODE]


def _example_leaves(one: Examples) -> list[Any]:
    parts = [p if a is None else p[0] if is_batch(p) else np.take(p, 0, axis=a)
             for p, a in zip(one._parts, one._axes, strict=True)]
    return [np.asarray(x) for x in optree.tree_leaves(optree.tree_unflatten(one._tree, parts))]


def _rows_of(node: Node, batching: Batching, batched: np.ndarray, mapped: bool, k: int, begin: int,
             sizes: dict[Symbol, int]) -> tuple[np.ndarray, int]:
    """Return example `k` of a node's batch in the shape that it has alone, and its number of rows."""
    if not mapped:
        return batched, 0
    if not batching.is_ragged(node):
        return batched[k], 0
    shape = [value(n, sizes) for n in node.shape]
    ragged = [a for a, n in enumerate(node.shape) if batching.rows.ragged(n)]
    dense = [a for a in range(node.ndim) if a not in ragged]
    rows = int(np.prod([shape[a] for a in ragged], dtype=int))
    part = batched[begin:begin + rows].reshape([shape[a] for a in (*ragged, *dense)])
    return part.transpose(np.argsort((*ragged, *dense))), rows
