"""Random node-level programs over a symbolic batch, for the tests of passes and backends."""

from __future__ import annotations

import numpy as np

from minigrad import ops  # noqa: F401
from minigrad.graph import PRIMITIVES, Graph, Node, full
from minigrad.interpreters import backward
from minigrad.ops.broadcast import broadcast_along
from minigrad.ops.einsum import contract
from minigrad.symbolic import Dim

F8 = np.dtype("f8")
UNARY = ("tanh", "neg", "square", "sin", "abs", "sign", "exp")
BINARY = ("add", "sub", "mul", "maximum", "minimum")


def node(name: str, *inputs: Node, **params) -> Node:
    return PRIMITIVES[name](*inputs, **params)


def input_(*shape, dtype="f8") -> Node:
    return node("input", shape=shape, dtype=np.dtype(dtype))


def random_graph(seed: int, steps: int = 30, gradient: bool = False) -> tuple[Graph, Dim]:
    """Return a random graph of inputs with and without a batch axis, and its batch size."""
    rng = np.random.default_rng(seed)
    size = Dim.new("B", 3)
    inputs = [input_(size, 4), input_(size, 3), input_(4, 3), input_(4), input_(), input_(size), input_(size, 2, 4)]
    pool = list(inputs)

    def pick(test=lambda n: True) -> Node | None:
        found = [n for n in pool if n.dtype == F8 and test(n)]
        return found[-1 - min(int(rng.exponential(4)), len(found) - 1)] if found else None

    def unary():
        return node(rng.choice(UNARY), node("tanh", pick()))

    def binary():
        x = pick()
        y = pick(lambda n: n.shape == x.shape)
        return node(rng.choice(BINARY), x, y)

    def constant():
        x = pick()
        c = full(rng.choice([0.0, 1.0, -1.0, 2.0, 0.5, 3.0]), x.shape, F8)
        return node(rng.choice(("add", "sub", "mul", "div", "pow")[:4 + (c.params["value"] > 0)]), x, c)

    def broadcast():
        x = pick()
        y = pick(lambda n: (n.ndim and n.shape[-x.ndim:] == x.shape) or not x.ndim)
        axes = tuple(range(y.ndim - x.ndim))
        return node("mul", broadcast_along(x, y.shape, axes), y) if axes else None

    def column():
        x = pick(lambda n: n.ndim == 2)
        y = pick(lambda n: n.shape == x.shape[:1])
        return y and node("sub", x, broadcast_along(y, x.shape, (1,)))

    def reduction():
        x = pick(lambda n: n.ndim)
        axes = tuple(sorted(rng.choice(x.ndim, rng.integers(1, x.ndim + 1), replace=False).tolist()))
        name = rng.choice(["sum", "sum", "max", "mean", "min"])
        return node(name, x, axes=axes)

    def product():
        x, y = pick(lambda n: n.ndim), pick(lambda n: n.ndim)
        letters = {}
        terms = []
        for n in (x, y):
            term = ""
            for a, d in enumerate(n.shape):
                key = str(d), sum(str(e) == str(d) for e in n.shape[:a])
                term += letters.setdefault(key, chr(97 + len(letters)))
            terms.append(term)
        every = sorted(set("".join(terms)))
        rng.shuffle(every)
        out = "".join(c for c in every if rng.random() < 0.6 or c not in terms[0])
        out = "".join(c for c in out if out.count(c) == 1)[:3]
        return contract([(terms[0], x), (terms[1], y)], out)

    def layout():
        x = pick(lambda n: n.ndim >= 2)
        kind = rng.integers(5)
        if kind == 0:
            return node("transpose", x, perm=tuple(rng.permutation(x.ndim).tolist()))
        if kind == 1:
            return node("reshape", x, shape=(x.shape[0] * x.shape[1], *x.shape[2:]))
        if kind == 2 and isinstance(x.shape[-1], int) and x.shape[-1] > 1:
            whole = (0,) * (x.ndim - 1)
            return node("slice", x, start=(*whole, 1), stop=x.shape, step=(1,) * x.ndim)
        if kind == 3:
            return node("flip", x, axes=(x.ndim - 1,))
        return node("concatenate", x, x, axis=x.ndim - 1) if isinstance(x.shape[-1], int) else None

    def choice():
        x = pick()
        y = pick(lambda n: n.shape == x.shape)
        return node("where", node("gt", x, y), x, node("cast", node("cast", y, dtype=np.dtype("f4")), dtype=F8))

    def indexing():
        x = pick(lambda n: n.ndim and n.shape[0] == 4)
        return x and node("gather", x, node("argmax", pick(lambda n: n.ndim == 2 and n.shape[1] == 4), axis=1))

    def lockstep():
        x = pick(lambda n: n.ndim == 2 and isinstance(n.shape[1], int) and n.shape[1] >= 3)
        label = node("argmax", node("slice", x, start=(0, 0), stop=(x.shape[0], 3), step=(1, 1)), axis=1)
        counter = node("iota", size=x.shape[0])
        if rng.random() < 0.5:
            return node("gather", x, counter, label)
        shape = (x.shape[0], 2)
        return node("gather", x, broadcast_along(counter, shape, (1,)), broadcast_along(label, shape, (1,)))

    makers = [unary, unary, binary, binary, constant, broadcast, broadcast, column, reduction, product, layout, choice,
              indexing, lockstep]
    while len(pool) < len(inputs) + steps:
        made = makers[rng.integers(len(makers))]()
        if made is not None and made.ndim <= 3:
            pool.append(node("tanh", made) if made.dtype == F8 and rng.random() < 0.3 else made)
    outputs = [pool[-1], *(pool[i] for i in rng.integers(0, len(pool), 3))]
    if gradient:
        x = pick(lambda n: n.ndim)
        loss = node("sum", node("tanh", x), axes=tuple(range(x.ndim)))
        outputs += backward([loss], [full(1, (), F8)], inputs)
    return Graph(tuple(inputs), tuple(outputs)), size


def arrays_for(graph: Graph, sizes: dict, seed: int = 0, order: str = "C") -> list[np.ndarray]:
    """Return random arguments for a graph."""
    rng = np.random.default_rng(seed)
    made = []
    for n in graph.inputs:
        shape = tuple(d.value(sizes) if isinstance(d, Dim) else d for d in n.shape)
        x = rng.normal(size=shape)
        x = (x * 4).astype(n.dtype) if n.dtype.kind in "iu" else (x > 0) if n.dtype.kind == "b" else x.astype(n.dtype)
        made.append(np.asfortranarray(x) if order == "F" and x.ndim else np.asarray(x))
    return made
