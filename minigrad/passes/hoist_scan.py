"""A loop over time keeps what has to wait for its turn, and no more.

What a step makes of shared values alone is the same in every step: it is made once, before the loop. A product of
a shared value with what the slices say (``x_t @ W``) is one product over all steps. A carry that is only added to,
as the gradient of a weight is, is the sum of what is added: that is taken over all steps after the loop, where the
sum of products is one contraction, and where `factorize` can look into it. What the sum is made of is stacked, where
that is cheap. Two equal stacks are one, and a carry before its step is the carry after the step before.

Memory is spent with care: what is made before the loop is at most `_WIDER` times as large as the slices that it is
made of, what is stacked for a sum at most `_MORE` times as large as all that the loop reads and stacks already, and
a loop whose steps are computed again (`checkpoint`) is left as it is. The sums are taken in another order, so they
are equal up to rounding; float16, in which a part of a sum may overflow, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import interpreters
from ..graph import PRIMITIVES, Graph, Node, TupleType, constant_of, reachable
from ..ops.control import barrier, parts
from ..ops.differences import is_difference, sign
from ..ops.einsum import LETTERS, einsum, parse
from ..ops.elementwise import add, sub
from ..ops.loops import scan
from ..ops.results import waits_for_check
from ..ops.subgraph import signature
from ..primitive import is_linear, placeholder, spread
from ..tracing import made_by
from . import keep_index_checks
from .dead_code import dead_code
from .factorize import number
from .simplify import simplify

_WIDER = 16.0  # a hoisted value beside the slices that it is made of
_MORE = 2.0  # new stacks beside what a loop reads and stacks already


def hoist_scan(graph: Graph) -> Graph:
    """Return an equal graph whose scans do in their steps only what depends on the step before."""
    notes: list[str] = []
    after = _graph(graph, notes)
    if after is graph:
        return graph
    return dead_code(simplify(after)).replace(notes=graph.notes + tuple(notes))


def _graph(graph: Graph, notes: list[str]) -> Graph:
    """Rewrite a graph and those that its nodes hold, the innermost first."""
    if not any(isinstance(v, Graph) for n in graph.nodes for p in n.params.values()
               for v in (p if isinstance(p, tuple) else (p,))):
        return graph

    def rule(node: Node, inputs: tuple[Any, ...]) -> Node | list[Node]:
        if inputs and isinstance(inputs[0], list):  # the results of a scan
            return inputs[0][node.params["index"]]
        params = {k: _inside(v, notes) for k, v in node.params.items()}
        same = all(params[k] is v for k, v in node.params.items())
        made = interpreters.rebuilt(node, inputs, None if same else params)
        if node.prim is not scan:
            return made
        with made_by("hoist_scan") as working_on:
            working_on(made)
            return _Loop(made).rewritten(notes) or made

    return interpreters.rewrite(graph, rule)


def _inside(value: Any, notes: list[str]) -> Any:
    if isinstance(value, Graph):
        return keep_index_checks.guarded(lambda graph: _inner(graph, notes), value)
    if isinstance(value, tuple) and any(isinstance(v, Graph) for v in value):
        found = tuple(_inside(v, notes) for v in value)
        return value if all(a is b for a, b in zip(found, value, strict=True)) else found
    return value


def _inner(graph: Graph, notes: list[str]) -> Graph:
    after = _graph(graph, notes)
    return graph if after is graph else dead_code(simplify(after))


def _elements(nodes: Iterable[Node]) -> float:
    total = 0.0
    for n in nodes:
        size = 1.0
        for m in n.shape:
            size *= number(m)
        total += size
    return total


class _Loop:
    """One scan, taken apart.

    Attributes
    ----------
    shared, slices : dict of Node to Node
        From inputs of the step to what stands for them outside.
    starts : dict of Node to Node
        The same for the carry.
    outputs : list of Node
        What the step returns, the carry first.
    """

    def __init__(self, node: Node):
        self.node = node
        body: Graph = node.params["body"]
        self.roles = signature(node)
        self.shared, self.starts, self.slices = map(
            dict, self.roles.split(list(zip(body.inputs, node.inputs, strict=True))))
        self.outputs = list(body.outputs)
        self.length, self.reverse = node.params["length"], node.params["reverse"]
        self.names = dict(zip(body.inputs, body.names, strict=True))
        self.said: list[str] = []

    def rewritten(self, notes: list[str]) -> list[Node] | None:
        """Return the scan's results as a smaller loop and work around it make them; None where nothing moves."""
        if self.length == 0 or any(n.prim is barrier and not waits_for_check(n) for n in reachable(self.outputs)):
            return None
        carries = list(self.starts)
        results = self._constant_carries()
        self._hoist()
        self._look()
        sums = {i: terms for i, c in enumerate(carries) if (terms := self._added(i, c)) is not None}
        sums, new = self._worth_it(sums)
        stacked = dict.fromkeys([*self.outputs[len(carries):], *new])
        before = self._before(carries, stacked)
        outside = [n for n in stacked if n in self.slices or not self._varies(n)]
        if sums:
            self._say(len(sums), "sum after it", "sums after it")
        twice = len(self.outputs) - len(carries) - len(stacked) + len(new) + len(before) + len(outside)
        if twice:
            self._say(twice, "stack that was there already", "stacks that were there already")
        inside = [n for n in stacked if n not in before and n not in outside]
        left = [i for i, c in enumerate(carries) if c in self.starts and i not in sums]
        only_checks = not left and all(map(self._is_light_check, inside))
        if only_checks and inside:
            self._say(len(inside), "check of all steps at once", "checks of all steps at once")
        if not self.said:
            return None
        for i in sums:
            del self.starts[carries[i]]
        values = _at_all_steps(self, inside, {}) if only_checks else self._made(left, inside)
        results |= dict(zip(left, values, strict=False))
        steps = dict(zip(inside, values[len(left):], strict=True))
        for n in outside:
            steps[n] = self.slices[n] if n in self.slices else spread(self._outer(n), self.length)
        for n, after in before.items():
            steps[n] = self._shifted(self.starts[n], steps[after])
        results |= self._summed(sums, steps)
        results |= {i: steps[n] for i, n in enumerate(self.outputs[len(carries):], len(carries))}
        notes.append(f"scan at {self.node.where}: {', '.join(self.said)}")
        return [results[i] for i in range(len(self.outputs))]

    def _constant_carries(self) -> dict[int, Node]:
        """Share the carries that the step hands on as they are, and return them as results."""
        results: dict[int, Node] = {}
        for i, c in enumerate(list(self.starts)):
            if self.outputs[i] is c:
                results[i] = self.shared[c] = self.starts.pop(c)
        if results:
            self._say(len(results), "constant carry", "constant carries")
        return results

    def _summed(self, sums: dict[int, list[tuple[int, Node]]], steps: dict[Node, Node]) -> dict[int, Node]:
        """Return the results of carries that are sums, taken outside: the start, and the total of each term."""
        total, results = _Total(self, steps), {}
        for i, terms in sums.items():
            value = self.roles.carry(self.node.inputs)[i]
            for side, term in terms:
                value = PRIMITIVES["add" if side > 0 else "sub"](value, total(term))
            results[i] = value
        return results

    def _made(self, left: Sequence[int], inside: Sequence[Node]) -> list[Node]:
        """Return the results of the loop that carries what is `left` and stacks what is `inside`."""
        inputs = (*self.shared, *self.starts, *self.slices)
        outputs = (*(self.outputs[i] for i in left), *inside)
        body = Graph(inputs, outputs, names=tuple(self.names.get(n, f"ahead{i}") for i, n in enumerate(inputs)),
                     name=self.node.params["body"].name)
        params = {"body": body, "counts": (len(self.shared), len(self.starts)), "length": self.length,
                  "reverse": self.reverse}
        outer = (*self.shared.values(), *self.starts.values(), *self.slices.values())
        return parts(interpreters.retyped(self.node, outer, params))

    def _say(self, n: int, one: str, many: str) -> None:
        self.said.append(f"{n} {one if n == 1 else many}")

    def _look(self) -> None:
        """Find out what depends on the carry, and what on the slices."""
        self.carried = set(interpreters.dependent(self.outputs, list(self.starts)))
        self.sliced = set(interpreters.dependent(self.outputs, list(self.slices)))
        self.users: dict[Node, list[Node]] = {}
        for n in reachable(self.outputs):
            for i in n.inputs:
                self.users.setdefault(i, []).append(n)

    def _varies(self, n: Node) -> bool:
        return n in self.carried or n in self.sliced

    def _outer(self, n: Node) -> Node:
        """Return a value of shared ones alone, outside."""
        return interpreters.substitute([n], self.shared)[0]

    # -- before the loop ---------------------------------------------------------------------------------

    def _hoist(self) -> None:
        """Move work that does not wait for the carry out of the steps."""
        self._look()
        nodes = reachable(self.outputs)
        once = self._last([n for n in nodes if self._is_shared_work(n)])
        ready: set[Node] = set()
        products = 0
        for n in nodes:
            if self._is_ready(n, ready):
                ready.add(n)
                products += n.prim is einsum
        before = self._last([n for n in nodes if n in ready])
        if not once and not before:
            return
        new = {n: placeholder(n.type) for n in (*once, *before)}
        for n in once:
            self.shared[new[n]] = self._outer(n)
        self.slices.update(zip((new[n] for n in before), _at_all_steps(self, before, {}), strict=True))
        self.outputs = interpreters.substitute(self.outputs, new)
        if once:
            self._say(len(once), "shared value computed before it", "shared values computed before it")
        if before:
            self._say(products, "product over all steps before it", "products over all steps before it")

    def _last(self, nodes: Sequence[Node]) -> list[Node]:
        """Return those of `nodes` that something else reads."""
        inner = set(nodes)
        ends = set(self.outputs)
        return [n for n in nodes if n in ends or any(u not in inner for u in self.users.get(n, ()))]

    def _is_shared_work(self, n: Node) -> bool:
        """Tell whether a value is made of shared ones, is more than a view of one, and not larger than they are."""
        if (self._varies(n) or n in self.shared or n.prim.kind in ("view", "leaf") or isinstance(n.type, TupleType)):
            return False
        made_of = [i for i in reachable([n]) if i in self.shared]
        return bool(made_of) and _elements([n]) <= _elements(made_of)

    def _is_ready(self, n: Node, ready: set[Node]) -> bool:
        """Tell whether a value is a product of slices with shared values, or made of such without getting larger."""
        if n in self.carried or n not in self.sliced or n in self.slices or isinstance(n.type, TupleType):
            return False
        varying = [i for i in n.inputs if i in self.sliced]
        if n.prim is einsum:
            return len(varying) < len(n.inputs) and self._is_light(n)
        products = [i for i in varying if i in ready]
        return (n.prim.kind in ("elementwise", "view", "reduce")
                and _elements([n]) <= _elements(dict.fromkeys(products)) and self._is_light(n))

    def _is_light(self, n: Node) -> bool:
        """Tell whether a value and all that leads to it may be made for all steps at once."""
        way = [i for i in reachable([n]) if i in self.sliced]
        room = _WIDER * _elements(i for i in way if i in self.slices)
        return all(not isinstance(i.type, TupleType) and not waits_for_check(i) and _elements([i]) <= room for i in way)

    def _is_light_check(self, n: Node) -> bool:
        """Tell whether a result is a zero that waits for checks which may be made for all steps at once."""
        while waits_for_check(n):
            n, check = n.inputs
            if not self._is_light(check):
                return False
        return constant_of(n) is not None

    # -- after the loop ----------------------------------------------------------------------------------

    def _added(self, i: int, c: Node) -> list[tuple[int, Node]] | None:
        """Return what is added to a carry (1) and subtracted from it (-1), or None where it is used otherwise."""
        if c not in self.starts or c.dtype == np.float16:
            return None
        end, terms, own, n = self.outputs[i], [], True, c
        while n is not end:
            users = self.users.get(n, ())
            if len(users) != 1 or n in self.outputs or users[0].prim not in (add, sub):
                return None
            (user,) = users
            x, y = user.inputs
            if user.prim is sub and n is y:
                return None
            terms.append((1 if user.prim is add else -1, y if n is x else x))
            own = own and "vjp" not in user.rules
            n = user
        if own and len({s * sign(t) for s, t in terms}) > 1:
            return None  # the sum of what is added, less that of what is subtracted, is a difference of large sums
        return terms if terms and end not in self.users and self.outputs.count(end) == 1 else None

    def _worth_it(self, sums: dict[int, list[tuple[int, Node]]]) -> tuple[dict[int, list], list[Node]]:
        """Return the sums that are to be taken after the loop, and what has to be stacked for them."""
        there = dict.fromkeys(self.roles.ends(self.outputs)[1])
        room = _MORE * _elements((*self.slices, *there))
        chosen: dict[int, list] = {}
        new: list[Node] = []
        for products in (True, False):  # what sums of products need stacked, others can use
            for i, terms in sums.items():
                if i in chosen:
                    continue
                needs = _Needs(self, {*there, *new})
                wanted = list(dict.fromkeys(n for _, t in terms for n in needs.of_sum(t)))
                if (needs.products if products else not wanted) and _elements((*new, *wanted)) <= room:
                    chosen[i] = terms
                    new += wanted
        return {i: chosen[i] for i in sums if i in chosen}, new

    def _before(self, carries: Sequence[Node], stacked: Iterable[Node]) -> dict[Node, Node]:
        """Return the carries that are stacked both before and after their step, and what they are after it."""
        if not isinstance(self.length, int):
            return {}
        after = dict(zip(carries, self.outputs, strict=False))
        return {n: after[n] for n in stacked if n in self.starts and after[n] in stacked and after[n] not in self.starts
                and after[n] in self.carried}

    def _shifted(self, start: Node, after: Node) -> Node:
        """Return the values before each step: the start, and those after all steps but the last one."""
        first = PRIMITIVES["reshape"](start, shape=(1, *start.shape))
        low, high = (1, self.length) if self.reverse else (0, self.length - 1)
        rest = PRIMITIVES["slice"](after, start=(low, *[0] * start.ndim), stop=(high, *start.shape),
                                   step=(1,) * after.ndim)
        return PRIMITIVES["concatenate"](*((rest, first) if self.reverse else (first, rest)), axis=0)


def _at_all_steps(loop: _Loop, nodes: Sequence[Node], steps: dict[Node, Node]) -> list[Node]:
    """Return values of the step for all steps at once, from the slices and from what `steps` has stacked."""
    known = {**loop.slices, **steps}
    inner = {n: placeholder(n.type) for n in known}
    made = interpreters.substitute(nodes, inner)
    found = interpreters.batch(made, loop.shared, {inner[n]: outer for n, outer in known.items()}, loop.length)
    return [interpreters.with_axis(n, has, loop.length) for n, has in found]


# A sum over the steps goes through all that is linear in one value that changes from step to step. `_linear` says
# in which: _Needs (what has to be stacked) and _Total (the sum itself) both follow it.

def _linear(loop: _Loop, n: Node) -> bool:
    if n.prim.linear == "jointly":  # values that do not change are summed, too
        return not is_difference(n)
    return not isinstance(n.type, TupleType) and n.type.floating and is_linear(n, [loop._varies(i) for i in n.inputs])


class _Needs:
    """What has to be stacked for the sum of a value over the steps."""

    def __init__(self, loop: _Loop, there: set[Node]):
        self.loop, self.there = loop, there
        self.products = False  # whether the sum is one of products
        self.opened: dict[Node, bool] = {}

    def of_sum(self, n: Node) -> list[Node]:
        loop = self.loop
        if not loop._varies(n):
            return []
        if n.prim is einsum and not _linear(loop, n):
            self.products = True
            return self._union(self.of_steps, n.inputs)
        if not _linear(loop, n) or n in self.there:
            return self.of_steps(n)
        before, self.products = self.products, False
        needs = self._union(self.of_sum, n.inputs)
        found, self.products = self.products, before or self.products
        return needs if found or _elements(needs) <= _elements([n]) else self.of_steps(n)

    def of_steps(self, n: Node) -> list[Node]:
        if n not in self.loop.carried or n in self.there:
            return []
        if n.prim.kind in ("elementwise", "view") and n not in self.loop.starts and not isinstance(
                n.inputs[0].type, TupleType):
            needs = self._union(self.of_steps, n.inputs)
            size, whole = _elements(needs), _elements([n])
            if size < whole or (size == whole and n.prim.kind == "view"):
                return needs
        return [n]

    @staticmethod
    def _union(of: Any, nodes: Iterable[Node]) -> list[Node]:
        return list(dict.fromkeys(m for n in nodes for m in of(n)))


class _Total:
    """Sums of values of the step over all steps, computed outside."""

    def __init__(self, loop: _Loop, steps: dict[Node, Node]):
        self.loop, self.steps = loop, steps
        self.known: dict[Node, Node] = {}

    def __call__(self, n: Node) -> Node:
        if n not in self.known:
            self.known[n] = self._sum(n)
        return self.known[n]

    def _sum(self, n: Node) -> Node:
        loop, p = self.loop, n.params
        if not loop._varies(n):
            return PRIMITIVES["sum"](spread(loop._outer(n), loop.length), axes=(0,))
        if n.prim is einsum and not _linear(loop, n):
            return self._product(n)
        if n in self.steps or not _linear(loop, n):
            return PRIMITIVES["sum"](self._steps(n), axes=(0,))
        through = n.prim.linear == "jointly"
        inputs = [self(i) if through or loop._varies(i) else loop._outer(i) for i in n.inputs]
        return n.prim(*inputs, **p)

    def _product(self, n: Node) -> Node:
        """Return the sum of products: the steps are one more axis that is contracted."""
        terms, out = parse(n.params["subscripts"])
        t = next(c for c in LETTERS if c not in "".join(terms))
        changing = [self.loop._varies(i) for i in n.inputs]
        operands = [self._steps(i) if v else self.loop._outer(i) for i, v in zip(n.inputs, changing, strict=True)]
        terms = [t + s if v else s for s, v in zip(terms, changing, strict=True)]
        return n.prim(*operands, subscripts=",".join(terms) + "->" + out)

    def _steps(self, n: Node) -> Node:
        if n not in self.steps:
            (self.steps[n],) = _at_all_steps(self.loop, [n], self.steps)
        return self.steps[n]
