"""On a GPU: minigrad beside JAX, PyTorch and CuPy, at equal precision, in one process.

Two times are taken of each contestant. `latency` is one call and the wait for it, on the host's clock: what an
interactive step costs. `queued` is the time per call of a run of calls with one wait at the end, on the device's clock
(between two events) where the contestant works on the current stream, else on the host's: what a training loop costs.
Everybody computes in float32 without TF32, and is compared with a float64 result before it is timed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import optree

import minigrad as mg
from minigrad.backends.cupy import missing

from . import graphs, harness
from .elementwise import loss as scalar_loss

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the device's memory
SIZES = (784, 512, 512, 10)
BATCHES = (32, 128, 1024, 8192)
GRAPHS = (128, 4096)
EXAMPLES = (10**4, 10**5, 10**6, 10**7, 10**8)
RATE = np.float32(0.01)
AXES = (None, 0, 0)


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


def measure(title: str, makers: Mapping[str, Callable[[], Contestant]], quick: bool,
            reference: str = "minigrad") -> list[harness.Case]:
    """Return the cases of latency and of queued calls; contestants take turns."""
    present, absent = {}, {}
    for name, make in makers.items():
        try:
            contestant = make()
            for _ in range(5):
                contestant.call()
            contestant.wait()
            present[name] = contestant
        except ModuleNotFoundError as error:
            absent[name] = f"{error.name} is not installed"
        except Exception as error:  # a peer that does not run here is reported, and is no reason to stop
            if name == reference:
                raise
            absent[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    latency: dict[str, list[float]] = {name: [] for name in present}
    queued: dict[str, list[float]] = {name: [] for name in present}
    for _ in range(2 if quick else 6):
        for name, c in present.items():
            latency[name].append(float(np.median(c.latency(0.02 if quick else 0.05))))
            n = int(np.clip(0.02 / max(min(latency[name]), 1e-6), 1, 300))
            queued[name].append(c.queued(n))
    return [harness.Case.of(f"{title}: {what}", "ms", reference, times, absent)
            for what, times in (("latency", latency), ("queued", queued))]


def bandwidth() -> float:
    """Return the bytes per second, read and written, of a large copy on the device."""
    import cupy

    x = cupy.random.random(2**28, dtype=np.float32)
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
    """Return the same step in PyTorch."""
    import torch

    leaves = [p.detach().requires_grad_() for layer in params for p in layer]
    h = x
    for w, b in zip(leaves[0:4:2], leaves[1:4:2], strict=True):
        h = torch.tanh(torch.addmm(b, h, w))
    value = torch.nn.functional.cross_entropy(torch.addmm(leaves[5], h, leaves[4]), label)
    gradients = torch.autograd.grad(value, leaves)
    new = [p.detach() - float(RATE) * g for p, g in zip(leaves, gradients, strict=True)]
    return value.detach(), list(zip(new[0::2], new[1::2], strict=True))


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
    """Return the largest difference from float64, relative to each array's largest number; raise where it is large."""
    worst = 0.0
    for h, w in zip(optree.tree_leaves(have), optree.tree_leaves(want), strict=True):
        h, w = np.asarray(h.get() if hasattr(h, "get") else h, float), np.asarray(w, float)
        worst = max(worst, float(np.max(np.abs(h - w)) / (np.max(np.abs(w)) + 1e-30)))
    assert worst < tolerance, f"minigrad differs from float64 by {worst}"
    return worst


def exact(f: Callable[..., Any], args: Any) -> Any:
    """Return what a function gives in float64 on the processor."""
    def wide(a: Any) -> np.ndarray:
        a = np.asarray(a.get() if hasattr(a, "get") else a)
        return a.astype(float) if a.dtype.kind == "f" else a

    return mg.compile(f, backend="numpy")(*optree.tree_map(wide, args))


def mlp(quick: bool, notes: dict[str, Any]) -> list[harness.Case]:
    """Measure the training step."""
    step = mg.compile(mlp_step, backend="cupy")
    cases = []
    for batch in BATCHES[:2] if quick else BATCHES:
        args = mlp_data(batch)
        notes[f"training step, {batch} examples: difference from float64"] = check(step(*args), exact(mlp_step, args))
        cases += measure(f"training step, {batch:,} examples", {
            "minigrad": lambda a=args: Contestant(lambda: step(*a)),
            "JAX jit": lambda a=args: with_jax(jax_step, a),
            "torch.compile": lambda a=args: with_torch_compile(torch_step, a),
            "torch CUDA graph": lambda a=args: torch_graph(torch_step, *to_torch(a)),
            "CuPy, by hand": lambda a=args: Contestant(lambda: mlp_by_hand(*a))}, quick)
    return cases


# -- the elementwise loss ----------------------------------------------------------------------------------


def elementwise(quick: bool, notes: dict[str, Any]) -> list[harness.Case]:
    """Measure the loss of two numbers per example, with its gradient: one pass over the data is its floor."""
    import cupy

    f = mg.value_and_grad(mg.mean_loss(scalar_loss, AXES))
    step = mg.compile(f, backend="cupy")
    peak = bandwidth()
    notes["bytes per second of a copy"] = peak
    cases = []
    for n in EXAMPLES[:3] if quick else EXAMPLES:
        rng = cupy.random.default_rng(0)
        p = {k: cupy.float32(v) for k, v in zip("abcd", (0.7, -0.2, 1.3, 0.1), strict=True)}
        p = {k: cupy.asarray(v, np.float32) for k, v in p.items()}
        args = p, rng.standard_normal(n, dtype=np.float32), cupy.sign(rng.standard_normal(n, dtype=np.float32))
        if n <= 10**6:
            notes[f"elementwise loss, {n:,} examples: difference from float64"] = check(
                step(*args), exact(f, args), 1e-3)

        def jax_loss(p: Any, x: Any, y: Any) -> Any:
            import jax
            import jax.numpy as jnp

            return jax.value_and_grad(lambda p: jnp.mean(jnp.log(1 + jnp.exp(
                -y * (p["c"] * jnp.tanh(p["a"] * x + p["b"]) + p["d"])))))(p)

        made = measure(f"elementwise loss and gradient, {n:,} examples", {
            "minigrad": lambda a=args: Contestant(lambda: step(*a)),
            "JAX jit": lambda a=args: with_jax(jax_loss, a)}, quick)
        cases += made
        for name in made[1].rows:
            notes[f"elementwise loss, {n:,} examples: part of the copy's bandwidth, {name}"] = round(
                8 * n / made[1].median(name) / peak, 3)
    return cases


# -- what is asked of each example -------------------------------------------------------------------------


def per_example(quick: bool, notes: dict[str, Any]) -> list[harness.Case]:
    """Measure norms of per-example gradients, and the clipped mean of DP-SGD."""
    args = mlp_data(128)
    norms = mg.per_example.norms(mlp_loss, in_axes=AXES)
    clipped = mg.per_example.clipped_mean(mlp_loss, 1.0, in_axes=AXES)

    def jax_gradients(params: Any, x: Any, label: Any) -> Any:
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
        import jax
        import jax.numpy as jnp

        g = jax_gradients(*args)
        return jnp.sqrt(sum(jnp.sum(a.reshape(a.shape[0], -1) ** 2, 1) for a in jax.tree.leaves(g)))

    def jax_clipped(*args: Any) -> Any:
        import jax
        import jax.numpy as jnp

        g = jax_gradients(*args)
        scale = jnp.minimum(1.0, 1.0 / jax_norms(*args))
        return jax.tree.map(lambda a: jnp.tensordot(scale, a, 1) / len(scale), g)

    cases = []
    for title, f, peer in (("norms of 128 gradients", norms, jax_norms),
                           ("DP-SGD's mean of 128", clipped, jax_clipped)):
        call = mg.compile(f, backend="cupy")
        notes[f"{title}: difference from float64"] = check(call(*args), exact(f, args))
        cases += measure(title, {"minigrad": lambda c=call: Contestant(lambda: c(*args)),
                                 "JAX vmap(grad)": lambda p=peer: with_jax(p, args)}, quick)
    return cases


# -- graphs, and the loop ----------------------------------------------------------------------------------


def gcn(quick: bool, notes: dict[str, Any]) -> list[harness.Case]:
    """Measure value and gradient of the two-layer network of `benchmarks.graphs`, on batches that lie on the device."""
    import cupy

    examples, start = graphs.drawn(GRAPHS[-1]), graphs.parameters()
    f = mg.value_and_grad(mg.mean_loss(graphs.loss, (None, 0)))
    step = mg.compile(f, backend="cupy")
    cases = []
    for n in GRAPHS[:1] if quick else GRAPHS:
        batch = mg.batch(examples[:n])
        args = optree.tree_map(cupy.asarray, (start, batch))
        notes[f"{n:,} graphs: difference from float64"] = check(step(*args), exact(f, args), 1e-3)
        flat = tuple(map(cupy.asarray, (batch.x, batch.src, batch.dst, batch.segment_ids["node"], batch.y)))

        def by_pyg(once: bool, n: int = n) -> Contestant:
            import torch

            peer = graphs.PyG(examples[:n], start, once, "cuda")
            collated = peer.collate(range(n))
            return Contestant(lambda: peer.gradient(collated), torch.cuda.synchronize)

        cases += measure(f"graph network, {n:,} graphs, value and gradient", {
            "minigrad": lambda a=args: Contestant(lambda: step(*a)),
            "JAX jit": lambda a=(args[0], *flat): with_jax(jax_gcn, a),
            "PyG": lambda: by_pyg(False), "PyG, normalised once": lambda: by_pyg(True)}, quick)
    return cases


def jax_gcn(params: Any, x: Any, source: Any, target: Any, graph: Any, wanted: Any) -> Any:
    """Return value and gradient of the same network in JAX, on graphs that lie end to end."""
    import jax
    import jax.numpy as jnp

    def loss(p: Any) -> Any:
        ones = jnp.ones(len(source), x.dtype)
        scale = 1 / jnp.sqrt(1 + jax.ops.segment_sum(ones, target, len(x)))[:, None]
        h = x
        for w, b in ((p["W1"], p["b1"]), (p["W2"], p["b2"])):
            h = (h @ w) * scale
            h = jnp.maximum((jax.ops.segment_sum(h[source], target, len(x)) + h) * scale + b, 0)
        return jnp.mean((jax.ops.segment_sum(h, graph, len(wanted)) @ p["w"] - wanted) ** 2)

    return jax.value_and_grad(loss)(params)


def looped(quick: bool, notes: dict[str, Any]) -> list[harness.Case]:
    """Measure the gradient of 128 examples, one after the other and as a batch."""
    params, x, label = mlp_data(128)
    one = mg.compile(mg.value_and_grad(mlp_loss), backend="cupy")
    batch = mg.compile(mg.value_and_grad(mg.mean_loss(mlp_loss, AXES)), backend="cupy")

    def loop() -> None:
        for k in range(len(x)):
            one(params, x[k], label[k])

    return measure("128 examples", {"vmapped": lambda: Contestant(lambda: batch(params, x, label)),
                                    "looped": lambda: Contestant(loop)}, quick, "vmapped")


def conditions() -> dict[str, Any]:
    """Return the device and the versions of what drives it."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return {"device": properties["name"].decode(), "driver": cupy.cuda.runtime.driverGetVersion(),
            "runtime": cupy.cuda.runtime.runtimeGetVersion(), "cupy": cupy.__version__, "precision": "float32, no TF32"}


def goals(cases: list[harness.Case], notes: Mapping[str, Any]) -> list[harness.Target]:
    """Return what is asked, of queued calls: a number is absent where a contestant or a size is."""
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


def run(quick: bool) -> harness.Result:
    """Measure everything."""
    notes = conditions()
    cases = []
    for part in (mlp, elementwise, per_example, gcn, looped):
        cases += part(quick, notes)
    return harness.Result(cases, goals(cases, notes), notes)


if __name__ == "__main__":
    if why := missing():
        raise SystemExit(f"benchmarks.gpu: {why}")
    harness.main("gpu", run)
