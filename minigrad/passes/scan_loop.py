"""The record of one scan that a pass moves work out of, and the walk over all scans of a graph.

Work moves out of a packed scan, too (`PackedLoop`): a value of all steps is that of one step, with the rows of all
steps in place of those of the examples that run. So it may move where it keeps rows apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .. import interpreters
from ..axes import PARALLEL, axis_rule
from ..defined_sizes import symbols_of_node
from ..graph import ArrayType, Graph, Node, TupleType, held_graphs, reachable
from ..ops.constants import full
from ..ops.control import barrier, parts
from ..ops.loops import scan
from ..ops.packed_scan import packed_scan
from ..ops.packed_steps import inside, of_batch, of_steps
from ..ops.results import waits_for_check
from ..ops.subgraph import apply_graph, has_effects, signature, with_graphs
from ..primitive import broadcast_leading, input_, move_axis, placeholder
from ..symbolic import Dim, Symbol, symbols
from ..tracing import made_by
from .factorize import elements
from .keep_index_checks import keep_index_checks

_WIDER = 16.0  # the largest size of a value for all steps, relative to the slices that it depends on


def holds_graphs(graph: Graph) -> bool:
    """Return whether a node of the graph holds a graph, such as the step of a scan."""
    return bool(graph.holders)


class Loop:
    """One scan, taken apart.

    Attributes
    ----------
    shared, slices : dict of Node to Node
        From inputs of the step to the operands outside.
    starts : dict of Node to Node
        The same for the carry.
    outputs : list of Node
        The results of the step, the carry first.
    nodes : list of Node
        All values of the step.
    carried, sliced : set of Node
        The values that depend on the carry, and on the slices.
    moved : list of str
        Remarks on the work that has left the loop.
    """

    def __init__(self, node: Node):
        self.node = node
        self.body: Graph = node.params["body"]
        self.roles = signature(node)
        self.shared, self.starts, self.slices = map(
            dict, self.roles.split(list(zip(self.body.inputs, node.inputs, strict=True))))
        self.outputs = list(self.body.outputs)
        self.reverse: bool = node.params["reverse"]
        self.moved: list[str] = []
        self.update()

    @property
    def length(self) -> int | Dim | None:
        """The number of steps, if all examples have the same."""
        length: int | Dim | None = self.node.params.get("length")
        return length

    def update(self) -> None:
        """Find the dependences of the step's values."""
        self.nodes = reachable(self.outputs)
        self.carried = set(interpreters.dependent(self.outputs, list(self.starts)))
        self.sliced = set(interpreters.dependent(self.outputs, list(self.slices)))

    def keeps_steps(self, n: Node) -> bool:
        """Return whether values of all steps can be computed at once, from slices and shared operands."""
        return n not in self.carried

    def is_fixed(self, n: Node) -> bool:
        """Return whether a value of shared operands can be computed once, outside."""
        return not self.varies(n)

    def is_repeated(self, n: Node) -> bool:
        """Return whether a stacked result is a value of shared operands, once for each step."""
        return not self.varies(n)

    def users(self) -> dict[Node, list[Node]]:
        """Return the readers of each value of the step."""
        users: dict[Node, list[Node]] = {n: [] for n in self.nodes}
        for n in self.nodes:
            for i in n.inputs:
                users[i].append(n)
        return users

    def substitute(self, new: Mapping[Node, Node]) -> None:
        """Replace values of the step."""
        self.outputs = interpreters.substitute(self.outputs, new)
        self.update()

    @property
    def stacked(self) -> Sequence[Node]:
        """The results of the step that the scan stacks."""
        return self.roles.ends(self.outputs)[1]

    def note(self, n: int, one: str, many: str) -> None:
        """Record that `n` values have left the loop."""
        self.moved.append(f"{n} {one if n == 1 else many}")

    def varies(self, n: Node) -> bool:
        """Return whether a value may differ from step to step."""
        return n in self.carried or n in self.sliced

    def outer(self, n: Node) -> Node:
        """Return the value outside of the loop for one of shared operands."""
        return interpreters.substitute([n], self.shared)[0]

    def is_light(self, n: Node) -> bool:
        """Return whether a value may be computed for all steps at once."""
        way = [i for i in reachable([n]) if i in self.sliced]
        room = _WIDER * elements(*(i for i in way if i in self.slices))
        return all(not isinstance(i.type, TupleType) and not waits_for_check(i) and elements(i) <= room for i in way)

    def entry(self, n: Node, outer: Node) -> tuple[Node, Node, Node]:
        """Return an input of the step in place of a value, its operand, and the value, which `outer` is outside."""
        own = placeholder(n.types[0])
        return own, outer, own

    def repeated(self, n: Node) -> Node:
        """Return a value of shared operands, once for each step."""
        assert self.length is not None
        return broadcast_leading(self.outer(n), self.length)

    def at_all_steps(self, nodes: Sequence[Node], steps: dict[Node, Node] | None = None) -> list[Node]:
        """Return values of all steps from the slices and from `steps`."""
        known = self.slices | (steps or {})
        inner = {n: placeholder(n.type) for n in known}
        assert self.length is not None
        results = interpreters.batch(interpreters.substitute(nodes, inner), self.shared,
                                     {inner[n]: outer for n, outer in known.items()}, self.length)
        return [interpreters.broadcast_unmapped(n, has_axis, self.length) for n, has_axis in results]

    def rebuilt(self, carries: Iterable[int], stacked: Sequence[Node]) -> list[Node]:
        """Return the results of the scan with these carries and stacks."""
        names = dict(zip(self.body.inputs, self.body.names, strict=True))
        inputs = (*self.shared, *self.starts, *self.slices)
        outputs = (*(self.outputs[i] for i in carries), *stacked)
        if not outputs:
            return []
        body = Graph(inputs, outputs, names=tuple(names.get(n, f"ahead{i}") for i, n in enumerate(inputs)),
                     name=self.body.name)
        params = self.node.params | {"body": body, "counts": (len(self.shared), len(self.starts))}
        outer = (*self.shared.values(), *self.starts.values(), *self.slices.values())
        return parts(interpreters.retyped(self.node, outer, params))


class PackedLoop(Loop):
    """One packed scan, taken apart.

    Attributes
    ----------
    symbols : set of Symbol
        The sizes inside a step.
    """

    def __init__(self, node: Node):
        self.symbols = inside(node.params["packed"])
        super().__init__(node)

    def update(self) -> None:
        """Find the dependences of the step's values, and the values that keep rows apart."""
        super().update()
        rows = {n for n in self.shared if self.has_rows(n)}
        self._apart = self._keeping({*self.shared, *self.slices} - rows)
        self._of_examples = self._keeping(set(self.shared))

    def has_rows(self, n: Node) -> bool:
        """Return whether a value, or a result of a held graph, has the rows of the running examples."""
        return any(self.is_rows(size) for t in n.types for size in t.shape)

    def row_axis(self, n: Node) -> int:
        """Return the axis of a value's rows, which may follow the axis of a batch; 0 for a value without rows."""
        return next((a for a, size in enumerate(n.shape) if self.is_rows(size)), 0)

    def is_rows(self, size: int | Dim) -> bool:
        """Return whether a size is one of the rows of the running examples."""
        return not symbols((size,)).isdisjoint(self.symbols)

    def _keeping(self, known: set[Node]) -> set[Node]:
        """Return the values that depend on `known` alone, each row of a value on the same row of others."""
        apart = set(known)
        for n in self.nodes:
            if n not in self.starts and n.prim is not input_ and apart.issuperset(n.inputs) and self._is_apart(n):
                apart.add(n)
        return apart

    def _is_apart(self, n: Node) -> bool:
        if isinstance(n.type, TupleType) or waits_for_check(n):
            return False
        if n.prim.kind == "leaf":
            return n.prim is full or self.symbols.isdisjoint(symbols_of_node(n))
        if not any(map(self.has_rows, (n, *n.inputs))):
            return True
        rule = axis_rule(n)
        return rule is not None and all(
            f.kind is PARALLEL for axes, i in zip((*rule.operands, *rule.results), (*n.inputs, n), strict=True)
            for axis, size in zip(axes, i.shape, strict=True) if self.is_rows(size)
            for f in axis)

    def keeps_steps(self, n: Node) -> bool:
        return n in self._apart

    def is_fixed(self, n: Node) -> bool:
        """Return whether a value of shared operands can be computed once, for all examples."""
        return n in self._of_examples

    def is_repeated(self, n: Node) -> bool:
        return n in self._apart and not self.varies(n) and self.has_rows(n)

    def outer(self, n: Node) -> Node:
        (result,) = self._outside([n], self.shared, of_batch(self.node.params["packed"]))
        return result

    # Operands and results of the loop have their rows in front; values of the step need not.

    def entry(self, n: Node, outer: Node) -> tuple[Node, Node, Node]:
        axis = self.row_axis(n)
        own = placeholder(ArrayType((n.shape[axis], *n.shape[:axis], *n.shape[axis + 1:]), n.dtype) if axis
                          else n.types[0])
        return own, move_axis(outer, axis, 0), move_axis(own, 0, axis)

    def rebuilt(self, carries: Iterable[int], stacked: Sequence[Node]) -> list[Node]:
        axes = list(map(self.row_axis, stacked))
        values = super().rebuilt(carries, [move_axis(n, a, 0) for n, a in zip(stacked, axes, strict=True)])
        axes = [0] * (len(values) - len(axes)) + axes
        return [move_axis(v, 0, a) for v, a in zip(values, axes, strict=True)]

    def repeated(self, n: Node) -> Node:
        (result,) = self.at_all_steps([n])
        return result

    def at_all_steps(self, nodes: Sequence[Node], steps: dict[Node, Node] | None = None) -> list[Node]:
        shared = {n: outer for n, outer in self.shared.items() if not self.has_rows(n)}
        return self._outside(nodes, shared | self.slices | (steps or {}), of_steps(self.node.params["packed"]))

    def _outside(self, nodes: Sequence[Node], known: Mapping[Node, Node], sizes: Mapping[Symbol, int | Dim]
                 ) -> list[Node]:
        """Return values with other sizes, from the `known` ones."""
        inner = {n: placeholder(n.types[0]) for n in known}
        graph = Graph(tuple(inner.values()), tuple(interpreters.substitute(nodes, inner)))
        return apply_graph(interpreters.specialise(graph, sizes), list(known.values()))


LOOPS = {scan: Loop, packed_scan: PackedLoop}


def rewrite_scans(graph: Graph, name: str, rewritten: Callable[[Loop], list[Node] | None]) -> Graph:
    """Return an equal graph with all scans rewritten, the innermost first.

    Parameters
    ----------
    graph : Graph
    name : str
        The pass.
    rewritten : callable
        Returns the results of a scan from a loop with less work, or None. Loops without steps, and loops with a
        checkpoint or an effect in the step, stay as they are.
    """
    if not holds_graphs(graph):
        return graph
    notes: list[str] = []
    after = _rewritten(graph, name, rewritten, notes)
    return graph if after is graph else after.replace(notes=graph.notes + tuple(notes))


def _rewritten(graph: Graph, name: str, rewritten: Callable[[Loop], list[Node] | None], notes: list[str]) -> Graph:
    def inside(held: Graph) -> Graph:
        if not holds_graphs(held):
            return held
        return keep_index_checks(lambda graph: _rewritten(graph, name, rewritten, notes), held)

    def rule(node: Node, inputs: tuple[Any, ...]) -> Node | list[Node] | None:
        if inputs and isinstance(inputs[0], list):  # the results of a scan
            result: Node = inputs[0][node.params["index"]]
            return result
        if type(node.type) is not TupleType or not held_graphs(node):
            return None
        params = with_graphs(node.params, inside)
        new = interpreters.rebuilt(node, inputs, None if params == node.params else params)
        if new.prim not in LOOPS or new.params.get("once"):  # outside, a branch would run on all examples
            return new
        with made_by(name) as working_on:
            working_on(new)
            loop = LOOPS[new.prim](new)
            if (loop.length == 0 or any(n.prim is barrier and not waits_for_check(n) for n in loop.nodes)
                    or has_effects(new.params["body"])):
                return new
            results = rewritten(loop)
        if results is None:
            return new
        notes.append(f"scan at {new.where}: {', '.join(loop.moved)}")
        return results

    return interpreters.rewrite(graph, rule)
