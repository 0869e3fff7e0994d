"""On a GPU: minigrad beside JAX, PyTorch and CuPy, at equal precision, in one process.

Contestants come in the order of `STAGES`, each in all its cases; times are printed and written to
``results/gpu.json`` at once. With ``--resume`` a run goes on where another ended, and repeats the jobs that failed.

Two times are taken of each contestant. `latency` is one call and the wait for it, on the host's clock: the cost of an
interactive step. `queued` is the time per call of a run of calls with one wait at the end, on the device's clock
(between two events) where the contestant works on the current stream, else on the host's: the cost in a training loop.
Everybody computes in float32 without TF32, and is compared with a float64 result before it is timed.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optree

import minigrad as mg
from minigrad.backends.cupy import missing
from minigrad.backends.cupy.launch_plan import PARTS

from . import graphs, harness
from .elementwise import loss as scalar_loss

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the device's memory
SIZES = (784, 512, 512, 10)
BATCHES = (32, 128, 1024, 8192)
GRAPHS = (128, 4096)
SHUFFLED = 1100  # batches of an epoch: more than a program remembers sizes of, so that each call's sizes are new to it
WIDTH, SEQUENCES, STEPS = 64, 128, 100  # of attention and of a recurrent network
EXAMPLES = (10**4, 10**5, 10**6, 10**7, 10**8)
COMPILED = (128, 8192)  # batches for torch.compile, which takes long, and for programs without parts of the backend
ATTENTION = (64, 256)  # rows of an example, and numbers in each
RATE = np.float32(0.01)
AXES = (None, 0, 0)
COPIED = 2**28  # numbers
ROUNDS, TURN = 6, 0.02  # seconds of queued calls in a round
COPY = "bytes per second of a copy"
OWN = ("minigrad", "vmapped", "looped")
WITHOUT = tuple(f"without {part}" for part in PARTS)  # minigrad without a part of the backend, to see what that gains
STAGES = (OWN, ("JAX jit", "JAX jit, padded", "JAX vmap(grad)"), WITHOUT, ("PyG", "PyG, normalised once"),
          ("CuPy, by hand",), ("torch CUDA graph",), ("torch.compile",))


# -- measuring ---------------------------------------------------------------------------------------------


class Contestant:
    """A call, how to wait for it, and whether its work goes to the current stream of CuPy and PyTorch."""

    def __init__(self, call: Callable[[], Any], wait: Callable[[], None] | None = None):
        import cupy

        self.call, self.on_stream = call, wait is None
        self.wait = wait or cupy.cuda.Device().synchronize

    def latency(self, seconds: float) -> list[float]:
        """Return how long single calls take, the wait for each included."""
        times: list[float] = []
        deadline = time.perf_counter() + seconds
        while len(times) < 10 or (time.perf_counter() < deadline and len(times) < 500):
            self.wait()
            start = time.perf_counter()
            self.call()
            self.wait()
            times.append(time.perf_counter() - start)
        return times

    def queued(self, n: int) -> float:
        """Return the time per call of `n` calls after each other."""
        import cupy

        self.wait()
        if self.on_stream:
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record()
            for _ in range(n):
                self.call()
            end.record()
            end.synchronize()
            return cupy.cuda.get_elapsed_time(begin, end) / 1e3 / n
        start = time.perf_counter()
        for _ in range(n):
            self.call()
        self.wait()
        return (time.perf_counter() - start) / n


@dataclass(frozen=True)
class Job:
    """One contestant in one case.

    Attributes
    ----------
    check : callable or None
        Returns the difference from float64, or raises if it is too large.
    """

    title: str
    name: str
    make: Callable[[], Contestant]
    check: Callable[[], float] | None = None
    reference: str = "minigrad"


def jobs_of(title: str, makers: Mapping[str, Callable[[], Contestant]], check: Callable[[], float] | None = None,
            reference: str = "minigrad") -> Iterator[Job]:
    """Yield a job for each contestant of a case; the reference is compared with float64."""
    for name, make in makers.items():
        yield Job(title, name, make, check if name == reference else None, reference)


def calling(f: Callable[..., Any], given: Callable[[], Any]) -> Contestant:
    """Return calls of a function on the same arguments, which are made now."""
    args = given()
    return Contestant(lambda: f(*args))


def without(f: Callable[..., Any], given: Callable[[], Any]) -> dict[str, Callable[[], Contestant]]:
    """Return calls of a function whose programs leave out a part of the backend, for each part."""
    def make(part: str) -> Contestant:
        step = mg.compile(f, backend="cupy")
        with mock.patch.dict(os.environ, MINIGRAD_GPU_WITHOUT=part):
            step(*given())
        return calling(step, given)

    return {f"without {part}": functools.partial(make, part) for part in PARTS}


def measure(job: Job, quick: bool) -> dict[str, list[float]]:
    """Return the seconds of single calls and of queued calls, a median for each round."""
    contestant = job.make()
    for _ in range(5):
        contestant.call()
    contestant.wait()
    latency: list[float] = []
    queued: list[float] = []
    for _ in range(2 if quick else ROUNDS):
        latency.append(float(np.median(contestant.latency(TURN if quick else 2.5 * TURN))))
        n = int(np.clip(TURN / max(min(latency), 1e-6), 1, 300))
        queued.append(contestant.queued(n))
    return {"latency": latency, "queued": queued}


def bandwidth() -> float:
    """Return the bytes per second, read and written, of a large copy on the device."""
    import cupy

    x = cupy.random.random(COPIED, dtype=np.float32)
    y = cupy.empty_like(x)
    copy = Contestant(lambda: cupy.copyto(y, x))
    return 2 * x.nbytes / float(np.median([copy.queued(10) for _ in range(7)]))


def to_torch(tree: Any) -> Any:
    """Return a pytree of CuPy arrays as PyTorch's, without a copy."""
    import torch

    return optree.tree_map(torch.from_dlpack, tree)


def to_jax(tree: Any) -> Any:
    """Return a pytree of CuPy arrays as JAX's."""
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")
    if jax.devices()[0].platform != "gpu":
        raise RuntimeError("this JAX has no GPU")
    return optree.tree_map(lambda a: jax.device_put(a.get()), tree)


# -- the training step of an MLP ---------------------------------------------------------------------------


def mlp_loss(params: Any, x: Any, label: Any) -> Any:
    """Return the cross-entropy of one example."""
    *hidden, (w, b) = params
    for weight, bias in hidden:
        x = np.tanh(x @ weight + bias)
    z = x @ w + b
    z = z - mg.stop_gradient(z.max())
    return np.log(np.exp(z).sum()) - z[label]


def mlp_step(params: Any, x: Any, label: Any) -> tuple[Any, Any]:
    """Return the mean loss, and the parameters after a step down its gradient."""
    value, gradient = mg.value_and_grad(mg.mean_loss(mlp_loss, AXES))(params, x, label)
    return value, [(w - RATE * dw, b - RATE * db) for (w, b), (dw, db) in zip(params, gradient, strict=True)]


def mlp_data(batch: int) -> tuple[Any, Any, Any]:
    """Return parameters, inputs and labels on the device."""
    import cupy

    rng = np.random.default_rng(0)
    params = [(rng.normal(0, n ** -0.5, (n, m)).astype(np.float32), rng.normal(0, 0.1, m).astype(np.float32))
              for n, m in pairwise(SIZES)]
    data = params, rng.random((batch, SIZES[0]), np.float32), rng.integers(0, SIZES[-1], batch)
    return optree.tree_map(cupy.asarray, data)


def mlp_by_hand(params: Any, x: Any, label: Any) -> tuple[Any, Any]:
    """Return the same step as one writes it in CuPy, line by line."""
    import cupy

    (w1, b1), (w2, b2), (w3, b3) = params
    h1 = cupy.tanh(x @ w1 + b1)
    h2 = cupy.tanh(h1 @ w2 + b2)
    z = h2 @ w3 + b3
    z -= z.max(1, keepdims=True)
    e = cupy.exp(z)
    total = e.sum(1, keepdims=True)
    rows = cupy.arange(len(x))
    value = (cupy.log(total[:, 0]) - z[rows, label]).mean()
    d3 = e / total
    d3[rows, label] -= 1
    d3 /= len(x)
    d2 = (d3 @ w3.T) * (1 - h2 * h2)
    d1 = (d2 @ w2.T) * (1 - h1 * h1)
    gradients = [(x.T @ d1, d1.sum(0)), (h1.T @ d2, d2.sum(0)), (h2.T @ d3, d3.sum(0))]
    return value, [(w - RATE * dw, b - RATE * db) for (w, b), (dw, db) in zip(params, gradients, strict=True)]


def torch_step(params: Any, x: Any, label: Any) -> tuple[Any, Any]:
    """Return the same step in PyTorch, in a form that torch.compile takes as one graph."""
    import torch

    def loss(params: Any) -> Any:
        *hidden, (w, b) = params
        h = x
        for weight, bias in hidden:
            h = torch.tanh(torch.addmm(bias, h, weight))
        return torch.nn.functional.cross_entropy(torch.addmm(b, h, w), label)

    gradients, value = torch.func.grad_and_value(loss)(params)
    return value, [(w - float(RATE) * dw, b - float(RATE) * db)
                   for (w, b), (dw, db) in zip(params, gradients, strict=True)]


def torch_graph(step: Callable[..., Any], *args: Any) -> Contestant:
    """Return a step that was captured by hand: what PyTorch's documentation calls whole-network capture."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(*args)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(*args)
    return Contestant(graph.replay)


def jax_step(params: Any, x: Any, label: Any) -> tuple[Any, Any]:
    """Return the same step in JAX."""
    import jax
    import jax.numpy as jnp

    def one(params: Any, x: Any, label: Any) -> Any:
        *hidden, (w, b) = params
        for weight, bias in hidden:
            x = jnp.tanh(x @ weight + bias)
        z = x @ w + b
        return jax.nn.logsumexp(z) - z[label]

    value, gradient = jax.value_and_grad(lambda p: jax.vmap(one, AXES)(p, x, label).mean())(params)
    return value, jax.tree.map(lambda p, g: p - RATE * g, params, gradient)


def with_jax(f: Callable[..., Any], args: Any) -> Contestant:
    """Return a jitted function on the arguments."""
    import jax

    args = to_jax(args)
    jitted = jax.jit(f)
    last: list[Any] = [None]

    def call() -> None:
        last[0] = jitted(*args)

    return Contestant(call, lambda: jax.block_until_ready(last[0]))


def with_torch_compile(f: Callable[..., Any], args: Any) -> Contestant:
    """Return a function under torch.compile, in the mode that captures graphs."""
    import torch

    args = to_torch(args)
    compiled = torch.compile(f, mode="reduce-overhead")
    return Contestant(lambda: compiled(*args), torch.cuda.synchronize)


def check(have: Any, want: Any, tolerance: float = 2e-4) -> float:
    """Return the largest difference from float64, relative to each array's largest number; raise if it is large."""
    worst = 0.0
    for h, w in zip(optree.tree_leaves(have), optree.tree_leaves(want), strict=True):
        h, w = np.asarray(h.get() if hasattr(h, "get") else h, float), np.asarray(w, float)
        worst = max(worst, float(np.max(np.abs(h - w)) / (np.max(np.abs(w)) + 1e-30)))
    assert worst < tolerance, f"minigrad differs from float64 by {worst}"
    return worst


def exact(f: Callable[..., Any], args: Any) -> Any:
    """Return the value of a function in float64 on the processor."""
    def wide(a: Any) -> np.ndarray:
        a = np.asarray(a.get() if hasattr(a, "get") else a)
        return a.astype(float) if a.dtype.kind == "f" else a

    return mg.compile(f, backend="numpy")(*optree.tree_map(wide, args))


def mlp() -> Iterator[Job]:
    """Yield the training step's jobs."""
    step = mg.compile(mlp_step, backend="cupy")
    for batch in BATCHES:
        given = functools.cache(functools.partial(mlp_data, batch))
        makers = {
            "minigrad": lambda g=given: calling(step, g),
            "JAX jit": lambda g=given: with_jax(jax_step, g()),
            "CuPy, by hand": lambda g=given: calling(mlp_by_hand, g),
            "torch CUDA graph": lambda g=given: torch_graph(torch_step, *to_torch(g()))}
        if batch in COMPILED:
            makers |= without(mlp_step, given)
            makers["torch.compile"] = lambda g=given: with_torch_compile(torch_step, g())
        yield from jobs_of(f"training step, {batch:,} examples", makers,
                           lambda g=given: check(step(*g()), exact(mlp_step, g())))


# -- attention ---------------------------------------------------------------------------------------------


def projected_loss(params: Any, x: Any) -> Any:
    """Return a number for one example: products whose sums with a bias products alone read."""
    (wq, bq), (wv, bv), wk = params  # a bias of the keys would have no gradient
    q, k, v = x @ wq + bq, x @ wk, x @ wv + bv
    scores = np.exp(q @ k.T / ATTENTION[1])
    return np.sum(np.sin((scores / scores.sum(1, keepdims=True)) @ v))


def jax_projected(params: Any, x: Any) -> Any:
    """Return value and gradient of the same loss in JAX."""
    import jax
    import jax.numpy as jnp

    def one(params: Any, x: Any) -> Any:
        (wq, bq), (wv, bv), wk = params
        q, k, v = x @ wq + bq, x @ wk, x @ wv + bv
        scores = jnp.exp(q @ k.T / ATTENTION[1])
        return jnp.sum(jnp.sin((scores / scores.sum(1, keepdims=True)) @ v))

    return jax.value_and_grad(lambda p: jnp.mean(jax.vmap(one, (None, 0))(p, x)))(params)


def projections() -> Iterator[Job]:
    """Yield the jobs of attention with projections that have a bias."""
    f, (rows, width) = mg.value_and_grad(mg.mean_loss(projected_loss, (None, 0))), ATTENTION
    step = mg.compile(f, backend="cupy")
    for batch in COMPILED[:1]:
        @functools.cache
        def given(batch: int = batch) -> Any:
            import cupy

            rng = np.random.default_rng(0)
            q, k, v = rng.normal(0, width ** -0.5, (3, width, width)).astype(np.float32)
            bq, bv = rng.normal(0, 0.1, (2, width)).astype(np.float32)
            x = rng.random((batch, rows, width), np.float32)
            return optree.tree_map(cupy.asarray, ([(q, bq), (v, bv), k], x))

        yield from jobs_of(
            f"attention, {batch:,} examples of {rows} rows, value and gradient",
            {"minigrad": lambda g=given: calling(step, g), "JAX jit": lambda g=given: with_jax(jax_projected, g()),
             **without(f, given)}, lambda g=given: check(step(*g()), exact(f, g()), 1e-3))


# -- the elementwise loss ----------------------------------------------------------------------------------


def scalar_data(n: int) -> tuple[Any, Any, Any]:
    """Return parameters, inputs and labels of the elementwise loss on the device."""
    import cupy

    rng = cupy.random.default_rng(0)
    p = {k: cupy.asarray(v, np.float32) for k, v in zip("abcd", (0.7, -0.2, 1.3, 0.1), strict=True)}
    return p, rng.standard_normal(n, dtype=np.float32), cupy.sign(rng.standard_normal(n, dtype=np.float32))


def jax_scalar_loss(p: Any, x: Any, y: Any) -> Any:
    """Return value and gradient of the same loss in JAX."""
    import jax
    import jax.numpy as jnp

    return jax.value_and_grad(lambda p: jnp.mean(jnp.log(1 + jnp.exp(
        -y * (p["c"] * jnp.tanh(p["a"] * x + p["b"]) + p["d"])))))(p)


def elementwise() -> Iterator[Job]:
    """Yield the jobs of the loss of two numbers per example, with its gradient: one pass over the data is its floor."""
    f = mg.value_and_grad(mg.mean_loss(scalar_loss, AXES))
    step = mg.compile(f, backend="cupy")
    for n in reversed(EXAMPLES):  # the large ones, which the goal is about, come first
        given = functools.cache(functools.partial(scalar_data, n))
        yield from jobs_of(
            f"elementwise loss and gradient, {n:,} examples",
            {"minigrad": lambda g=given: calling(step, g),
             "JAX jit": lambda g=given: with_jax(jax_scalar_loss, g())},
            (lambda g=given: check(step(*g()), exact(f, g()), 1e-3)) if n <= 10**6 else None)


# -- the programs of one example ---------------------------------------------------------------------------


def jax_gradients(params: Any, x: Any, label: Any) -> Any:
    """Return each example's gradient in JAX."""
    import jax
    import jax.numpy as jnp

    def one(params: Any, x: Any, label: Any) -> Any:
        *hidden, (w, b) = params
        for weight, bias in hidden:
            x = jnp.tanh(x @ weight + bias)
        z = x @ w + b
        return jax.nn.logsumexp(z) - z[label]

    return jax.vmap(jax.grad(one), AXES)(params, x, label)


def jax_norms(*args: Any) -> Any:
    """Return the norms of the examples' gradients in JAX."""
    import jax
    import jax.numpy as jnp

    return jnp.sqrt(sum(jnp.sum(a.reshape(a.shape[0], -1) ** 2, 1) for a in jax.tree.leaves(jax_gradients(*args))))


def jax_clipped(*args: Any) -> Any:
    """Return the mean of the examples' clipped gradients in JAX."""
    import jax
    import jax.numpy as jnp

    scale = jnp.minimum(1.0, 1.0 / jax_norms(*args))
    return jax.tree.map(lambda a: jnp.tensordot(scale, a, 1) / len(scale), jax_gradients(*args))


def per_example() -> Iterator[Job]:
    """Yield the jobs of the norms of per-example gradients, and of the clipped mean of DP-SGD."""
    given = functools.cache(functools.partial(mlp_data, 128))
    norms = mg.per_example.norms(mlp_loss, in_axes=AXES)
    clipped = mg.per_example.clipped_mean(mlp_loss, 1.0, in_axes=AXES)
    for title, f, peer in (("norms of 128 gradients", norms, jax_norms),
                           ("DP-SGD's mean of 128", clipped, jax_clipped)):
        call = mg.compile(f, backend="cupy")
        yield from jobs_of(title, {"minigrad": lambda c=call: calling(c, given),
                                   "JAX vmap(grad)": lambda p=peer: with_jax(p, given())},
                           lambda c=call, f=f: check(c(*given()), exact(f, given())))


# -- graphs, and the loop ----------------------------------------------------------------------------------


def gcn() -> Iterator[Job]:
    """Yield the jobs of the two-layer network of `benchmarks.graphs`, on batches that lie on the device."""
    import cupy

    examples, start = functools.cache(lambda: graphs.drawn(GRAPHS[-1])), graphs.parameters()
    f = mg.value_and_grad(mg.mean_loss(graphs.loss, (None, 0)))
    step = mg.compile(f, backend="cupy")
    for n in GRAPHS:
        @functools.cache
        def given(n: int = n) -> tuple[Any, Any]:
            return optree.tree_map(cupy.asarray, (start, mg.batch(examples()[:n])))

        def flat(given: Callable[[], tuple[Any, Any]] = given) -> tuple[Any, ...]:
            start, b = given()
            return start, b.x, b.src, b.dst, b.segment_ids["node"], b.y

        def by_pyg(once: bool, n: int = n) -> Contestant:
            import torch

            peer = graphs.PyG(examples()[:n], start, once, "cuda")
            collated = peer.collate(range(n))
            return Contestant(lambda: peer.gradient(collated), torch.cuda.synchronize)

        yield from jobs_of(
            f"graph network, {n:,} graphs, value and gradient",
            {"minigrad": lambda g=given: calling(step, g),
             "JAX jit": lambda flat=flat: with_jax(jax_gcn, flat()),
             "PyG": functools.partial(by_pyg, False), "PyG, normalised once": functools.partial(by_pyg, True)},
            lambda g=given: check(step(*g()), exact(f, g()), 1e-3))


def shuffled() -> Iterator[Job]:
    """Yield the jobs of a shuffled epoch of the same network: the batches lie on the device, and all differ in size."""
    import cupy

    examples, start = functools.cache(lambda: graphs.drawn(GRAPHS[-1])), graphs.parameters()
    size, f = GRAPHS[0], mg.value_and_grad(mg.mean_loss(graphs.loss, (None, 0)))
    step = mg.compile(f, backend="cupy")

    @functools.cache
    def picks() -> list[np.ndarray]:
        rng = np.random.default_rng(1)
        return [rng.permutation(len(examples()))[:size] for _ in range(SHUFFLED)]

    @functools.cache
    def batches() -> list[Any]:
        packed = mg.batch(examples())
        return [optree.tree_map(cupy.asarray, packed[which]) for which in picks()]

    def ours() -> Contestant:
        params = optree.tree_map(cupy.asarray, start)
        return Contestant(harness.cycle(lambda b: step(params, b), batches()))

    def by_jax() -> Contestant:
        """Return a program for padded batches, as JAX compiles one for each shape."""
        import jax

        args, jitted, last = to_jax((start, padded(batches()))), jax.jit(jax_gcn), [None]

        def call(b: Any) -> None:
            last[0] = jitted(args[0], *b)

        return Contestant(harness.cycle(call, args[1]), lambda: jax.block_until_ready(last[0]))

    def by_pyg() -> Contestant:
        import torch

        peer = graphs.PyG(examples(), start, False, "cuda")
        return Contestant(harness.cycle(peer.gradient, list(map(peer.collate, picks()))), torch.cuda.synchronize)

    yield from jobs_of(
        f"graph network, {size} graphs, shuffled, value and gradient",
        {"minigrad": ours, "JAX jit": by_jax, "PyG": by_pyg},
        lambda: max(check(step(*optree.tree_map(cupy.asarray, (start, b))), exact(f, (start, b)), 1e-3)
                    for b in batches()[:3]))


def padded(batches: list[Any]) -> list[tuple[Any, ...]]:
    """Return batches of graphs with as many nodes and edges each, in a graph more that `jax_gcn` leaves out."""
    import cupy

    nodes, edges = (max(len(getattr(b, name)) for b in batches) for name in ("x", "src"))
    found = []
    for b in batches:
        n, m = nodes + 1 - len(b.x), edges - len(b.src)
        found.append((cupy.concatenate([b.x, cupy.zeros((n, *b.x.shape[1:]), b.x.dtype)]),
                      *(cupy.concatenate([e, cupy.full(m, nodes, e.dtype)]) for e in (b.src, b.dst)),
                      cupy.concatenate([b.segment_ids["node"], cupy.full(n, len(b.y), b.segment_ids["node"].dtype)]),
                      b.y))
    return found


def jax_gcn(params: Any, x: Any, source: Any, target: Any, graph: Any, wanted: Any) -> Any:
    """Return value and gradient of the same network in JAX, on graphs that lie end to end; a graph more is left out."""
    import jax
    import jax.numpy as jnp

    def loss(p: Any) -> Any:
        ones = jnp.ones(len(source), x.dtype)
        scale = 1 / jnp.sqrt(1 + jax.ops.segment_sum(ones, target, len(x)))[:, None]
        h = x
        for w, b in ((p["W1"], p["b1"]), (p["W2"], p["b2"])):
            h = (h @ w) * scale
            h = jnp.maximum((jax.ops.segment_sum(h[source], target, len(x)) + h) * scale + b, 0)
        pooled = jax.ops.segment_sum(h, graph, len(wanted) + 1)[:-1]
        return jnp.mean((pooled @ p["w"] - wanted) ** 2)

    return jax.value_and_grad(loss)(params)


def looped() -> Iterator[Job]:
    """Yield the jobs of the gradient of 128 examples, one after the other and as a batch."""
    given = functools.cache(functools.partial(mlp_data, 128))
    one = mg.compile(mg.value_and_grad(mlp_loss), backend="cupy")
    batch = mg.compile(mg.value_and_grad(mg.mean_loss(mlp_loss, AXES)), backend="cupy")

    def loop(params: Any, x: Any, label: Any) -> None:
        for k in range(len(x)):
            one(params, x[k], label[k])

    yield from jobs_of("128 examples", {"vmapped": lambda: calling(batch, given),
                                        "looped": lambda: calling(loop, given)}, reference="vmapped")


ROW = mg.axis("row")


@mg.example
class Sequence:
    """The rows that look at each other."""

    x: mg.f32[ROW, WIDTH]


def attention(p: Any, e: Any) -> Any:
    """Return the error of a layer of attention over one sequence."""
    scores = (e.x @ p["query"]) @ (e.x @ p["key"]).T * np.float32(WIDTH ** -0.5)
    weights = np.exp(scores - mg.stop_gradient(np.max(scores, axis=1, keepdims=True)))
    return np.mean(np.tanh(e.x + (weights / np.sum(weights, axis=1, keepdims=True)) @ (e.x @ p["value"])) ** 2)


def padded_attention(p: Any, x: Any, there: Any) -> tuple[Any, Any]:
    """Return the mean of the same and its gradient in JAX, on sequences padded to one length."""
    import jax

    jnp = jax.numpy

    def one(p: Any, x: Any, there: Any) -> Any:
        scores = jnp.where(there[None], (x @ p["query"]) @ (x @ p["key"]).T * WIDTH ** -0.5, -jnp.inf)
        seen = jnp.tanh(x + jax.nn.softmax(scores, axis=1) @ (x @ p["value"])) ** 2
        return jnp.sum(jnp.where(there[:, None], seen, 0)) / (jnp.sum(there) * WIDTH)

    return jax.value_and_grad(lambda p: jnp.mean(jax.vmap(one, (None, 0, 0))(p, x, there)))(p)


def sequences() -> Iterator[Job]:
    """Yield the jobs of attention over sequences of different length: products of blocks, and padding."""
    import cupy

    f = mg.value_and_grad(mg.mean_loss(attention, (None, 0)))
    step = mg.compile(f, backend="cupy")

    @functools.cache
    def data() -> tuple[Any, list[np.ndarray]]:
        rng = np.random.default_rng(0)
        params = {k: rng.normal(0, WIDTH ** -0.5, (WIDTH, WIDTH)).astype(np.float32) for k in ("query", "key", "value")}
        return params, [rng.normal(size=(n, WIDTH)).astype(np.float32) for n in rng.integers(4, 90, SEQUENCES)]

    @functools.cache
    def given() -> tuple[Any, Any]:
        params, xs = data()
        return optree.tree_map(cupy.asarray, (params, mg.batch([Sequence(x=x) for x in xs])))

    def by_jax() -> Contestant:
        params, xs = data()
        x = np.zeros((len(xs), max(map(len, xs)), WIDTH), np.float32)
        for k, one in enumerate(xs):
            x[k, :len(one)] = one
        there = np.arange(x.shape[1]) < np.array([[len(one)] for one in xs])
        return with_jax(padded_attention, (params, x, there))

    yield from jobs_of(f"attention, {SEQUENCES} sequences of 4 to 89 rows", {
        "minigrad": lambda: calling(step, given), "JAX jit, padded": by_jax},
        lambda: check(step(*given()), exact(f, given())))


def recurrent(w: Any, x: Any) -> Any:
    """Return the error of a recurrent network over one sequence."""
    return np.mean(mg.scan(lambda h, r: (np.tanh(h @ w + r), None), x[0] * 0, x)[0] ** 2)


def jax_recurrent(w: Any, x: Any) -> tuple[Any, Any]:
    """Return the mean of the same and its gradient in JAX."""
    import jax

    def one(w: Any, x: Any) -> Any:
        h, _ = jax.lax.scan(lambda h, r: (jax.numpy.tanh(h @ w + r), None), jax.numpy.zeros(WIDTH), x)
        return jax.numpy.mean(h ** 2)

    return jax.value_and_grad(lambda w: jax.numpy.mean(jax.vmap(one, (None, 0))(w, x)))(w)


def steps() -> Iterator[Job]:
    """Yield the jobs of a scan with its gradient."""
    import cupy

    mean = mg.value_and_grad(mg.mean_loss(recurrent, (None, 0)))
    step = mg.compile(mean, backend="cupy")

    @functools.cache
    def given() -> tuple[Any, Any]:
        rng = np.random.default_rng(0)
        return (cupy.asarray(rng.normal(0, WIDTH ** -0.5, (WIDTH, WIDTH)).astype(np.float32)),
                cupy.asarray(rng.normal(size=(SEQUENCES, STEPS, WIDTH)).astype(np.float32)))

    yield from jobs_of(f"recurrent network, {STEPS} steps of {SEQUENCES} sequences", {
        "minigrad": lambda: calling(step, given), "JAX jit": lambda: with_jax(jax_recurrent, given())},
        lambda: check(step(*given()), exact(mean, given())))


# -- the measurements --------------------------------------------------------------------------------------


def conditions() -> dict[str, Any]:
    """Return the device and the versions of its driver and libraries."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return {"device": properties["name"].decode(), "driver": cupy.cuda.runtime.driverGetVersion(),
            "runtime": cupy.cuda.runtime.runtimeGetVersion(), "cupy": cupy.__version__, "precision": "float32, no TF32"}


def goals(cases: list[harness.Case], notes: Mapping[str, Any]) -> list[harness.Target]:
    """Return the targets for queued calls: a number is absent where a contestant or a size is."""
    queued = {case.title.removesuffix(": queued"): case for case in cases if case.title.endswith(": queued")}

    def ratio(case: harness.Case, peer: str) -> float | None:
        return case.ratio(peer) if peer in case.rows else None

    found = []
    for name, case in queued.items():
        if name.startswith("training step"):
            small = case.median("minigrad") < 0.2e-3
            found.append(harness.Target(f"{name}: JAX's time over ours", ratio(case, "JAX jit"), 1.3 if small else 1.0))
        elif name.startswith("norms"):
            found.append(harness.Target(f"{name}: JAX's time over ours", ratio(case, "JAX vmap(grad)"), 20))
        elif name.startswith("graph network"):
            found.append(harness.Target(f"{name}: PyG's time over ours", ratio(case, "PyG"), 2))
    largest = f"elementwise loss, {EXAMPLES[-1]:,} examples: part of the copy's bandwidth, minigrad"
    return [*found, harness.Target(largest, notes.get(largest), 0.85)]


def source() -> str:
    """Return a hash of minigrad's source: measurements of another source are repeated."""
    digest = hashlib.sha256()
    for path in sorted(Path(mg.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Record:
    """The times measured so far, which are written whenever there is a new one.

    Attributes
    ----------
    rounds : dict
        Title, contestant, ``"latency"`` or ``"queued"`` -> seconds.
    failed : dict
        Title, contestant -> why.
    """

    def __init__(self, path: Path, conditions: Mapping[str, Any], jobs: list[Job], resume: bool = False):
        self.path, self.jobs = path, jobs
        self.rounds: dict[str, dict[str, dict[str, list[float]]]] = {}
        self.failed: dict[str, dict[str, str]] = {}
        self.notes: dict[str, Any] = {**conditions, "source": source()}
        if resume and path.exists():
            self._resume()

    def _resume(self) -> None:
        """Take over the measurements of an interrupted run on the same device."""
        found = json.loads(self.path.read_text(encoding="utf-8"))
        notes = found["notes"]
        if notes["device"] != self.notes["device"]:
            return
        same = notes["source"] == self.notes["source"]
        self.rounds = {title: {name: times for name, times in rows.items() if same or name not in OWN + WITHOUT}
                       for title, rows in found["rounds"].items()}
        self.notes = {**notes, **self.notes}

    def todo(self) -> list[Job]:
        """Return the jobs that are not done, in the order of `STAGES`."""
        stage = {name: k for k, names in enumerate(STAGES) for name in names}
        return sorted((j for j in self.jobs if j.name not in self.rounds.get(j.title, {})), key=lambda j: stage[j.name])

    def cases(self) -> list[harness.Case]:
        """Return the tables of the cases whose reference is measured."""
        out = []
        for title, reference in {j.title: j.reference for j in self.jobs}.items():
            rows = self.rounds.get(title, {})
            if reference in rows:
                names = [j.name for j in self.jobs if j.title == title and j.name in rows]
                out += [harness.Case.of(f"{title}: {what}", "ms", reference, {n: rows[n][what] for n in names},
                                        self.failed.get(title)) for what in ("latency", "queued")]
        return out

    def result(self) -> harness.Result:
        """Return tables, goals and notes."""
        cases, notes = self.cases(), dict(self.notes)
        if peak := notes.get(COPY):
            for case in cases:
                words = case.title.split()
                if case.title.startswith("elementwise loss") and words[-1] == "queued":
                    n = int(words[-3].replace(",", ""))
                    for name in case.rows:
                        notes[f"elementwise loss, {n:,} examples: part of the copy's bandwidth, {name}"] = round(
                            8 * n / case.median(name) / peak, 3)
        return harness.Result(cases, goals(cases, notes), notes)

    def write(self) -> None:
        """Write everything, by a file of its own that then takes the other's place."""
        text = harness.document("gpu", self.result(), {"rounds": self.rounds, "failed": self.failed})
        part = self.path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self.path)


def attempt(record: Record, job: Job, quick: bool) -> str:
    """Run one job, write its result, and return it in words: no error ends a run."""
    try:
        if job.check is not None:
            record.notes[f"{job.title}: difference from float64"] = job.check()
        times = measure(job, quick)
    except ModuleNotFoundError as error:
        word = f"{error.name} is not installed"
    except Exception as error:
        text = str(error).splitlines()
        word = f"{type(error).__name__}: {text[0][:200] if text else ''}"
    else:
        record.rounds.setdefault(job.title, {})[job.name] = times
        record.failed.get(job.title, {}).pop(job.name, None)
        record.write()
        return ", ".join(f"{what} {1e3 * float(np.median(t)):.4g} ms" for what, t in times.items())
    record.failed.setdefault(job.title, {})[job.name] = word
    record.write()
    return f"FAILED: {word}"


def run(record: Record, quick: bool, seconds: float) -> int:
    """Run the remaining jobs, and begin none after some seconds; return how many of minigrad's own jobs failed."""
    start = time.perf_counter()
    if COPY not in record.notes:
        record.notes[COPY] = bandwidth()
    for job in record.todo():
        if time.perf_counter() - start > seconds:
            print(f"time is up: {len(record.todo())} are left", flush=True)
            break
        said = attempt(record, job, quick)
        print(f"[{time.perf_counter() - start:6.1f} s] {job.title}, {job.name}: {said}", flush=True)
    print(record.result(), flush=True)
    return sum(name in OWN + WITHOUT for names in record.failed.values() for name in names)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, small sizes, and no file is left")
    parser.add_argument("--resume", action="store_true", help="keep what the folder's gpu.json has of this device")
    parser.add_argument("--seconds", type=float, default=3600, help="begin no job after so long")
    parser.add_argument("--folder", type=Path, default=harness.RESULTS, help="where gpu.json is, and is written")
    args = parser.parse_args()
    if why := missing():
        raise SystemExit(f"benchmarks.gpu: {why}")
    os.environ["MINIGRAD_CACHE_DIR"] = ""  # no code of an earlier run
    jobs = [job for part in (mlp, projections, elementwise, per_example, gcn, shuffled, looped, sequences, steps)
            for job in part()]
    if args.quick:
        jobs = [j for j in jobs if not any(f"{n:,} " in j.title for n in (*BATCHES[2:], *EXAMPLES[3:], GRAPHS[1]))]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if args.quick else args.folder
        folder.mkdir(parents=True, exist_ok=True)
        return run(Record(folder / "gpu.json", conditions(), jobs, args.resume), args.quick, args.seconds)


if __name__ == "__main__":
    sys.exit(main())
