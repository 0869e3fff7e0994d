"""The programs: each is a step in the names of `Library`, and its arguments.

`program` enters a loss; its step is the value and the gradient by the first argument. `step` enters a program of
another kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from .libraries import Library

Args = tuple[Any, ...]


@dataclass(frozen=True)
class Program:
    """A program: ``step(library)`` is the function of the arrays `args` that is timed."""

    title: str
    step: Callable[[Library], Callable[..., Any]]
    args: Callable[[], Args]


PROGRAMS: dict[str, Program] = {}

# Why a program stays far from its limit, which counts neither calls nor waiting.
_CALL = "The rest is the call: Python flattens the arguments, looks the program up, and makes arrays for the results."
_TURNS = "Each turn of the two scans waits for the turn before, and in it each operation for those that it reads."
REASONS = {
    "rosenbrock": _CALL, "logistic_small": _CALL, "garch": f"{_TURNS} {_CALL}", "predator_prey": f"{_TURNS} {_CALL}",
    "kalman": _TURNS, "hidden_markov": _TURNS,
    "factorization": "Each rating adds a weighted row of 20 numbers to a row of either gradient, in the caches."}


def step(title: str, *args: Any, name: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter ``f(library)``, which returns the step; `args` are the data's maker and its own arguments."""
    def enter(f: Callable[..., Any]) -> Callable[..., Any]:
        PROGRAMS[name or f.__name__] = Program(title, f, partial(*args))
        return f

    return enter


def program(title: str, *args: Any, name: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter ``loss(library, params, *data)``."""
    def enter(loss: Callable[..., Any]) -> Callable[..., Any]:
        step(title, *args, name=name or loss.__name__)(
            lambda library: library.outer_value_and_grad(partial(loss, library)))
        return loss

    return enter


# -- data --------------------------------------------------------------------------------------------------


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _normal(shape: tuple[int, ...], dtype: Any = np.float32, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def _layers(widths: tuple[int, ...], dtype: Any = np.float32) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(_normal((m, n), dtype, m**-0.5, k), np.zeros(n, dtype))
            for k, (m, n) in enumerate(pairwise(widths))]


def _network(widths: tuple[int, ...], rows: int, dtype: Any = np.float32) -> Args:
    return _layers(widths, dtype), _normal((rows, widths[0]), dtype), _normal((rows, widths[-1]), dtype, seed=1)


def _classes(widths: tuple[int, ...], rows: int, dtype: Any = np.float32) -> Args:
    hot = np.eye(widths[-1], dtype=dtype)[_rng().integers(0, widths[-1], rows)]
    return _layers(widths, dtype), _normal((rows, widths[0]), dtype), hot


def _regression(rows: int, features: int, dtype: Any = np.float32, kind: str = "normal") -> Args:
    rng = _rng()
    x, w = _normal((rows, features), dtype), _normal((features,), dtype, 0.3, 1)
    z = x @ w
    y = {"normal": lambda: z + rng.normal(size=rows), "binary": lambda: rng.random(rows) < 1 / (1 + np.exp(-z)),
         "count": lambda: rng.poisson(np.exp(z))}[kind]()
    return {"w": np.zeros(features, dtype), "b": np.zeros((), dtype)}, x, y.astype(dtype)


# -- regressions -------------------------------------------------------------------------------------------


@program("linear regression, 10⁶ rows of 10, float32", _regression, 1_000_000, 10)
def linear_regression(lib: Library, p: Any, x: Any, y: Any) -> Any:
    return ((x @ p["w"] + p["b"] - y) ** 2).mean()


@program("logistic regression, 100 rows of 5, float64", _regression, 100, 5, np.float64, "binary",
         name="logistic_small")
@program("logistic regression, 10⁶ rows of 20, float32", _regression, 1_000_000, 20, np.float32, "binary",
         name="logistic_large")
def logistic(lib: Library, p: Any, x: Any, y: Any) -> Any:
    z = x @ p["w"] + p["b"]
    return (lib.softplus(z) - y * z).mean()


@program("Poisson regression, 10⁵ rows of 30, float64", _regression, 100_000, 30, np.float64, "count")
def poisson(lib: Library, p: Any, x: Any, y: Any) -> Any:
    z = x @ p["w"] + p["b"]
    return (lib.np.exp(z) - y * z).mean()


def _negative_binomial() -> Args:
    p, x, y = _regression(10_000, 10, np.float64, "count")
    return {**p, "log_size": np.zeros(())}, x, y


@program("negative binomial regression, 10⁴ rows of 10, float64", _negative_binomial)
def negative_binomial(lib: Library, p: Any, x: Any, y: Any) -> Any:
    xp = lib.np
    z, size = x @ p["w"] + p["b"], xp.exp(p["log_size"])
    log = lib.gammaln(y + size) - lib.gammaln(size) + size * p["log_size"] + y * z
    return ((y + size) * xp.log(size + xp.exp(z)) - log).mean()


def _student() -> Args:
    p, x, y = _regression(100_000, 10)
    return {**p, "log_scale": np.zeros((), np.float32), "log_degrees": np.ones((), np.float32)}, x, y


@program("robust regression (Student's t), 10⁵ rows of 10, float32", _student)
def student(lib: Library, p: Any, x: Any, y: Any) -> Any:
    xp = lib.np
    nu = xp.exp(p["log_degrees"])
    r = (y - x @ p["w"] - p["b"]) * xp.exp(-p["log_scale"])
    constant = lib.gammaln(nu / 2) - lib.gammaln((nu + 1) / 2) + 0.5 * xp.log(nu) + p["log_scale"]
    return constant + ((nu + 1) / 2 * xp.log1p(r * r / nu)).mean()


@program("softmax regression, 10⁴ images of 784, float32", _classes, (784, 10), 10_000)
def softmax_regression(lib: Library, p: Any, x: Any, hot: Any) -> Any:
    ((w, b),) = p
    z = x @ w + b
    return (lib.logsumexp(z) - (z * hot).sum(-1)).mean()


def _cox() -> Args:
    p, x, _ = _regression(10_000, 10, np.float64)
    return p["w"], x, (_rng().random(10_000) < 0.7).astype(np.float64)


@program("Cox regression, 10⁴ rows of 10 in order of time, float64", _cox)
def cox(lib: Library, w: Any, x: Any, event: Any) -> Any:
    z = x @ w
    at_risk = lib.np.log(lib.np.cumsum(lib.np.exp(z), 0))
    return (event * (at_risk - z)).mean()


@program("elementwise loss of 10⁶, float32", lambda: (_normal((4,)), _normal((1_000_000,), seed=1)))
def elementwise(lib: Library, p: Any, x: Any) -> Any:
    xp = lib.np
    return (p[0] * xp.tanh(p[1] * x + p[2]) + xp.exp(-(x * x)) * xp.sin(p[3] * x)).mean()


# -- networks ----------------------------------------------------------------------------------------------


def _forward(lib: Library, p: Any, x: Any) -> Any:
    for w, b in p[:-1]:
        x = lib.np.tanh(x @ w + b)
    w, b = p[-1]
    return x @ w + b


@program("network 2-16-16-1, 200 rows, float64", _network, (2, 16, 16, 1), 200, np.float64, name="network_small")
@program("autoencoder 784-128-32-128-784, batch 256", lambda: _network((784, 128, 32, 128, 784), 256),
         name="autoencoder")
def network(lib: Library, p: Any, x: Any, y: Any) -> Any:
    return ((_forward(lib, p, x) - y) ** 2).sum(-1).mean()


@program("MLP 784-512-256-10, batch 128", _classes, (784, 512, 256, 10), 128, name="mlp")
@program("MLP 784-512-512-10, batch 1,024", _classes, (784, 512, 512, 10), 1024, name="mlp_large")
def classifier(lib: Library, p: Any, x: Any, hot: Any) -> Any:
    for w, b in p[:-1]:
        x = lib.relu(x @ w + b)
    w, b = p[-1]
    z = x @ w + b
    return (lib.logsumexp(z) - (z * hot).sum(-1)).mean()


def _vae() -> Args:
    p = {"encoder": _layers((784, 256, 32)), "decoder": _layers((16, 256, 784))}
    return p, (_rng().random((128, 784)) < 0.3).astype(np.float32), _normal((128, 16))


@program("variational autoencoder 784-256-16, batch 128", _vae)
def variational_autoencoder(lib: Library, p: Any, x: Any, noise: Any) -> Any:
    xp = lib.np
    hidden = _forward(lib, p["encoder"], x)
    mean, log = hidden[:, :16], hidden[:, 16:]
    z = _forward(lib, p["decoder"], mean + xp.exp(0.5 * log) * noise)
    divergence = 0.5 * (xp.exp(log) + mean * mean - 1 - log).sum(-1)
    return ((lib.softplus(z) - x * z).sum(-1) + divergence).mean()


def _images() -> Args:
    p = {"first": _normal((8, 1, 3, 3), scale=0.3), "second": _normal((16, 8, 3, 3), scale=0.1),
         "last": _layers((784, 10))}
    hot = np.eye(10, dtype=np.float32)[_rng().integers(0, 10, 64)]
    return p, _normal((64, 1, 28, 28), seed=1), hot


@program("convolutional network on 64 images of 28 × 28", _images)
def convolutions(lib: Library, p: Any, x: Any, hot: Any) -> Any:
    for w in (p["first"], p["second"]):
        x = lib.max_pool(lib.relu(lib.conv(x, w)))
    z = _forward(lib, p["last"], x.reshape((64, 784)))
    return (lib.logsumexp(z) - (z * hot).sum(-1)).mean()


def _attention(batch: int, length: int, width: int) -> Args:
    p = {name: _normal((width, width), scale=width**-0.5, seed=k) for k, name in enumerate("qkvo")}
    return {**p, "scale": np.ones(width, np.float32)}, _normal((batch, length, width), seed=7)


def _block(batch: int, length: int, width: int) -> Args:
    p, x = _attention(batch, length, width)
    return {**p, "in": _normal((width, 4 * width), scale=width**-0.5, seed=5),
            "out": _normal((4 * width, width), scale=0.5 * width**-0.5, seed=6)}, x


def _heads(lib: Library, x: Any, heads: int) -> Any:
    return lib.np.swapaxes(x.reshape((*x.shape[:-1], heads, x.shape[-1] // heads)), -2, -3)


def _normalized(lib: Library, x: Any, scale: Any) -> Any:
    x = x - x.mean(-1)[..., None]
    return scale * x / lib.np.sqrt((x * x).mean(-1) + 1e-5)[..., None]


def _attended(lib: Library, p: Any, x: Any) -> Any:
    q, k, v = (_heads(lib, x @ p[name], 4) for name in "qkv")
    weights = lib.softmax(q @ lib.np.swapaxes(k, -1, -2) / (x.shape[-1] / 4) ** 0.5)
    return lib.np.swapaxes(weights @ v, -2, -3).reshape(x.shape) @ p["o"]


@program("attention of 4 heads over 64 tokens of 64, batch 32", _attention, 32, 64, 64)
def attention(lib: Library, p: Any, x: Any) -> Any:
    return (_attended(lib, p, _normalized(lib, x, p["scale"])) ** 2).sum(-1).mean()


@program("transformer block over 128 tokens of 128, batch 8", _block, 8, 128, 128)
def transformer(lib: Library, p: Any, x: Any) -> Any:
    x = x + _attended(lib, p, _normalized(lib, x, p["scale"]))
    z = _normalized(lib, x, p["scale"]) @ p["in"]
    gelu = 0.5 * z * (1 + lib.np.tanh(0.7978845608 * (z + 0.044715 * z * z * z)))
    return ((x + gelu @ p["out"]) ** 2).sum(-1).mean()


def _tokens() -> Args:
    rng = _rng()
    p = {"table": _normal((20_000, 64)), "layers": _layers((64, 32, 1))}
    return p, rng.integers(0, 20_000, (128, 32)), _normal((128,), seed=1)


@program("mean of 32 embeddings from a table of 20,000 by 64, batch 128", _tokens)
def embeddings(lib: Library, p: Any, tokens: Any, y: Any) -> Any:
    return ((_forward(lib, p["layers"], p["table"][tokens].mean(1))[:, 0] - y) ** 2).mean()


# -- recurrences -------------------------------------------------------------------------------------------


def _sequences(gates: int, steps: int, batch: int, hidden: int) -> Args:
    p = {"in": _normal((32, gates * hidden), scale=0.2), "hidden": _normal((hidden, gates * hidden), scale=0.1),
         "bias": np.zeros(gates * hidden, np.float32), "out": _normal((hidden,), scale=0.1)}
    return p, _normal((steps, batch, 32)), _normal((batch,), seed=1), np.zeros((batch, hidden), np.float32)


@program("recurrent network, 100 steps of 64, batch 64", _sequences, 1, 100, 64, 64)
def recurrent(lib: Library, p: Any, xs: Any, y: Any, start: Any) -> Any:
    def advance(h: Any, x: Any) -> tuple[Any, None]:
        return lib.np.tanh(x @ p["in"] + h @ p["hidden"] + p["bias"]), None

    h, _ = lib.scan(advance, start, xs)
    return ((h @ p["out"] - y) ** 2).mean()


@program("LSTM, 50 steps of 64, batch 32", _sequences, 4, 50, 32, 64)
def lstm(lib: Library, p: Any, xs: Any, y: Any, start: Any) -> Any:
    def advance(carry: Any, x: Any) -> tuple[Any, None]:
        h, c = carry
        z = x @ p["in"] + h @ p["hidden"] + p["bias"]
        i, f, o, g = (z[:, k * 64:(k + 1) * 64] for k in range(4))
        c = lib.sigmoid(f + 1) * c + lib.sigmoid(i) * lib.np.tanh(g)
        return (lib.sigmoid(o) * lib.np.tanh(c), c), None

    (h, _), _ = lib.scan(advance, (start, start), xs)
    return ((h @ p["out"] - y) ** 2).mean()


def _returns() -> Args:
    return np.array([-2.0, 0.1, 0.8]), _normal((1000,), np.float64)


@program("GARCH(1, 1), 1,000 steps, float64", _returns)
def garch(lib: Library, p: Any, returns: Any) -> Any:
    omega = lib.np.exp(p[0])

    def advance(variance: Any, r: Any) -> tuple[Any, Any]:
        variance = omega + p[1] * r * r + p[2] * variance
        return variance, lib.np.log(variance) + r * r / variance

    _, terms = lib.scan(advance, omega, returns)
    return terms.mean()


def _tracked() -> Args:
    p = {"move": np.eye(4) + _normal((4, 4), np.float64, 0.05), "log_q": np.full(4, -1.0), "log_r": np.zeros(2)}
    return p, _normal((200, 2), np.float64), np.eye(4), np.eye(2), np.zeros(4)


@program("Kalman filter of 4 states, 200 steps, float64", _tracked)
def kalman(lib: Library, p: Any, ys: Any, eye: Any, small: Any, zero: Any) -> Any:
    xp = lib.np
    q, r = eye * xp.exp(p["log_q"]), small * xp.exp(p["log_r"])

    def advance(carry: Any, y: Any) -> tuple[Any, Any]:
        mean, cov = carry
        mean, cov = p["move"] @ mean, p["move"] @ cov @ p["move"].T + q
        s = cov[:2, :2] + r
        e = y - mean[:2]
        gain = xp.linalg.solve(s, cov[:2]).T
        term = xp.linalg.slogdet(s)[1] + e @ xp.linalg.solve(s, e)
        return (mean + gain @ e, cov - gain @ cov[:2]), term

    _, terms = lib.scan(advance, (zero, eye), ys)
    return terms.mean()


def _hidden() -> Args:
    p = {"start": _normal((16,), np.float64), "move": _normal((16, 16), np.float64), "mean": _normal((16,), np.float64)}
    return p, _normal((500,), np.float64, 2.0, 1)


@program("hidden Markov model of 16 states, 500 steps, float64", _hidden)
def hidden_markov(lib: Library, p: Any, ys: Any) -> Any:
    log_move = p["move"] - lib.logsumexp(p["move"])[:, None]
    seen = -0.5 * (ys[:, None] - p["mean"]) ** 2

    def advance(a: Any, e: Any) -> tuple[Any, None]:
        return lib.logsumexp((a[:, None] + log_move).T) + e, None

    a, _ = lib.scan(advance, p["start"] - lib.logsumexp(p["start"]) + seen[0], seen[1:])
    return -lib.logsumexp(a) / 500


def _populations() -> Args:
    return np.log(np.array([1.1, 0.4, 0.4, 0.1])), np.array([5.0, 3.0]), np.abs(_normal((200, 2), np.float64)) + 2


@program("fit of predator and prey, 200 steps of Runge and Kutta, float64", _populations)
def predator_prey(lib: Library, p: Any, start: Any, seen: Any) -> Any:
    a, b, c, d = lib.np.exp(p)

    def slope(z: Any) -> Any:
        return lib.np.stack([z[0] * (a - b * z[1]), z[1] * (d * z[0] - c)])

    def advance(z: Any, y: Any) -> tuple[Any, Any]:
        h = 0.05
        k1 = slope(z)
        k2 = slope(z + h / 2 * k1)
        k3 = slope(z + h / 2 * k2)
        k4 = slope(z + h * k3)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return z, ((z - y) ** 2).sum()

    _, errors = lib.scan(advance, start, seen)
    return errors.mean()


# -- densities, distances and processes --------------------------------------------------------------------


def _mixture() -> Args:
    p = {"mean": _normal((16, 8), scale=2), "log_scale": _normal((16, 8), scale=0.3, seed=1), "logit": _normal((16,))}
    return p, _normal((10_000, 8), scale=2, seed=2)


@program("mixture of 16 normal distributions, 10⁴ points in 8 dimensions", _mixture)
def mixture(lib: Library, p: Any, x: Any) -> Any:
    z = (x[:, None, :] - p["mean"]) * lib.np.exp(-p["log_scale"])
    inside = -0.5 * (z**2).sum(-1) - p["log_scale"].sum(-1)
    return lib.logsumexp(p["logit"]) - lib.logsumexp(p["logit"] + inside).mean()


@program("k-means, 10⁴ points in 16 dimensions, 32 centres", lambda: (_normal((32, 16), seed=1), _normal((10_000, 16))))
def k_means(lib: Library, centres: Any, x: Any) -> Any:
    return lib.np.amin(((x[:, None, :] - centres) ** 2).sum(-1), -1).mean()


def _normals() -> Args:
    root = np.eye(20) + _normal((20, 20), np.float64, 0.05)
    return {"mean": np.zeros(20), "root": root}, _normal((5_000, 20), np.float64), np.eye(20)


@program("normal density in 20 dimensions, 5,000 points, float64", _normals)
def normal(lib: Library, p: Any, x: Any, eye: Any) -> Any:
    factor = lib.np.linalg.cholesky(p["root"] @ p["root"].T + 0.1 * eye)
    z = lib.solve_lower(factor, (x - p["mean"]).T)
    return 0.5 * (z * z).sum() / 5000 + lib.np.log(lib.np.diagonal(factor)).sum()


def _ellipsoids() -> Args:
    root = np.eye(3) + _normal((10_000, 3, 3), np.float64, 0.2)
    return root @ np.swapaxes(root, -1, -2), _normal((10_000, 3), np.float64)


@program("10⁴ normal densities in 3 dimensions, a covariance for each, float64", _ellipsoids)
def small_systems(lib: Library, cov: Any, x: Any) -> Any:
    solved = lib.np.linalg.solve(cov, x[..., None])[..., 0]
    return 0.5 * ((x * solved).sum(-1) + lib.np.linalg.slogdet(cov)[1]).mean()


def _process(points: int) -> Args:
    x = _rng().uniform(0, 10, (points, 2))
    p = {"log_length": np.zeros(2), "log_scale": np.zeros(()), "log_noise": np.array(-2.0)}
    return p, x, np.sin(x[:, 0]) + _normal((points,), np.float64, 0.1), np.eye(points)


@program("Gaussian process of 30 points, float64", _process, 30, name="process_30")
@program("Gaussian process of 200 points, float64", _process, 200, name="process_200")
@program("Gaussian process of 500 points, float64", _process, 500, name="process_500")
def process(lib: Library, p: Any, x: Any, y: Any, eye: Any) -> Any:
    xp = lib.np
    scaled = x / xp.exp(p["log_length"])
    distance = ((scaled[:, None, :] - scaled[None, :, :]) ** 2).sum(-1)
    noise = (xp.exp(p["log_noise"]) + 1e-6) * eye
    factor = xp.linalg.cholesky(xp.exp(p["log_scale"]) * xp.exp(-0.5 * distance) + noise)
    half = lib.solve_lower(factor, y[:, None])[:, 0]
    return 0.5 * (half * half).sum() + xp.log(xp.diagonal(factor)).sum()


# -- rows of other rows ------------------------------------------------------------------------------------


def _groups() -> Args:
    ids = np.sort(np.minimum(_rng().zipf(1.3, 1_000_000) - 1, 9_999))
    return np.zeros(10_000, np.float32), _normal((1_000_000,)), ids


@program("segment sums of 10⁶ rows over 10⁴ skewed groups, float32", _groups)
def segments(lib: Library, offsets: Any, x: Any, ids: Any) -> Any:
    sums = lib.segment_sum(lib.np.exp(-((x - offsets[ids]) ** 2)), ids, 10_000)
    return lib.np.log1p(sums).mean()


def _graph() -> Args:
    rng = _rng()
    return _layers((32, 64, 64, 1)), _normal((3_000, 32)), rng.integers(0, 3_000, 6_600), rng.integers(0, 3_000, 6_600)


@program("graph network of 2 layers, 3,000 nodes and 6,600 edges", _graph)
def graph_network(lib: Library, p: Any, x: Any, source: Any, target: Any) -> Any:
    for w, b in p[:-1]:
        h = x @ w + b
        x = lib.relu(h + lib.segment_sum(h[source], target, 3_000))
    w, b = p[-1]
    return ((x @ w + b) ** 2).mean()


def _ratings() -> Args:
    rng = _rng()
    return ({"users": _normal((2_000, 20), scale=0.3), "items": _normal((1_000, 20), scale=0.3, seed=1)},
            rng.integers(0, 2_000, 100_000), rng.integers(0, 1_000, 100_000), _normal((100_000,), seed=2))


@program("matrix factorization, 10⁵ ratings of rank 20, float32", _ratings)
def factorization(lib: Library, p: Any, user: Any, item: Any, y: Any) -> Any:
    return (((p["users"][user] * p["items"][item]).sum(-1) - y) ** 2).mean()


# -- further derivatives -----------------------------------------------------------------------------------


@program("Rosenbrock's function of 100 variables, float64", lambda: (_normal((100,), np.float64),))
def rosenbrock(lib: Library, x: Any) -> Any:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def _one_class(lib: Library, p: Any, x: Any, hot: Any) -> Any:
    z = _forward(lib, p, x)
    return lib.logsumexp(z) - (z * hot).sum(-1)


@step("norms of 128 per-example gradients, 784-256-10", _classes, (784, 256, 10), 128)
def gradient_norms(lib: Library) -> Callable[..., Any]:
    def norms(p: Any, x: Any, hot: Any) -> Any:
        gradient = lib.vmap(lib.grad(partial(_one_class, lib)), (None, 0, 0))(p, x, hot)
        return lib.np.sqrt(sum((g**2).reshape((128, -1)).sum(-1) for layer in gradient for g in layer))

    return norms


@step("sum of 2,000 clipped gradients, logistic regression of 50, float64", _regression, 2_000, 50, np.float64,
      "binary")
def clipped_gradients(lib: Library) -> Callable[..., Any]:
    def clipped(p: Any, x: Any, y: Any) -> Any:
        gradient = lib.vmap(lib.grad(partial(logistic, lib)), (None, 0, 0))(p, x, y)
        norm = lib.np.sqrt((gradient["w"] ** 2).sum(-1) + gradient["b"] ** 2)
        factor = 1 / (1 + lib.relu(norm - 1))
        return (gradient["w"] * factor[:, None]).sum(0), (gradient["b"] * factor).sum()

    return clipped


@step("Hessian of logistic regression, 1,000 rows of 20, float64", _regression, 1_000, 20, np.float64, "binary")
def hessian_logistic(lib: Library) -> Callable[..., Any]:
    return lambda p, x, y: lib.hessian(lambda w: logistic(lib, {"w": w, "b": p["b"]}, x, y))(p["w"])


def _flat_network() -> Args:
    return _normal((33,), np.float64), _normal((100, 2), np.float64), _normal((100,), np.float64, seed=1)


@step("Hessian of a network 2-8-1, 100 rows, float64", _flat_network)
def hessian_network(lib: Library) -> Callable[..., Any]:
    def loss(p: Any, x: Any, y: Any) -> Any:
        hidden = lib.np.tanh(x @ p[:16].reshape((2, 8)) + p[16:24])
        return ((hidden @ p[24:32] + p[32] - y) ** 2).mean()

    return lib.hessian(loss)


def _direction() -> Args:
    p, x, hot = _classes((784, 256, 10), 128)
    return p, [(_normal(w.shape, seed=3), _normal(b.shape, seed=4)) for w, b in p], x, hot


@step("Hessian-vector product of a network 784-256-10, batch 128", _direction)
def hessian_vector(lib: Library) -> Callable[..., Any]:
    return lambda p, v, x, hot: lib.hvp(lambda p: _one_class(lib, p, x, hot).mean(), p, v)


@step("gradient penalty of a critic 32-64-64-1, batch 256", _network, (32, 64, 64, 1), 256)
def gradient_penalty(lib: Library) -> Callable[..., Any]:
    def loss(p: Any, x: Any, y: Any) -> Any:
        slopes = lib.vmap(lib.grad(lambda one: _forward(lib, p, one)[0]), (0,))(x)
        return ((lib.np.sqrt((slopes**2).sum(-1)) - 1) ** 2).mean() + (y * _forward(lib, p, x)).mean()

    return lib.value_and_grad(loss)


@step("Poisson's equation by a network 2-32-32-1, Laplacian at 1,000 points", _network, (2, 32, 32, 1), 1_000)
def laplacian(lib: Library) -> Callable[..., Any]:
    def loss(p: Any, x: Any, y: Any) -> Any:
        second = lib.vmap(lib.hessian(lambda one: _forward(lib, p, one)[0]), (0,))(x)
        return ((second[:, 0, 0] + second[:, 1, 1] - y[:, 0]) ** 2).mean()

    return lib.value_and_grad(loss)
