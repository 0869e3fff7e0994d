"""What must hold of any graph: each check raises an AssertionError that names what differs.

They compare a graph with itself seen another way: derivatives with finite differences, forward mode
with reverse mode, a batched graph with a loop, one array namespace with another, a graph with its JSON.
`reverse`, `push` and `batched` turn a graph into that of its derivative or its batch, so that every
check also holds of those: second order is the first order of `reverse`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import minigrad.ops  # noqa: F401  (declares the primitives)
from minigrad import interpreters
from minigrad.graph import PRIMITIVES, ArrayType, Graph, Node, TupleType, zeros_like
from minigrad.primitive import Primitive
from minigrad.symbolic import Dim


def placeholder(shape: tuple, dtype: Any) -> Node:
    """Return a fresh input."""
    return PRIMITIVES["input"](shape=tuple(shape), dtype=np.dtype(dtype))


def program(prim: Primitive, arrays: Sequence[np.ndarray], params: dict[str, Any]) -> Graph:
    """Return the graph of one node; a tuple's parts are its outputs."""
    inputs = [placeholder(a.shape, a.dtype) for a in arrays]
    node = prim(*inputs, **params)
    many = isinstance(node.type, TupleType)
    outputs = [PRIMITIVES["proj"](node, index=i) for i in range(len(node.type.parts))] if many else [node]
    return Graph(tuple(inputs), tuple(outputs), name=prim.name).check()


def floating(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes that have derivatives."""
    return [n for n in nodes if n.type.floating]


def reverse(graph: Graph, only: int | None = None) -> Graph:
    """Return the graph from inputs and cotangents of outputs to cotangents of inputs.

    With `only`, the cotangent of that floating output alone is an input; the others are not used.
    """
    outs = floating(graph.outputs)
    outs = outs if only is None else [outs[only]]
    gs = [placeholder(o.shape, o.dtype) for o in outs]
    back = interpreters.backward(outs, gs, floating(graph.inputs))
    _same_types("the vjp's", back, floating(graph.inputs))
    return Graph((*graph.inputs, *gs), tuple(back), name=f"{graph.name}_vjp").check()


def push(graph: Graph, moving: Sequence[bool] | None = None) -> Graph:
    """Return the graph from inputs and their tangents to tangents of outputs; only `moving` inputs have one."""
    xs = floating(graph.inputs)
    xs = [x for x, m in zip(xs, moving or [True] * len(xs), strict=True) if m]
    ts = [placeholder(x.shape, x.dtype) for x in xs]
    outs = floating(graph.outputs)
    out = interpreters.forward(outs, dict(zip(xs, ts, strict=True)))
    out = [zeros_like(o) if t is None else t for o, t in zip(outs, out, strict=True)]
    _same_types("the jvp's", out, outs)
    return Graph((*graph.inputs, *ts), tuple(out), name=f"{graph.name}_jvp").check()


def batched(graph: Graph, mapped: Sequence[bool], size: int | Dim) -> Graph:
    """Return the batched graph; every output has the batch axis in front."""
    new = [placeholder((size, *n.shape) if m else n.shape, n.dtype) for n, m in zip(graph.inputs, mapped, strict=True)]
    pairs = list(zip(graph.inputs, new, mapped, strict=True))
    outs = interpreters.batch(
        graph.outputs, {a: b for a, b, m in pairs if not m}, {a: b for a, b, m in pairs if m}, size
    )
    reached = set(interpreters.dependent(graph.outputs, [a for a, _, m in pairs if m]))
    for node, (out, has_axis) in zip(graph.outputs, outs, strict=True):
        assert has_axis == (node in reached), f"{graph.name}: an output says has_axis={has_axis}"
        assert out.shape == ((size, *node.shape) if has_axis else node.shape), f"{graph.name}: batched to {out.shape}"
    return Graph(
        tuple(new), tuple(interpreters.broadcast_unmapped(o, m, size) for o, m in outs), name=f"{graph.name}_batch"
    ).check()


def _same_types(whose: str, have: Sequence[Node], want: Sequence[Node]) -> None:
    for h, w in zip(have, want, strict=True):
        assert isinstance(h, Node), f"{whose} rule returned a {type(h).__name__}, not a node"
        assert h.type == w.type, f"{whose} type is {h.type}, expected {w.type}"


def close(have: Any, want: Any, what: str, tolerance: float = 1e-9) -> None:
    """Raise unless two arrays agree to `tolerance`, relative to the largest element; nan equals nan."""
    have, want = np.asarray(have), np.asarray(want)
    assert have.shape == want.shape, f"{what}: shape {have.shape}, expected {want.shape}"
    finite = want[np.isfinite(want)] if want.dtype.kind == "f" else want
    scale = float(np.abs(finite.astype(float)).max(initial=0.0)) + 1.0
    np.testing.assert_allclose(have, want, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def random_like(nodes: Sequence[Node], seed: int = 0) -> list[np.ndarray]:
    """Return a random array of the type of each (floating) node."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, n.shape).astype(n.dtype) for n in nodes]


# -- the checks --------------------------------------------------------------------------------------------


def check_types(graph: Graph, arrays: Sequence[np.ndarray]) -> None:
    """The type of every output is what evaluation makes."""
    for node, out in zip(graph.outputs, interpreters.evaluate(graph, arrays), strict=True):
        assert out.dtype == node.dtype, f"{graph.name}: the rule says {node.type}, evaluation made {out.dtype}"
        assert out.shape == node.shape, f"{graph.name}: the rule says {node.type}, evaluation made {out.shape}"


def check_gradient(graph: Graph, arrays: Sequence[np.ndarray], tolerance: float = 1e-6, h: float = 5e-4) -> None:
    """The vjp is the finite difference, element by element (central, of fourth order)."""
    outs = floating(graph.outputs)
    vs = random_like(outs)
    where = [i for i, n in enumerate(graph.inputs) if n.type.floating]
    have = interpreters.evaluate(reverse(graph), [*arrays, *vs])
    keep = Graph(graph.inputs, tuple(outs))

    def phi(i: int, x: np.ndarray) -> float:
        values = interpreters.evaluate(keep, [*arrays[:i], x, *arrays[i + 1:]])
        return sum(float(np.sum(v * o)) for v, o in zip(vs, values, strict=True))

    for i, g in zip(where, have, strict=True):
        x = np.asarray(arrays[i])
        want = np.empty(x.shape)
        for at in np.ndindex(x.shape):
            step = np.zeros(x.shape)
            step[at] = h
            want[at] = (8 * (phi(i, x + step) - phi(i, x - step))
                        - (phi(i, x + 2 * step) - phi(i, x - 2 * step))) / (12 * h)
        close(g, want, f"{graph.name}: vjp and finite difference by input {i}", tolerance)


def check_duality(graph: Graph, arrays: Sequence[np.ndarray], tolerance: float = 1e-9) -> None:
    """Forward and reverse mode agree: <v, J u> = <J' v, u>, for each subset of moving inputs and each output alone."""
    outs, xs = floating(graph.outputs), floating(graph.inputs)
    us = random_like(xs, 1)
    for only in (None, *range(len(outs))) if len(outs) > 1 else (None,):
        chosen = range(len(outs)) if only is None else [only]
        vs = random_like(outs, 2)
        back = interpreters.evaluate(reverse(graph, only), [*arrays, *(vs[k] for k in chosen)])
        for moving in subsets(len(xs)):
            tangents = [u for u, m in zip(us, moving, strict=True) if m]
            moved = interpreters.evaluate(push(graph, moving), [*arrays, *tangents])
            left = sum(float(np.sum(vs[k] * moved[k])) for k in chosen)
            right = sum(float(np.sum(g * u)) for g, u, m in zip(back, us, moving, strict=True) if m)
            size = sum(float(np.sum(np.abs(g * u))) for g, u in zip(back, us, strict=True))
            assert abs(left - right) <= tolerance * (size + 1), (
                f"{graph.name}: <v, J u> = {left}, <J' v, u> = {right}, moving {moving}, output {only}")


def check_batch(graph: Graph, arrays: Sequence[np.ndarray], depth: int = 1, tolerance: float = 1e-9) -> None:
    """The batched graph is the loop, for B in {1, 2, own leading size} and each subset of mapped inputs.

    One graph with a symbolic B serves all sizes; it is made with a plain int too. With a depth above 1,
    batches of batches are checked as well.
    """
    own = next((a.shape[0] for a in map(np.asarray, arrays) if a.ndim and a.shape[0]), 3)
    for mapped in subsets(len(arrays)):
        dim = Dim.new("B")
        symbolic = batched(graph, mapped, dim)
        for b in sorted({1, 2, own}):
            stacks = [examples(a, b) if m else a for a, m in zip(arrays, mapped, strict=True)]
            rows = [interpreters.evaluate(graph, [s[k] if m else s for s, m in zip(stacks, mapped, strict=True)])
                    for k in range(b)]
            want = [np.stack([np.asarray(r[i]) for r in rows]) for i in range(len(graph.outputs))]
            results = [interpreters.evaluate(symbolic, stacks, {dim.symbol: b})]
            if b == own:
                fixed = batched(graph, mapped, b)
                check_types(fixed, stacks)
                results.append(interpreters.evaluate(fixed, stacks))
                if depth > 1 and all(mapped):
                    check_batch(fixed, stacks, depth - 1, tolerance)
            for got in results:
                for i, (h, w) in enumerate(zip(got, want, strict=True)):
                    close(h, w, f"{graph.name}: batch of {b} and loop, mapped {mapped}, output {i}", tolerance)


def check_namespace(graph: Graph, arrays: Sequence[np.ndarray], xp: Any, tolerance: float = 1e-12) -> None:
    """Another array namespace computes what NumPy does, dtype included."""
    want = interpreters.evaluate(graph, arrays)
    have = interpreters.evaluate(graph, [xp.asarray(np.array(a, order="C")) for a in arrays], xp=xp)
    for h, w in zip(have, want, strict=True):
        assert isinstance(h, type(xp.asarray(0.0))), f"{graph.name}: a {type(h).__name__} came out of {xp.__name__}"
        h = np.asarray(h)
        assert h.dtype == w.dtype, f"{graph.name}: {h.dtype} in {xp.__name__}, {w.dtype} in NumPy"
        close(h, w, f"{graph.name}: {xp.__name__} and NumPy", tolerance)


def check_json(graph: Graph, arrays: Sequence[np.ndarray]) -> None:
    """A graph read back from its JSON has the same text, and computes the same to the last bit."""
    text = graph.to_json()
    again = Graph.from_json(text)
    assert str(again) == str(graph)
    assert again.to_json() == text
    for a, b in zip(interpreters.evaluate(again, arrays), interpreters.evaluate(graph, arrays), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def examples(array: np.ndarray, b: int) -> np.ndarray:
    """Return `b` distinct arrays like `array`, stacked; integers and bools keep the values they have."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        return np.stack([array * (1 - array.dtype.type(0.05) * k) for k in range(b)])
    return np.stack([np.roll(array, k) for k in range(b)])


def subsets(n: int) -> list[tuple[bool, ...]]:
    """Return the choices of at least one of `n`; of many: each alone, all, all but one."""
    every = [c for c in itertools.product((True, False), repeat=n) if any(c)]
    return every if n <= 3 else [c for c in every if sum(c) in (1, n - 1, n)]


def types_of(arrays: Sequence[np.ndarray]) -> list[ArrayType]:
    """Return the type of each array."""
    return [ArrayType(np.shape(a), np.asarray(a).dtype) for a in arrays]
