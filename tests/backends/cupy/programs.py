"""The programs that this folder's tests run: all that the registry has samples of, and what the library is used for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import optree

import minigrad as mg
from minigrad.backends.cupy import nvrtc
from minigrad.backends.cupy.prelude import COMMON, PRELUDE
from minigrad.backends.cupy.program import Program, Workspace, source
from minigrad.graph import PRIMITIVES, Graph
from minigrad.passes import run
from minigrad.primitive import on_host
from minigrad.symbolic import Symbol

from ...checks import program as program_of

_CALLED = re.compile(r"DEVICE void (f\d+)(\(.*?\n\})", re.DOTALL)
_DEFINED = re.compile(r'extern "C" __global__ void (__launch_bounds__\(\d+\) )(\w+)(\(.*?\n\})', re.DOTALL)


def samples(dtype: str = "f8") -> Iterator[tuple[str, Graph, tuple[np.ndarray, ...]]]:
    """Yield every sample of the registry as a program, its floats in a dtype."""
    for name in sorted(PRIMITIVES):
        prim = PRIMITIVES[name]
        for k, sample in enumerate(prim.samples()):
            arrays = tuple(a.astype(dtype) if a.dtype.kind == "f" else a for a in sample.arrays)
            held = any(isinstance(g, Graph) for v in sample.params.values() for g in (v if type(v) is tuple else (v,)))
            if dtype != "f8" and (held or not any(a.dtype.kind == "f" for a in arrays)):
                continue  # held graphs have the dtype of their sample
            yield f"{name}[{k}]", program_of(prim, arrays, sample.params), arrays


def softmax_loss(params: Any, x: Any, label: Any) -> Any:
    """Return the cross-entropy of a small network with a layer norm."""
    h = np.tanh(x @ params["a"] + params["b"])
    h = (h - h.mean()) / np.sqrt(h.var() + 1e-5) * params["scale"]
    z = h @ params["c"]
    z = z - mg.stop_gradient(z.max())
    return np.log(np.exp(z).sum()) - z[label]


def network(batch: int, dtype: str = "f8", width: int = 12) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return parameters, inputs and labels of `softmax_loss`."""
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(7, width)), "b": rng.normal(size=width), "scale": rng.normal(size=width),
              "c": rng.normal(size=(width, 5))}
    params = {k: v.astype(dtype) for k, v in params.items()}
    return params, rng.normal(size=(batch, 7)).astype(dtype), rng.integers(0, 5, batch)


def messages(params: Any, x: Any, source: Any, target: Any, segment: Any) -> Any:
    """Return a sum over segments of what is sent along the edges of a graph."""
    h = np.tanh(x @ params["a"] + params["b"])
    sent = h[source] * 0.5
    got = mg.numpy.zeros_like(h).at[target].add(sent)
    pooled = (np.zeros((4, 1), x.dtype) * h[:1]).at[segment].add(np.tanh(got + h))
    return np.sum(pooled ** 2)


def graph_data(nodes: int = 90, edges: int = 400, dtype: str = "f8") -> tuple[Any, ...]:
    """Return arguments of `messages`: node 0 gets no message, and segment 2 has no node."""
    rng = np.random.default_rng(3)
    params, *_ = network(1, dtype)
    return (params, rng.normal(size=(nodes, 7)).astype(dtype), rng.integers(0, nodes, edges),
            rng.integers(1, nodes, edges), np.sort(rng.choice([0, 1, 3], nodes)))


_node, _edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Ragged:
    """Nodes, and edges between them."""

    x: mg.f64[_node, 3]
    src: mg.index(_node)[_edge]
    dst: mg.index(_node)[_edge]


def ragged_loss(w: Any, g: Any) -> Any:
    """Return what sums, running sums and extremes make of the nodes of one example."""
    h = np.tanh(g.x @ w)
    got = h + mg.segment_sum(h[g.src], g.dst, g.x.shape[0])
    return np.sum(np.cumsum(got, 0) ** 2) / 100 + np.max(got) + np.mean(got)


def ragged_batch() -> Any:
    """Return examples of different size, one of them without edges."""
    rng = np.random.default_rng(4)
    return mg.batch([Ragged(x=rng.normal(size=(n, 3)), src=rng.integers(0, n, e), dst=rng.integers(0, n, e))
                     for n, e in ((4, 9), (1, 0), (30, 70), (2, 3))])


def attention(p: Any, e: Any) -> Any:
    """Return what two heads of attention make of the nodes of one example."""
    h = np.tanh(e.x @ p["a"])

    def head(q: Any, k: Any, v: Any) -> Any:
        scores = (h @ q) @ (h @ k).T
        weights = np.exp(scores - mg.stop_gradient(np.max(scores, axis=1, keepdims=True)))
        return (weights / np.sum(weights, axis=1, keepdims=True)) @ (h @ v)

    mixed = mg.vmap(head)(p["q"], p["k"], p["v"])
    return np.mean((h + mixed.sum(0)) ** 2)


_WORDS = {name: mg.example(type("Words", (), {"__annotations__": {"x": kind[_node, 3]}}))
          for name, kind in (("f8", mg.f64), ("f4", mg.f32))}


def attention_data(lengths: Sequence[int], dtype: str = "f8", width: int = 6) -> tuple[dict[str, np.ndarray], Any]:
    """Return parameters of `attention`, and examples of these lengths."""
    rng = np.random.default_rng(6)
    params = {"a": rng.normal(size=(3, width)), **{k: rng.normal(size=(2, width, width)) / 2 for k in "qkv"}}
    return ({k: v.astype(dtype) for k, v in params.items()},
            mg.batch([_WORDS[dtype](x=rng.normal(size=(n, 3)).astype(dtype)) for n in lengths]))


ragged_attention = mg.value_and_grad(mg.mean_loss(attention, (None, 0)))


def recurrent(w: Any, x: Any) -> Any:
    """Return what a network makes of a sequence: its state, and a result for each step."""
    def step(h: Any, r: Any) -> tuple[Any, Any]:
        h = np.tanh(w @ h + r)
        return h, h.sum() * r

    h, seen = mg.scan(step, np.zeros(len(w)), x)
    return np.sum(h ** 2) + np.sum(seen ** 3)


def newton(x: Any) -> Any:
    """Return a square root, and the number of steps that it took."""
    return mg.while_loop(lambda c: np.abs(c[0] ** 2 - x) > 1e-12 * x, lambda c: ((c[0] + x / c[0]) / 2, c[1] + 1),
                         (x * 0 + 1, 0))


def noisy(key: Any, x: Any) -> Any:
    """Return what random numbers, cumulative sums and sorting make of a vector."""
    noise = mg.random.normal(key, (300,)) + mg.random.uniform(key, (300,))
    return np.sum(np.cumsum(np.sort(x * noise[:5].sum())) ** 2) + np.sum(np.tanh(noise))


def optimized(f: Any, *args: Any) -> tuple[Graph, list[np.ndarray], dict[Symbol, int]]:
    """Return a function's graph after the passes, its arguments in order, and the sizes that they have."""
    graph, _ = run(mg.trace(f)(*args))
    arrays = [np.asarray(x) for x in optree.tree_leaves(args)]
    sizes = {s: n for node, a in zip(graph.inputs, arrays, strict=True) for s, n in (
        (d.symbol, n) for d, n in zip(node.shape, a.shape, strict=True) if getattr(d, "symbol", None))}
    return graph, arrays, sizes


def used() -> dict[str, tuple[Any, ...]]:
    """Return what the library is used for, as a function and its arguments: name -> (f, *args)."""
    axes = (None, 0, 0)
    params, x, y = network(37)
    small = {k: v.astype("f4") for k, v in params.items()}
    wide = network(9, width=300)
    mean = mg.mean_loss(softmax_loss, axes)
    key = np.array([3, 4], np.uint32)
    return {
        "training step": (mg.value_and_grad(mean), params, x, y),
        "training step, float32": (mg.value_and_grad(mean), small, x.astype("f4"), y),
        "wide layers": (mg.value_and_grad(mean), *wide),
        "per-example gradients": (mg.per_example_grad(softmax_loss, in_axes=axes), params, x, y),
        "clipped mean": (lambda p, x, y: mg.per_example.clipped_mean(softmax_loss, 0.5, in_axes=axes)(p, x, y),
                         params, x, y),
        "norms": (lambda p, x, y: mg.per_example.norms(softmax_loss, in_axes=axes)(p, x, y), params, x, y),
        "microbatch": (mg.value_and_grad(mg.microbatch(mean, size=8)), params, x, y),
        "messages": (mg.value_and_grad(messages), *graph_data()),
        "messages, float32": (mg.value_and_grad(messages), *graph_data(dtype="f4")),
        "examples of different size": (mg.value_and_grad(mg.mean_loss(ragged_loss, (None, 0))),
                                       np.random.default_rng(5).normal(size=(3, 5)), ragged_batch()),
        "ragged attention": (ragged_attention, *attention_data((5, 1, 40, 17))),
        "ragged attention, float32": (ragged_attention, *attention_data((5, 1, 40, 17), "f4", 40)),
        "recurrent network": (mg.value_and_grad(mg.mean_loss(recurrent, (None, 0))), params["a"][:, :7],
                              np.stack([x[:9], x[9:18]])),
        "roots": (mg.vmap(newton), np.array([0.3, 1.0, 2e9, 5.0])),
        "random numbers": (noisy, key, x[0]),
        "random numbers, batched": (mg.vmap(noisy), np.stack([key, key + 1, key + 5]), x[:3]),
        "Hessian of one example": (mg.hessian(lambda b, p, x, y: softmax_loss({**p, "b": b}, x, y)), params["b"],
                                   params, x[0], y[0]),
        "a long column": (mg.value_and_grad(lambda w, x: np.mean(np.exp(np.sin(x) * w))), np.float64(0.3),
                          np.linspace(-1, 1, 5000)),
        "a wide row": (mg.grad(lambda x: np.sum(np.log(np.exp(x).sum(1)))), np.linspace(-1, 1, 9000).reshape(3, 3000)),
    }


def call(program: Any, arrays: Sequence[np.ndarray], sizes: dict[Symbol, int]) -> list[np.ndarray]:
    """Run a program on NumPy's arrays, and return NumPy's."""
    have = program([program.asarray(a, a.dtype) for a in arrays], sizes)
    return [on_host(x) for x in have]


def compile_ahead(device: Any, programs: Sequence[tuple[Any, Sequence[dict[Symbol, int]]]]) -> None:
    """Compile the kernels of programs, for some sizes each, together or side by side."""
    if hasattr(device, "arch"):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda p: nvrtc.compile(source(p[0].plan), device.arch), programs))
    for program, all_sizes in programs:
        for sizes in all_sizes:
            Workspace(program, sizes)


def sources(program: Any) -> Iterator[str]:
    """Yield the text of a program and of those that it holds."""
    yield program.plan.text
    for held in program.held.values():
        for _, inner, _ in held.programs:
            yield from sources(inner)


def kernels(texts: Sequence[str]) -> str:
    """Return one source with every kernel of several once, each under a name of its own."""
    made: dict[str, str] = {}  # a definition without its name -> the name
    for text in texts:
        own = text.replace(PRELUDE, "")
        called = {name: made.setdefault(f"DEVICE void @{body}", f"n{len(made)}") for name, body in _CALLED.findall(own)}
        for bounds, _, body in _DEFINED.findall(own):
            body = re.sub(r"\bf\d+(?=\()", lambda m, called=called: called[m[0]], body)
            made.setdefault(f'extern "C" __global__ void {bounds}@{body}', f"n{len(made)}")
    return "typedef int I;\n" + COMMON + "\n".join(text.replace("@", name, 1) for text, name in made.items())


def close(have: Sequence[np.ndarray], want: Sequence[Any], rtol: float) -> None:
    """Assert that arrays have the dtypes and shapes of others, and nearly their values."""
    for h, w in zip(have, want, strict=True):
        w = np.asarray(w)
        assert h.dtype == w.dtype
        assert h.shape == w.shape
        scale = np.max(np.abs(w[np.isfinite(w)]), initial=0) + 1 if w.dtype.kind == "f" else 0
        np.testing.assert_allclose(h, w, rtol=rtol, atol=rtol * scale)


def plan_of(f: Any, *args: Any) -> Any:
    """Return the launch plan of a function, without a device."""
    graph, _, _ = optimized(f, *args)
    return Program(graph, device=Nowhere()).plan


class Nowhere:
    """A device of programs that are planned, and never run."""

    xp = np

    def flag(self) -> tuple[None, int]:
        """Return no memory."""
        return None, 0


def same(have: Any, want: Any, rtol: float = 1e-9) -> None:
    """Assert that trees of arrays are nearly equal."""
    close([on_host(x) for x in optree.tree_leaves(have)], optree.tree_leaves(want), rtol)
