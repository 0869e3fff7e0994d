"""`check_batching`: `vmap` against the plain loop, and the first node whose batch differs from its examples."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import optree

from .. import interpreters
from ..errors import CheckError, MinigradError
from ..graph import ArrayType, Graph, InAxes, Node, PyTree, TupleType
from ..immutable import cached_property
from ..ops.constants import proj
from ..ops.subgraph import batched_on
from ..primitive import placeholder
from ..tracebacks import boundary
from ..transforms.arguments_by_name import positional_axes
from ..transforms.example_arguments import ExampleArguments
from ..transforms.in_axes import by_kind, mapped_axes
from ..transforms.jacobian_products import require_tuples
from ..transforms.static_arguments import bound_static
from ..transforms.trace import Call, Staged, function_name
from ..transforms.vmap import of_one, vmap
from .common import (
    Checked,
    at_element,
    describe,
    element,
    leaf_names,
    number,
    plural,
    precision,
    stage_precisely,
    type_of,
)
from .tolerance import Seen, tolerance

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@boundary
def check_batching(f: Callable[..., PyTree], args: Sequence[PyTree], in_axes: InAxes = 0, rtol: float | None = None,
                   atol: float | None = None) -> Checked:
    """Check that ``vmap(f, in_axes)`` equals the loop over `f`, and keeps examples apart.

    The loop calls `f` itself on the arrays of one example at a time, in float64 where `f` accepts it. The check runs on
    the given examples (equal ones are made distinct; a single one is repeated), and on a batch of one. Then it moves
    one example at a time, and the results of the others must stay.

    Parameters
    ----------
    f : callable
        A function of one example.
    args : sequence
        Its arguments; those that `in_axes` maps have the examples along an axis, or are a batch (`minigrad.batch`).
    in_axes : int, None, or a pytree of them
        As in `vmap`.
    rtol, atol : float, optional
        Tolerances of ``|batched - alone| <= atol + rtol |alone|``; by default from the coarsest dtype in the graph and
        the scale of the result.

    Returns
    -------
    Checked

    Raises
    ------
    CheckError
        If a result differs. The error names the result, the example, the element, both numbers, and the first node of
        the graph of one example whose batch differs from its values.

    Examples
    --------
    >>> X, y = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.0, 1.0])
    >>> checked = mg.check_batching(lambda w, x, y: (x @ w - y) ** 2, (np.ones(2), X, y), in_axes=(None, 0, 0))
    >>> checked.comparisons, checked.largest < 1e-10
    (5, True)
    """
    require_tuples("check_batching", f, args=args)
    checked: Checked = check_batch_of(args, f, in_axes, rtol, atol)
    return checked


@by_kind
def check_batch_of(args: Sequence[PyTree], f: Callable[..., PyTree], in_axes: InAxes, rtol: float | None,
                   atol: float | None) -> Checked:
    """Check the batch of `f` on the examples in `args`; see `check_batching`."""
    f, args = bound_static(f, args)
    in_axes = positional_axes(f, in_axes, len(args), "check_batching")
    args, staged = stage_precisely(f, args, lambda args: _stage_example(f, args, in_axes))
    examples = StackedExamples(f, staged, args, in_axes)
    seen = Seen(tolerance(precision(examples.graph), rtol, atol))
    examples = examples.distinct()
    examples.against_loop(seen)
    examples.some([0]).against_loop(seen)
    examples.without_leaks(seen)
    return Checked(f"check_batching({function_name(f)}): {plural(examples.size, 'example')}, one alone, each moved in "
                   "turn", seen.comparisons, seen.largest)


def _stage_example(f: Callable[..., PyTree], args: tuple[PyTree, ...], in_axes: InAxes) -> Staged:
    call = Call(f, args)
    axes, _ = mapped_axes(f, args, {}, in_axes, call.types, "check_batching", symbolic=False)
    return call.trace(of_one(call.types, axes))


class Examples(ExampleArguments, abc.ABC):
    """A function, its arguments for several examples, and its graph for one.

    Attributes
    ----------
    f : callable
    in_axes : int, None, or a pytree of them
    size : int
        The number of examples.
    staged : Staged
        The function, traced for one example.
    """

    f: Callable[..., PyTree]
    staged: Staged
    agreement: ClassVar[str]  # the relation that holds where no node is wrong

    @cached_property
    def graph(self) -> Graph:
        """The graph for one example."""
        return self.staged.graph

    @abc.abstractmethod
    def moved(self, k: int) -> Examples:
        """Return the examples with example `k` changed."""

    def alone(self, k: int) -> list[ArrayLike]:
        """Return the results of the function itself on one example."""
        return optree.tree_leaves(self.f(*self.take(k)))

    def leaves_of(self, k: int) -> list[np.ndarray]:
        """Return the arrays among the arguments of one example."""
        example: PyTree = self.take(k)
        return [np.asarray(x) for x in optree.tree_leaves(example)]

    @abc.abstractmethod
    def together(self) -> list[Sequence[ArrayLike]]:
        """Return, for each result, its value for each example under `vmap`."""

    @abc.abstractmethod
    def first_wrong(self, seen: Seen) -> tuple[Node | None, str]:
        """Return the first node whose batch differs from its examples, and how."""

    def first_leak(self, k: int, seen: Seen) -> tuple[Node | None, str]:
        """Return the first node where moving example `k` moves others, and how."""
        return None, ""

    def result(self, i: int) -> str:
        """Return the name of result `i`."""
        tree = self.staged.out_tree
        whole: PyTree = optree.tree_unflatten(tree, range(tree.num_leaves))
        return f"the result{leaf_names(whole)[i]}"

    def against_loop(self, seen: Seen) -> None:
        """Raise `CheckError` where `vmap` and the loop differ."""
        name = f"check_batching({function_name(self.f)}), a batch of {self.size}: "
        try:
            batched = self.together()
        except (MinigradError, ValueError, IndexError) as error:
            node, reason = self.first_wrong(seen)
            if node is None:
                raise
            raise self._error(f"{name}vmap fails", node, reason) from error
        for k in range(self.size):
            for i, result in enumerate(self.alone(k)):
                index = seen.first(batched[i][k], result)
                if index is not None:
                    actual, expected = np.asarray(batched[i][k]), np.asarray(result)
                    name += f"{element(self.result(i), index)} of example {k} "
                    if actual.shape != expected.shape:
                        name += f"has shape {actual.shape} under vmap, {expected.shape} in the loop"
                    else:
                        name += f"is {number(actual[index])} under vmap, {number(expected[index])} in the loop"
                    raise self._error(name, *self.first_wrong(seen))

    def without_leaks(self, seen: Seen) -> None:
        """Raise `CheckError` where moving one example moves the result of another."""
        before = self.together()
        for k in sorted({0, self.size // 2, self.size - 1}):
            after = self.moved(k).together()
            for i, (actual, expected) in enumerate(zip(after, before, strict=True)):
                for other in range(self.size):
                    index = None if other == k else seen.first(actual[other], expected[other])
                    if index is not None:
                        raise self._error(
                            f"check_batching({function_name(self.f)}): moving example {k} alone moves "
                            f"{element(self.result(i), index)} of example {other} from "
                            f"{number(np.asarray(expected[other])[index])} to "
                            f"{number(np.asarray(actual[other])[index])}",
                            *self.first_leak(k, seen))

    def _error(self, message: str, node: Node | None, reason: str) -> CheckError:
        if node is not None:
            blame = f"  first node that disagrees: {describe(node, self.graph)}\n    {reason}"
        else:
            blame = "  " + (reason or f"{self.agreement}: the function computes something else on plain arrays than it "
                                      "does when traced, or it is not the same from call to call")
        return CheckError(f"{message}\n{blame}", node)


class StackedExamples(Examples):
    """Examples of equal size, along an axis of each mapped argument."""

    agreement = "each node's batch is the stack of its examples"

    def __init__(self, f: Callable[..., PyTree], staged: Staged, args: tuple[PyTree, ...], in_axes: InAxes):
        super().__init__(args, in_axes)
        self.f, self.staged = f, staged
        # The leaves, with the examples along axis 0.
        self._fronts = [np.asarray(x) if a is None else np.moveaxis(np.asarray(x), a, 0)
                        for x, a in zip(self.parts, self.axes, strict=True)]

    def _on(self, fronts: Sequence[np.ndarray]) -> StackedExamples:
        leaves = [x if a is None else np.moveaxis(x, 0, a) for x, a in zip(fronts, self.axes, strict=True)]
        return StackedExamples(self.f, self.staged, self._with(leaves), self.in_axes)

    def some(self, rows: Sequence[int]) -> StackedExamples:
        """Return some of the examples."""
        return StackedExamples(self.f, self.staged, self.take(rows), self.in_axes)

    def distinct(self) -> StackedExamples:
        """Return at least two examples, distinct where they have floating values."""
        rows = list(range(self.size)) if self.size > 1 else [0] * 3
        fronts = [x if a is None else x[rows].copy() for x, a in zip(self._fronts, self.axes, strict=True)]
        mapped = [x for x, a in zip(fronts, self.axes, strict=True) if a is not None]
        known: set[tuple[bytes, ...]] = set()
        for k in range(len(rows)):
            if tuple(x[k].tobytes() for x in mapped) in known:
                for x in mapped:
                    if x.dtype.kind == "f":
                        x[k] = x[k] * (1 + 0.05 * k) + 0.01 * k * (x[k] == 0)
            known.add(tuple(x[k].tobytes() for x in mapped))
        return self._on(fronts)

    def moved(self, k: int) -> StackedExamples:
        return self._on([x if a is None else _move(x, k) for x, a in zip(self._fronts, self.axes, strict=True)])

    def together(self) -> list[Sequence[ArrayLike]]:
        return optree.tree_leaves(vmap(self.f, self.in_axes)(*self.args))

    # -- node by node --------------------------------------------------------------------------------------------

    def _nodes(self) -> list[Node]:
        return [n for n in self.graph.nodes if n.inputs]

    def _batched_values(self) -> list[tuple[Any, bool]]:
        """Return the batched value of each of `_nodes`, and whether it has the batch axis."""
        new = [placeholder(type_of(x)) for x in self._fronts]
        mapped = [a is not None for a in self.axes]
        batched = batched_on(self._nodes(), self.graph.inputs, new, mapped, self.size)
        values = interpreters.evaluate(Graph(tuple(new), tuple(n for n, _ in batched)), self._fronts)
        return [(v, has) for v, (_, has) in zip(values, batched, strict=True)]

    def first_wrong(self, seen: Seen) -> tuple[Node | None, str]:
        nodes = [n for n in self._nodes() if n.prim is not proj]
        needed = list(dict.fromkeys([*nodes, *(i for n in nodes for i in n.inputs)]))
        graph = self.graph.replace(outputs=tuple(needed), out_names=())
        alone = [dict(zip(needed, interpreters.evaluate(graph, self.leaves_of(k)), strict=True))
                 for k in range(self.size)]
        mapped = [n for n, a in zip(self.graph.inputs, self.axes, strict=True) if a is not None]
        reached = set(interpreters.dependent(nodes, mapped))
        for node in nodes:
            if node in reached:
                reason = _wrong_rule(node, [i in reached for i in node.inputs], alone, seen)
                if reason:
                    return node, reason
        return None, ""

    def first_leak(self, k: int, seen: Seen) -> tuple[Node | None, str]:
        moved = self.moved(k)
        others = np.arange(self.size) != k
        for node, (a, has_axis), (b, _) in zip(self._nodes(), self._batched_values(), moved._batched_values(),
                                               strict=True):
            for before, after in zip(_parts(node, a), _parts(node, b), strict=True):
                if not has_axis or np.ndim(before) == 0 or len(before) != self.size:
                    continue
                index = seen.first(after[others], before[others])
                if index is not None:
                    other = int(np.flatnonzero(others)[index[0]])
                    position = (other, *index[1:])
                    return node, (f"{at_element(f'example {other}', index[1:])}: {number(before[position])} before, "
                                  f"{number(after[position])} after")
        return None, ""


def _wrong_rule(node: Node, mapped: Sequence[bool], alone: Sequence[dict[Node, Any]], seen: Seen) -> str:
    """Return the fault of a node's batch rule, given the values of each example, or ""."""
    size = len(alone)
    single = [placeholder(i.types[0]) for i in node.inputs]
    batch = [placeholder(ArrayType((size, *i.shape), i.dtype)) if m else i for i, m in zip(single, mapped, strict=True)]
    stacks = [np.stack([v[i] for v in alone]) if m else np.asarray(alone[0][i])
              for i, m in zip(node.inputs, mapped, strict=True)]
    out = node.prim(*single, **node.params)
    try:
        ((batched, _),) = batched_on([out], single, batch, mapped, size)
        run = Graph(tuple(batch), (batched,))
        (value,) = interpreters.evaluate(run, stacks)
    except (MinigradError, ValueError, IndexError) as error:
        return f"its batch rule fails: {error}"
    for i, actual in enumerate(_parts(node, value)):
        expected = np.stack([_parts(node, v[node])[i] for v in alone])
        if np.shape(actual) != expected.shape or actual.dtype != expected.dtype:
            return (f"its batch is {type_of(actual)}; {plural(size, 'example')} of type "
                    f"{type_of(expected[0])} stack to {type_of(expected)}")
        index = seen.first(actual, expected)
        if index is not None:
            place = at_element(f"example {index[0]}", index[1:])
            return (f"{place}: {number(actual[index])} in the batch, {number(expected[index])} alone"
                    + _mixing(run, stacks, mapped, i, node, seen))
    return ""


def _mixing(run: Graph, stacks: Sequence[np.ndarray], mapped: Sequence[bool], part: int, node: Node, seen: Seen) -> str:
    """Return words about an example whose operands change the node's value of another example, or ""."""
    before = _parts(node, interpreters.evaluate(run, stacks)[0])[part]
    for k in range(len(before)):
        moved = [_move(x, k) if m else x for x, m in zip(stacks, mapped, strict=True)]
        after = _parts(node, interpreters.evaluate(run, moved)[0])[part]
        others = np.arange(len(before)) != k
        if seen.first(after[others], before[others]) is not None:
            return f"; its batch rule mixes examples: moving example {k} alone moves others"
    return ""


def _move(x: np.ndarray, k: int) -> np.ndarray:
    """Return a batch with example `k` changed: floating values a little, others to the next example's."""
    x = x.copy()
    x[k] = x[k] * 1.125 + 0.01 * (x[k] == 0) if x.dtype.kind == "f" else x[(k + 1) % len(x)]
    return x


def _parts(node: Node, value: Any) -> tuple[Any, ...]:
    """Return the results of a node."""
    return tuple(value) if isinstance(node.type, TupleType) else (value,)
