"""Operations of a literal graph: keys of those that one batch computes, and their order."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node
from ..ops.constants import known, proj
from ..ops.elementwise import add
from ..primitive import input_
from .stacked_rows import element_axis, padded_axis
from .topological import in_order

_LARGE = 1 << 20  # elements of a stack whose rows repeat
_SYMBOLIC = 128  # elements along an axis of symbolic size, where operands are compared by size


@dataclass(eq=False)
class Task:
    """One operation of a literal graph.

    Attributes
    ----------
    node : Node
    operands : tuple of Node
        Those of the node; of a sum, the terms.
    kind : int
        The number of the operation with its parameters and the types of its operands.
    summed : bool
        Whether the node is the last of a chain of additions, and the sum of `operands`.
    rows : int or None
        The axis along which each term of a sum fills one position, where the terms are cotangents of ``x[i]``.
    key : (int, int)
        Equal for operations that one batch computes.
    depth : int
        The number of operations on the longest path that ends here.
    """

    node: Node
    operands: tuple[Node, ...]
    kind: int
    summed: bool = False
    rows: int | None = None
    key: tuple[int, int] = (0, 0)
    depth: int = 0

    @property
    def read(self) -> tuple[Node, ...]:
        """The values that it reads."""
        return self.operands if self.rows is None else tuple([t.inputs[0] for t in self.operands])


class Program:
    """The operations of a literal graph.

    Attributes
    ----------
    tasks : dict of Node to Task
    elements : dict of Node to int
        Slices ``x[i]`` that are read in place, and the axis of each.
    """

    def __init__(self, graph: Graph):
        self._structures: dict[Graph, Hashable] = {}
        self._ids: dict[Hashable, int] = {}
        nodes = [n for n in graph.nodes if n.prim.kind != "leaf"]
        self._kinds = {n: self._kind(n) for n in nodes}
        self._count = Counter(kind for kind, _ in {(self._kinds[n], n.inputs) for n in nodes})
        reads = Counter(n.inputs[0] for n in nodes if element_axis(n) is not None)
        self.elements = {n: axis for n in nodes if (axis := element_axis(n)) is not None and (
            self._count[self._kinds[n]] == 1 or (reads[n.inputs[0]] > 1 and self._is_row(n.inputs[0])))}
        self._numbers = self._number(nodes)
        uses = Counter(i for n in nodes for i in n.inputs)
        uses.update(graph.outputs)
        self.tasks: dict[Node, Task] = {}
        absorbed: set[Node] = set()
        binary: set[Node] = set()
        for node in reversed(nodes):
            if node.prim is proj or node in self.elements or node in absorbed:
                continue
            self.tasks[node] = self._sum(node, uses, absorbed, binary) or Task(node, node.inputs, self._kinds[node])
        self._assign_keys()
        self._before: dict[Task, set[Task]] = {}  # the operations whose results a task reads
        for task in reversed(self.tasks.values()):
            self._before[task] = before = self._sources(task)
            task.depth = 1 + max((earlier.depth for earlier in before), default=0)

    def _kind(self, node: Node) -> int:
        """Return the number of an operation with its parameters and the types of its operands."""
        if node.prim.distinct:
            return self._id(node)
        params = self._structure(node.params) if node.prim.key is None else node.prim.key(node.params)
        return self._id(node.prim, params, *[i.type for i in node.inputs])

    def _id(self, *key: Hashable) -> int:
        return self._ids.setdefault(key, len(self._ids))

    def _structure(self, value: object) -> Hashable:
        """Return a key of a parameter, equal for equal values, and for graphs of equal operations."""
        match value:
            case dict():
                return tuple((k, self._structure(v)) for k, v in value.items())
            case tuple():
                return tuple(map(self._structure, value))
            case np.ndarray():
                return value.shape, value.dtype, value.tobytes()
            case float():
                return repr(value)  # 0.0 and -0.0 are equal
            case Graph():
                if value not in self._structures:
                    position = {n: k for k, n in enumerate(value.nodes)}
                    self._structures[value] = (
                        tuple((n.prim, tuple(position[i] for i in n.inputs), self._structure(n.params))
                              for n in value.nodes),
                        tuple(position[n] for n in (*value.inputs, *value.outputs)))
                return self._structures[value]
        return type(value), value

    def _number(self, nodes: Sequence[Node]) -> dict[Node, int]:
        """Number nodes by their operations, equally for equal programs on inputs of equal types."""
        numbers: dict[Node, int] = {}
        for node in nodes:
            operands = () if node in self.elements else [numbers.get(i, i.type) for i in node.inputs]
            numbers[node] = self._id("value", node.type if node in self.elements else self._kinds[node], *operands)
        return numbers

    def _is_row(self, node: Node) -> bool:
        """Return whether a value is likely to be a row of an array; a constant can be stacked in advance."""
        if node.prim is proj:
            return self._is_row(node.inputs[0])
        if node.prim.kind == "leaf":
            return node.prim is not input_
        return self._count[self._kinds[node]] > 1 or element_axis(node) is not None

    def _sum(self, node: Node, uses: Counter[Node], absorbed: set[Node], binary: set[Node]) -> Task | None:
        """Return the sum of a chain of additions, three terms or more of one kind; None for other nodes.

        Nodes of other chains enter `binary`.
        """
        if node.prim is not add or node in binary:
            return None
        chain = [node]
        for n in chain:
            chain += [i for i in n.inputs if i.prim is add and uses[i] == 1]
        # Equal programs in a chain are its terms, additions as they may be: the losses of the examples.
        repeated = Counter(self._numbers[n] for n in chain)
        chain, terms = [node], []
        for n in chain:
            for i in n.inputs:
                if i.prim is add and uses[i] == 1 and repeated[self._numbers[i]] < 3:
                    chain.append(i)
                elif (value := known(i)) is None or np.any(value):
                    terms.append(i)
        axes = {padded_axis(t) for t in terms}
        rows = axes.pop() if len(axes) == 1 else None
        if max(Counter(self._kinds[t] for t in terms if t in self._kinds).values(), default=0) < 3 and (
                rows is None or len(terms) < 3):
            binary.update(chain)
            return None
        absorbed.update(chain)
        if rows is None:
            return Task(node, tuple(terms), self._id("sum", node.type), summed=True)
        absorbed.update(t for t in terms if uses[t] == 1)
        return Task(node, tuple(terms), self._id(node), summed=True, rows=rows)

    # -- keys ------------------------------------------------------------------------------------------------------

    def _assign_keys(self) -> None:
        kinds: dict[int, list[Task]] = defaultdict(list)
        for task in reversed(self.tasks.values()):
            kinds[task.kind].append(task)
        for kind, tasks in kinds.items():
            for k, part in enumerate([tasks] if tasks[0].summed else self._by_shared_operands(tasks)):
                for task in part:
                    task.key = (kind, k)

    def _by_shared_operands(self, tasks: list[Task]) -> Iterator[list[Task]]:
        """Divide operations: those that share an operand which a stack would copy, such as weights, are a part."""
        shared: dict[int, set[Node]] = {}
        columns = list(zip(*{t.operands: None for t in tasks}, strict=True))
        for p, column in enumerate(columns):
            uses = Counter(column)
            size, result = _size(column[0]), _size(tasks[0].node)
            few = len(uses) ** 2 <= len(column)  # parts are larger than their number
            copied = size > result and (few or size * len(column) > _LARGE)
            often = {i for i, n in uses.items() if n > 1 and (copied or not self._is_row(i))}
            if often and len(uses) > 1:
                shared[p] = often
        if not shared:
            yield tasks
            return
        p = max(shared, key=lambda p: (_size(tasks[0].operands[p]), -len(shared[p])))
        parts: dict[Node | None, list[Task]] = defaultdict(list)
        for task in tasks:
            parts[i if (i := task.operands[p]) in shared[p] else None].append(task)
        for part in parts.values():
            yield from self._by_shared_operands(part)

    # -- order -----------------------------------------------------------------------------------------------------

    def _sources(self, task: Task) -> set[Task]:
        before = set()
        for node in task.read:
            while node.prim is proj or node in self.elements:
                (node,) = node.inputs
            if node in self.tasks:
                before.add(self.tasks[node])
        return before

    def in_order(self) -> Iterator[list[Task]]:
        """Return the operations in groups of equal keys; each group's operands are results of groups before it."""
        depths: dict[tuple[int, int], list[int]] = defaultdict(list)
        for task in self.tasks.values():
            depths[task.key].append(task.depth)
        average = {key: (sum(d) / len(d), k) for k, (key, d) in enumerate(depths.items())}
        return in_order(self._before, lambda task: task.key, average.__getitem__)


def _size(node: Node) -> int:
    return sum(math.prod(n if isinstance(n, int) else _SYMBOLIC for n in t.shape) for t in node.types)
