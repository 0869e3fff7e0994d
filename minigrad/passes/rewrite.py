"""Rewriting by a table of rules per primitive, for `simplify` and `lower_einsum`.

``rule(rewrite, type, inputs, params)`` returns a node equal to the primitive on these inputs, or None. A rule makes
nodes through the rewrite: rules then apply to each other's results, and equal nodes become one. A pass without such a
table uses `interpreters.rewrite`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from ..graph import PRIMITIVES, ArrayType, Graph, Node, Number, reachable
from ..primitive import Primitive
from ..symbolic import Dim

PassRule = Callable[["Rewrite", ArrayType, tuple[Node, ...], dict[str, Any]], "Node | None"]


class Rewrite:
    """One pass over one graph.

    Attributes
    ----------
    inner : callable
        The pass itself, for graphs that nodes hold.
    held : dict of Graph to Graph
        The rewritten graph of each held one.
    like : Node
        The current node: its replacement keeps its line and its rules.
    """

    def __init__(self, rules: Callable[[Primitive], Sequence[PassRule]], inner: Callable[[Graph], Graph],
                 inline: bool = False):
        self._rules, self.inner, self._inline = rules, inner, inline
        self._seen: dict[tuple[object, ...], Node] = {}
        self.held: dict[Graph, Graph] = {}
        self.like: Node
        self._changed = False
        self._uses: Counter[Node] = Counter()

    def graph(self, graph: Graph) -> Graph:
        """Return the rewritten graph: same inputs, equal outputs."""
        new = {n: n for n in graph.inputs}
        self._uses = Counter(chain.from_iterable([n.inputs for n in graph.nodes]))
        self._uses.update(graph.outputs)
        self._walk(graph.nodes, new)
        outputs = tuple(new[n] for n in graph.outputs)
        return graph if outputs == graph.outputs else graph.replace(outputs=outputs)

    def _walk(self, nodes: Sequence[Node], new: dict[Node, Node]) -> None:
        inlined: dict[Node, tuple[Node, ...]] = {}  # a node -> the results of its graph
        for node in nodes:
            if node in new:
                continue
            if inlined and node.inputs and (results := inlined.get(node.inputs[0])) is not None:
                new[node] = results[node.params["index"]]
                continue
            inputs = tuple([new[i] for i in node.inputs])
            if self._inline and node.prim.inline:
                body, self._changed = node.params["graph"], True
                inner = dict(zip(body.inputs, inputs, strict=True))
                self._walk(body.nodes, inner)
                inlined[node] = tuple(inner[n] for n in body.outputs)
            else:
                self.like = node
                # From the first change on all nodes are made anew, so that serials keep the program's order.
                keep = None if self._changed or inputs != node.inputs else node
                new[node] = replacement = self._make(node.prim, inputs, node.params, node.type, keep)
                if replacement is not node:
                    self._changed = True

    def __call__(self, name: str, *inputs: Node, **params: Any) -> Node:
        """Make a node of the primitive called `name`, simplified."""
        prim = PRIMITIVES[name]
        return self._make(prim, inputs, params, prim.type(*(i.type for i in inputs), **params), None)

    def full(self, value: Number, shape: Sequence[int | Dim], dtype: np.dtype) -> Node:
        """Make the constant array of one value."""
        return self("full", value=dtype.type(value).item(), shape=tuple(shape), dtype=dtype)

    def feeds_one(self, i: int) -> bool:
        """Tell whether the current node is the only reader of its operand `i`."""
        return self._uses.get(self.like.inputs[i]) == 1

    def absorb(self, node: Node, since: int) -> Node:
        """Rewrite nodes that were made directly, from serial `since` on."""
        new: dict[Node, Node] = {}
        like = self.like
        for n in reachable([node], since):
            inputs = tuple(new.get(i, i) for i in n.inputs)
            self.like = n
            new[n] = self._make(n.prim, inputs, n.params, n.type, None)
        self.like = like
        return new.get(node, node)

    def _make(self, prim: Primitive, inputs: tuple[Node, ...], params: dict[str, Any], type_: Any,
              keep: Node | None) -> Node:
        for rule in self._rules(prim):
            new = rule(self, type_, inputs, params)
            if new is not None:
                return new
        if prim.distinct:
            return keep or Node(prim, inputs, params, type_, like=self.like)
        key: tuple[object, ...]
        if prim.laws.commutative and inputs[0].serial > inputs[1].serial:
            key = (prim, inputs[::-1])
        elif prim.key is not None:
            key = (prim, inputs, prim.key(params))
        else:
            key = (prim, inputs, *params.values()) if params else (prim, inputs)
        node = self._seen.get(key)
        if node is None:
            node = self._seen[key] = keep or Node(prim, inputs, params, type_, like=self.like)
        return node
