"""Rewriting by a table of rules per primitive: the walk of `simplify` and `lower_einsum`.

A rule is ``rule(rewrite, type, inputs, params)`` and returns a node that is equal to the one asked for,
or None. What a rule makes, it makes through the rewrite, so rules apply to each other's results, and
two equal nodes are one. A pass without such a table uses `interpreters.rewrite`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..graph import PRIMITIVES, Graph, Node, reachable
from ..primitive import Rule


class Rewrite:
    """One pass over one graph.

    Attributes
    ----------
    inner : callable
        The pass itself, for graphs that nodes hold.
    held : dict of Graph to Graph
        What graphs that nodes hold have become.
    like : Node
        The node that is being rewritten: what replaces it carries its line and its rules on.
    """

    def __init__(self, rules: Mapping[str, Sequence[Rule]], inner: Callable[[Graph], Graph], inline: bool = False):
        self._rules, self.inner, self._inline = rules, inner, inline
        self._seen: dict[Any, Node] = {}
        self.held: dict[Graph, Graph] = {}
        self.like: Node | None = None
        self._changed = False
        self._uses: Counter[Node] = Counter()

    def graph(self, graph: Graph) -> Graph:
        """Return the rewritten graph: same inputs, equal outputs."""
        new: dict[Node, Any] = {n: n for n in graph.inputs}
        self._uses = Counter(i for n in graph.nodes for i in n.inputs)
        self._uses.update(graph.outputs)
        self._walk(graph.nodes, new)
        outputs = tuple(new[n] for n in graph.outputs)
        return graph if outputs == graph.outputs else graph.replace(outputs=outputs)

    def _walk(self, nodes: Sequence[Node], new: dict[Node, Any]) -> None:
        for node in nodes:
            if node in new:
                continue
            inputs = tuple([new[i] for i in node.inputs])
            if self._inline and node.prim.inline:
                body, self._changed = node.params["graph"], True
                inner = dict(zip(body.inputs, inputs, strict=True))
                self._walk(body.nodes, inner)
                new[node] = tuple(inner[n] for n in body.outputs)
            elif inputs and isinstance(inputs[0], tuple):  # a result of a graph that was written out
                new[node] = inputs[0][node.params["index"]]
            else:
                self.like = node
                # From the first change on all nodes are made anew, so that serials keep the program's order.
                keep = node if inputs == node.inputs and not self._changed else None
                new[node] = made = self._make(node.prim, inputs, node.params, node.type, keep)
                self._changed = self._changed or made is not node

    def __call__(self, name: str, *inputs: Node, **params: Any) -> Node:
        """Make a node of the primitive called `name`, simplified."""
        prim = PRIMITIVES[name]
        return self._make(prim, inputs, params, prim.type(*(i.type for i in inputs), **params), None)

    def full(self, value: Any, shape: Sequence[Any], dtype: np.dtype) -> Node:
        """Make the constant array of one value."""
        return self("full", value=dtype.type(value).item(), shape=tuple(shape), dtype=dtype)

    def feeds_one(self, i: int) -> bool:
        """Tell whether the node that is being rewritten is all that reads its operand `i`."""
        return self._uses.get(self.like.inputs[i]) == 1

    def absorb(self, node: Node, since: int) -> Node:
        """Take over nodes that another module's rule made, those from serial `since` on."""
        new: dict[Node, Any] = {}
        like = self.like
        for n in reachable([node], since):
            inputs = tuple(new.get(i, i) for i in n.inputs)
            self.like = n
            new[n] = self._make(n.prim, inputs, n.params, n.type, None)
        self.like = like
        return new.get(node, node)

    def _make(self, prim: Any, inputs: tuple[Node, ...], params: dict[str, Any], type_: Any, keep: Node | None) -> Node:
        for rule in self._rules[prim.name]:
            found = rule(self, type_, inputs, params)
            if found is not None:
                return found
        if prim.distinct:
            return keep or Node(prim, inputs, params, type_, like=self.like)
        if prim.laws.commutative and inputs[0].serial > inputs[1].serial:
            key = (prim, inputs[::-1])
        elif prim.key is not None:
            key = (prim, inputs, prim.key(params))
        else:
            key = (prim, inputs, *params.values()) if params else (prim, inputs)
        have = self._seen.get(key)
        if have is None:
            have = self._seen[key] = keep or Node(prim, inputs, params, type_, like=self.like)
        return have
