"""Programs of graphs that define sizes, in parts: each part begins when the sizes of its arrays are known.

A part is a graph of its own, built by the backend. It computes the nodes on which the next sizes depend, and no
others, so that the rest can fuse in the last part. Values that later parts read are results of a part and inputs of
those; views and constants are computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..defined_sizes import after_definitions, definitions, symbols_of_node
from ..graph import Graph, Node, TupleType, reachable
from ..immutable import Record
from ..interpreters import rebuilt, rewrite, substitute
from ..passes.record import Stage
from ..primitive import PART, placeholder
from ..symbolic import Symbol

if TYPE_CHECKING:
    from .protocol import Executable

    Build = Callable[[Graph, Collection[int], Collection[int]], Executable]  # of a graph, its host inputs and outputs


class Part(Record):
    """One part of a program.

    Attributes
    ----------
    inputs, outputs : list of Node
        The nodes of the whole graph whose values it takes and returns.
    sizes : dict of Symbol to int
        The sizes that are known after it, each with the position of its number among the outputs.
    """

    inputs: list[Node]
    outputs: list[Node]
    sizes: dict[Symbol, int]

    def graph(self, name: str) -> Graph:
        """Return the graph of the part."""
        own = [placeholder(n.types[0]) for n in self.inputs]
        return Graph(tuple(own), tuple(substitute(self.outputs, dict(zip(self.inputs, own, strict=True)))), name=name)


def parts_of(graph: Graph) -> list[Part]:
    """Return the parts of a graph, in order; the last one returns the graph's outputs."""
    counts = {s: n.inputs[0] for s, n in definitions(graph.nodes).items()}
    order = after_definitions(graph.nodes)
    stages = _stages(order, counts)
    new: dict[Node, Node] = {}

    def without_definitions(node: Node, inputs: tuple[Node, ...]) -> Node:
        new[node] = inputs[0] if node.prim.defines else rebuilt(node, inputs)
        return new[node]

    plain = rewrite(graph, without_definitions)
    levels = sorted({stages[n] for n in counts.values()})
    parts = [Part([], [], {}) for _ in (*levels, None)]
    for s, count in counts.items():
        part = parts[levels.index(stages[count])]
        part.sizes[s] = len(part.outputs)
        part.outputs.append(new[count])
    parts[-1].outputs.extend(plain.outputs)
    _connect(parts, plain)
    return parts


def _stages(nodes: Sequence[Node], counts: Mapping[Symbol, Node]) -> dict[Node, int]:
    """Return the number of sizes, one after the other, that each node waits for."""
    stages: dict[Node, int] = {}
    for n in nodes:
        own = symbols_of_node(n) if not n.prim.defines else ()
        stages[n] = max([0, *(stages[i] for i in n.inputs), *(stages[counts[s]] + 1 for s in own if s in counts)])
    return stages


def _connect(parts: Sequence[Part], graph: Graph) -> None:
    """Enter the inputs of each part, and the results that later parts read."""
    home: dict[Node, int] = {}  # the part that computes a node
    fields: dict[Node, list[Node]] = {}
    for n in graph.nodes:
        if n.prim.view is PART:
            fields.setdefault(n.inputs[0], []).append(n)
    for k, part in enumerate(parts):
        for n in reachable(part.outputs, end=home):
            for own in (n, *fields.get(n, ())):  # an array of a tuple belongs to the part of the tuple
                home.setdefault(own, k)
    for n in graph.inputs:
        home[n] = -1
    for k, part in enumerate(parts):
        taken: dict[Node, None] = {}
        seen: set[Node] = set()
        stack = list(part.outputs)
        while stack:
            n = stack.pop()
            if n in seen:
                continue
            seen.add(n)
            if home[n] < 0 or (home[n] < k and not _computed_again(n)):
                taken[n] = None
            else:
                stack.extend(n.inputs)
        part.inputs.extend(sorted(taken, key=lambda n: n.serial))
        for n in part.inputs:
            if home[n] >= 0 and n not in (made := parts[home[n]].outputs):
                made.append(n)


def _computed_again(node: Node) -> bool:
    """Return whether a later part computes a value again instead of reading it."""
    return not node.inputs or (node.prim.view is not None and not isinstance(node.inputs[0].type, TupleType))


def in_parts(graph: Graph, build: Build, host_inputs: Collection[int] = (), host_outputs: Collection[int] = ()
             ) -> Executable:
    """Return the program of a graph: in parts, if it defines sizes."""
    if definitions(graph.nodes):
        return InParts(graph, build, host_inputs, host_outputs)
    return build(graph, host_inputs, host_outputs)


class InParts:
    """A program of several parts.

    Attributes
    ----------
    source : str
        The texts of the parts.
    llvm : str
        Their machine code, where they have such.
    stages : list of Stage
        The sizes of each part, and the stages of each.
    """

    def __init__(self, graph: Graph, build: Build, host_inputs: Collection[int] = (),
                 host_outputs: Collection[int] = ()):
        self._graph = graph
        self._parts = parts_of(graph)
        numbers = {graph.inputs[i] for i in host_inputs}
        self._programs: list[Executable] = []
        for k, part in enumerate(self._parts):
            last = k == len(self._parts) - 1
            own = part.graph(graph.name if last else f"{graph.name}_sizes")
            self._programs.append(build(own, [i for i, n in enumerate(part.inputs) if n in numbers],
                                        host_outputs if last else list(part.sizes.values())))
        self._sizes: dict[Symbol, int] = {s: 0 for part in self._parts for s in part.sizes}  # of the latest run

    def __call__(self, arrays: Sequence[Any], sizes: Mapping[Symbol, int]) -> list[Any]:
        values: dict[Node, Any] = dict(zip(self._graph.inputs, arrays, strict=True))
        known = dict(sizes)
        results: list[Any] = []
        for part, program in zip(self._parts, self._programs, strict=True):
            results = program([values[n] for n in part.inputs], known)
            values.update(zip(part.outputs, results, strict=True))
            known |= {s: int(results[i]) for s, i in part.sizes.items()}
        self._sizes = {s: known[s] for s in self._sizes}
        return results

    def workspace_bytes(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the bytes that a run keeps beside its inputs and outputs, with the sizes that the latest one had."""
        return sum(program.workspace_bytes({**self._sizes, **sizes}) for program in self._programs)

    def memory(self, sizes: Mapping[Symbol, int]) -> int:
        """Return the bytes that a run needs at its peak beside its inputs, with the sizes that the latest one had."""
        known = {**self._sizes, **sizes}
        return sum(program.memory(known) for program in self._programs)

    @property
    def latest_sizes(self) -> Mapping[Symbol, int]:
        """The sizes that the data determined in the latest run."""
        return self._sizes

    @property
    def source(self) -> str:
        return "\n\n".join(f"# -- {self._title(k)}\n\n{p.source}" for k, p in enumerate(self._programs))

    @property
    def llvm(self) -> str:
        return "\n\n".join(getattr(p, "llvm", "") for p in self._programs)

    @property
    def stages(self) -> list[Stage]:
        words = "; ".join(map(self._title, range(len(self._parts))))
        return [Stage("parts", self._graph, self._graph, words), *(s for p in self._programs for s in p.stages)]

    def _title(self, k: int) -> str:
        own = ", ".join(map(str, self._parts[k].sizes))
        return f"part {k + 1}: " + (f"the sizes {own}" if own else "the results")
