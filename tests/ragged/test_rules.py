"""Every rule of packed arrays against the loop: empty examples first, in the middle, last and alone."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp
from minigrad.ops.checks import in_range
from minigrad.ops.control import barrier
from minigrad.traced_array import Array

from .cases import SIZES, close, edge, molecules, node, unbatched

RNG = np.random.default_rng(5)
W, V = RNG.normal(size=(4, 3)), RNG.normal(size=4)


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True, initial=-1e9))
    return e / np.sum(e, axis=-1, keepdims=True)


def attention(g):
    scores = g.x @ g.x.T
    return softmax(scores) @ g.x


def heads(g):
    n = g.x.shape[0]
    q, k, v = (np.tanh(g.x * c).reshape((n, 2, 2)) for c in (1.0, 0.5, 2.0))
    return np.einsum("hij,jhd->ihd", softmax(np.einsum("ihd,jhd->hij", q, k)), v).reshape((n, 4))


def test_index_fields_are_not_shifted_back():
    graph = mg.trace(mg.vmap(lambda g: np.sin(g.x[g.src])))(mg.batch(molecules(SIZES["mixed"])))
    (gathered,) = (n for n in graph.nodes if n.prim.name == "gather")
    assert gathered.inputs[1].prim.name == "input"


KEY = mg.random.key(7)
TABLE, KERNEL = RNG.normal(size=(12, 4)), RNG.normal(size=(2, 4, 3))


def traced(g, table):
    """Return a table as an argument of the program would be, in a trace."""
    return table if isinstance(g.x, np.ndarray) else mnp.asarray(table * np.ones_like(g.y[0]))


def module(g):
    return np if isinstance(g.x, np.ndarray) else mnp


ANY = {  # programs that hold for examples without rows, too
    "elementwise": lambda g: np.tanh(g.x) * 2 + 1,
    "attention with heads": heads,
    "pairs by two axes": lambda g: np.sum(np.einsum("iab,jab->ij", *[g.x.reshape((g.x.shape[0], 2, 2))] * 2) ** 2),
    "set": lambda g: mnp.at(g.x[:, 0])[g.src].set(g.w * 2),
    "set to a number": lambda g: mnp.at(g.x[:, 0])[g.src].set(0.5) * g.x[:, 1],
    "grams of parts": lambda g: np.einsum("iha,ihb->hab", *[g.x.reshape((g.x.shape[0], 2, 2))] * 2),
    "a row of constants": lambda g: g.x + np.arange(4.0),
    "a value of the example": lambda g: g.x[:, :3] * g.y,
    "shared matmul": lambda g: g.x @ W,
    "shared matvec": lambda g: g.x @ V,
    "stacked matvec": lambda g: g.x[:, :3] @ g.y,
    "gather": lambda g: g.x[g.src],
    "gather of a gather": lambda g: (g.x @ W)[g.src] * g.w[:, None],
    "segment sum": lambda g: mg.segment_sum(g.x[g.src], g.dst, g.x.shape[0]),
    "segment mean": lambda g: mg.segment_mean(g.x[g.src], g.dst, g.x.shape[0]),
    "segment max": lambda g: mg.segment_max(g.x[g.src], g.dst, g.x.shape[0], initial=-3.0),
    "segment min": lambda g: mg.segment_min(g.x[g.src], g.dst, g.x.shape[0], initial=3.0),
    "segment softmax": lambda g: mg.segment_softmax(g.w, g.dst, g.x.shape[0]),
    "fixed number of places": lambda g: mg.segment_sum(g.x, (g.x[:, 0] > 0) * 2, 3),
    "degree": lambda g: mg.segment_sum(np.ones_like(g.w), g.dst, g.x.shape[0]),
    "sum": lambda g: np.sum(g.x),
    "sum over rows": lambda g: np.sum(g.x, axis=0),
    "sum over columns": lambda g: np.sum(g.x, axis=1),
    "sum kept": lambda g: g.x - np.sum(g.x, axis=0, keepdims=True),
    "logsumexp": lambda g: np.log(1 + np.sum(np.exp(g.x))),
    "max with initial": lambda g: np.max(g.x, axis=0, initial=0.5),
    "min with initial": lambda g: np.min(g.x, initial=0.5),
    "any": lambda g: np.any(g.x > 0.5, axis=0),
    "all": lambda g: np.all(g.x > -0.5),
    "count": lambda g: np.sum(g.x > 0),
    "number of rows": lambda g: g.x.shape[0] * 2.0 + g.w.shape[0],
    "norm by size": lambda g: g.x / np.sqrt(1.0 + g.x.shape[0]),
    "gram": lambda g: g.x.T @ g.x,
    "gram of two": lambda g: np.einsum("ni,nj->ij", g.x, g.x @ W),
    "dot": lambda g: g.w @ g.w,
    "row norms": lambda g: np.einsum("ni,ni->n", g.x, g.x),
    "concatenate": lambda g: np.concatenate([g.x, 2 * g.x[g.src]]),
    "concatenate with a row": lambda g: np.concatenate([np.zeros((1, 4)), g.x, np.ones((2, 4))]),
    "concatenate columns": lambda g: np.concatenate([g.x, g.x @ W], axis=1),
    "self loops": lambda g: mg.segment_sum(
        g.x[np.concatenate([g.src, mnp.arange(g.x.shape[0])])],
        np.concatenate([g.dst, mnp.arange(g.x.shape[0])]), g.x.shape[0]),
    "both directions": lambda g: mg.segment_sum(g.x[np.concatenate([g.src, g.dst])], np.concatenate([g.dst, g.src]),
                                                g.x.shape[0]),
    "cumsum": lambda g: np.cumsum(g.x, axis=0),
    "cumsum of columns": lambda g: np.cumsum(g.x, axis=1),
    "running maximum of columns": lambda g: np.maximum.accumulate(g.x, axis=1),
    "sort": lambda g: np.sort(g.w),
    "sort columns": lambda g: np.sort(g.x, axis=0),
    "sort rows": lambda g: np.sort(g.x, axis=1),
    "argsort": lambda g: np.argsort(g.w),
    "flip": lambda g: g.x[::-1] * np.arange(4),
    "roll": lambda g: np.roll(g.x, 1, axis=0) * g.x,
    "roll back": lambda g: np.roll(g.x, (-2, 1), axis=(0, 1)) * g.x,
    "none of it": lambda g: g.x[:0],
    "a slice of more": lambda g: np.concatenate([np.zeros((1, 4)), g.x, g.x, np.ones((2, 4))])[2:-1],
    "position": lambda g: mnp.arange(g.x.shape[0]) * 1.0,
    "index as a number": lambda g: np.where(g.src < g.dst, g.w, 0.0) + g.src,
    "transpose": lambda g: g.x.T,
    "flatten": lambda g: g.x.ravel(),
    "new axis": lambda g: g.x[:, None, :] * np.ones((2, 1)),
    "reshape rows": lambda g: g.x.reshape(g.x.shape[0], 2, 2),
    "leading axis": lambda g: np.stack([g.x, 2 * g.x]),
    "outer": lambda g: g.x[:, 0][:, None] - g.x[:, 1][None, :],
    "pair sum": lambda g: np.sum((g.x[:, 0][:, None] - g.x[:, 1][None, :]) ** 2, axis=1),
    "pair sum first": lambda g: np.sum((g.x[:, 0][:, None] - g.x[:, 1][None, :]) ** 2, axis=0),
    "pair total": lambda g: np.sum(np.abs(g.x[:, 0][:, None] - g.x[:, 1][None, :])),
    "pair product": lambda g: g.x @ g.x.T,
    "pair transposed": lambda g: (g.x[:, 0][:, None] - g.x[:, 1][None, :]).T,
    "node by edge": lambda g: (g.x[:, 0][:, None] * g.w) @ g.w,
    "attention": attention,
    "three terms": lambda g: np.einsum("ni,ij,nj->n", g.x, W, g.x[:, :3]),
    "matrices of rows": lambda g: np.linalg.det(g.x.reshape(g.x.shape[0], 2, 2)),
    "constant of the size": lambda g: np.ones_like(g.x),
    "only shared": lambda g: V * 2,
    "expanded value": lambda g: np.zeros_like(g.x[:, :3]) + g.y,
    "row of a table": lambda g: g.x + traced(g, TABLE)[:g.x.shape[0]],
    "later rows of a table": lambda g: g.x * traced(g, TABLE)[2:g.x.shape[0] + 2],
    "columns of a table": lambda g: traced(g, TABLE.T)[:, :g.x.shape[0]].T * g.x,
    "first rows by the size": lambda g: np.concatenate([g.x, g.x])[:g.x.shape[0]],
    "last rows by the size": lambda g: np.concatenate([g.x, 2 * g.x])[g.x.shape[0]:],
    "every second of pairs": lambda g: np.repeat(g.x, 2, axis=0)[::2],
    "range from one": lambda g: module(g).arange(1, g.x.shape[0] + 1)[:, None] * g.x,
    "range down": lambda g: module(g).arange(g.x.shape[0] - 1, -1, -1)[:, None] * g.x,
    "range of twos": lambda g: module(g).arange(0, 2 * g.x.shape[0], 2)[:, None] * g.x,
    "linspace": lambda g: module(g).linspace(-1.0, 2.0, g.x.shape[0])[:, None] * g.x,
    "linspace without the end": lambda g: module(g).linspace(-1.0, g.y, g.x.shape[0], endpoint=False) * g.x[:, :3],
    "pad": lambda g: np.pad(g.x, ((2, 1), (0, 1))),
    "pad by a number": lambda g: np.pad(g.x, ((0, 1), (1, 0)), constant_values=0.5),
    "insert": lambda g: np.insert(g.x, 0, g.y[0], axis=0),
    "diagonal matrix": lambda g: np.diag(g.x[:, 0]),
    "diagonal": lambda g: np.diag(g.x @ g.x.T) + np.diagonal(g.x @ g.x.T),
    "trace": lambda g: np.trace(g.x @ g.x.T),
    "lower triangle": lambda g: np.tril(g.x @ g.x.T) + np.triu(g.x @ g.x.T, 1),
    "causal attention": lambda g: softmax(np.where(
        module(g).tri(g.x.shape[0], dtype=bool), g.x @ g.x.T, -1e9)) @ g.x,
    "size compared": lambda g: np.where(g.x.shape[0] > 2, np.sum(g.x, axis=0), g.x.shape[0] // 2 - g.x.shape[0] % 2),
    "size as a number": lambda g: np.sum(g.x) / (1.0 + g.x.shape[0] ** 2) - g.x.shape[0] * g.y + abs(g.x.shape[0] - 2),
    "size in a row": lambda g: np.where(g.x > 0, g.x.shape[0], -g.x.shape[0]) * g.x,
    "division of sizes": lambda g: sum(divmod(g.x.shape[0], 3)) * g.y + divmod(7, g.x.shape[0] + 1)[1],
    "product": lambda g: np.prod(g.x, axis=0),
    "product of all": lambda g: np.prod(g.x, initial=2.0),
    "products of pairs": lambda g: np.prod(1 + g.x[:, 0][:, None] * g.x[:, 1][None, :], axis=0),
    "product of zeros": lambda g: np.prod(np.maximum(g.x, 0), axis=0),
    "running product": lambda g: np.cumprod(g.x, axis=0),
    "running product of all": lambda g: np.cumprod(g.x),
    "running maximum": lambda g: np.maximum.accumulate(g.x, axis=0),
    "running minimum": lambda g: np.minimum.accumulate(np.round(g.x), axis=0) * g.x,
    "running maximum of ties": lambda g: np.fmax.accumulate(np.maximum(g.x, 0), axis=0),
    "running logsumexp": lambda g: np.logaddexp.accumulate(10 * g.x, axis=0),
    "running length": lambda g: np.hypot.accumulate(1 + np.exp(g.x), axis=0),
    "running truth": lambda g: np.logical_or.accumulate(g.x > 0.5, axis=0) * g.x,
    "parity": lambda g: np.logical_xor.reduce(g.x > 0, axis=0) * np.sum(g.x, axis=0),
    "sum of exponentials": lambda g: np.exp(np.logaddexp.reduce(g.x, axis=0)),
    "length of all": lambda g: np.hypot.reduce(np.exp(g.x), axis=0),
    "running sum of a block, down": lambda g: np.cumsum(g.x[:, 0][:, None] - g.x[:, 1][None, :], axis=0),
    "running product of a block, down": lambda g: np.cumprod(1 - g.x[:, 0][:, None] * g.x[:, 1][None, :] / 9, axis=0),
    "running maximum of a block": lambda g: np.maximum.accumulate(g.x[:, 0][:, None] - g.x[:, 1][None, :], axis=1),
    "sort of a block, down": lambda g: np.sort(g.x[:, 0][:, None] - g.x[:, 1][None, :], axis=0),
    "every second": lambda g: g.x[::2] * g.x[::2],
    "every second from the second": lambda g: g.x[1::2],
    "every third backwards": lambda g: g.x[::-3],
    "inner ones by twos": lambda g: g.x[1:-1:2],
    "mixed ends": lambda g: np.concatenate([g.x[-3:2], g.x[2:-3:-1]]),
    "halves": lambda g: np.concatenate([g.x[g.x.shape[0] // 2:], -g.x[:g.x.shape[0] // 2]]),
    "three or fewer": lambda g: g.x[:np.minimum(g.x.shape[0], 3)],
    "up to a value": lambda g: g.x[:np.sum(g.x[:, 0] > 0)],
    "parts": lambda g: np.concatenate([(k + 1) * p for k, p in enumerate(np.array_split(g.x, 3))]),
    "range by threes": lambda g: module(g).arange(1, g.x.shape[0], 3) * g.y[0],
    "range of edges and nodes": lambda g: module(g).arange(g.x.shape[0] + 4, -1, -2) * g.y[0],
    "columns of half a block": lambda g: np.sum((g.x @ g.x.T)[:, ::2], axis=0),
    "strided convolution": lambda g: mnp.conv(g.x.T, KERNEL, padding=2, stride=2) if not isinstance(g.x, np.ndarray)
    else np.einsum("fck,cnk->fn", KERNEL, np.lib.stride_tricks.sliding_window_view(
        np.pad(g.x.T, ((0, 0), (2, 2))), 3, axis=1)[:, ::2]),
    "tiles": lambda g: np.tile(g.x, (2, 1)),
    "flat columns": lambda g: np.ravel(g.x.T),
    "pairs of columns": lambda g: g.x.T.reshape(2, 2, g.x.shape[0]) * g.y[0],
    "places in order": lambda g: np.searchsorted(np.sort(g.w), g.x[:, 0]) * g.x[:, 0],
    "places in order, right": lambda g: np.searchsorted(np.sort(np.round(g.w)), g.y, side="right") * g.y,
    "dropout": lambda g: np.where(mg.random.bernoulli(KEY, 0.5, (g.x.shape[0], 1)), 2 * g.x, 0.0),
    "noise": lambda g: g.x + mg.random.normal(KEY, g.x.shape) * mg.random.exponential(KEY, (4, g.x.shape[0])).T,
    "noise in float32": lambda g: g.x * mg.random.uniform(KEY, g.x.shape, dtype=np.float32),
    "noise of pairs": lambda g: np.sum(mg.random.uniform(KEY, (g.x.shape[0], g.w.shape[0])), axis=1)[:, None] * g.x,
    "random order": lambda g: mg.random.permutation(KEY, g.x),
    "random indices": lambda g: g.x[mg.random.permutation(KEY, g.x.shape[0])],
    "a key per row": lambda g: mg.random.split(KEY, g.x.shape[0]) // 2**20 * g.x[:, :2],
    "convolution of the size": lambda g: mnp.conv(g.x.T, KERNEL, padding=2) if not isinstance(g.x, np.ndarray)
    else np.einsum("fck,cnk->fn", KERNEL, np.lib.stride_tricks.sliding_window_view(
        np.pad(g.x.T, ((0, 0), (2, 2))), 3, axis=1)),
    "checkpointed norm": lambda g: np.sum(g.x ** 2) / (1 + g.x.shape[0]),
}

ROWS = {  # programs that need a row
    "mean": lambda g: np.mean(g.x, axis=0),
    "mean of all": lambda g: np.mean(g.x),
    "var": lambda g: np.var(g.x, axis=0),
    "std": lambda g: np.std(g.x),
    "max": lambda g: np.max(g.x, axis=0),
    "min of all": lambda g: np.min(g.x),
    "argmax": lambda g: np.argmax(g.x, axis=0),
    "argmin": lambda g: np.argmin(g.x[:, 1]),
    "row of the largest": lambda g: g.x[np.argmax(g.x[:, 0])],
    "first row": lambda g: g.x[np.array([0])],
    "row 0": lambda g: g.x[0],
    "row -1": lambda g: g.x[-1, 1:] * g.x[0, 0],
    "last row": lambda g: g.x[np.array([-1])],
    "but the first": lambda g: g.x[1:],
    "but the last": lambda g: g.x[:-1, 1:3],
    "neighbours": lambda g: g.x[1:] * g.x[:-1],
    "differences": lambda g: np.diff(g.x, axis=0),
    "second differences": lambda g: np.diff(np.concatenate([g.x, g.x]), n=2, axis=0),
    "length of a path": lambda g: np.sum(np.sqrt(np.sum((g.x[1:] - g.x[:-1]) ** 2, axis=1) + 1)),
    "the first one": lambda g: g.x[:1] * 2,
    "the last one": lambda g: g.x[-1:, ::-1],
    "mean without the first": lambda g: np.sum(np.tanh(g.x[1:]), axis=0) / g.x.shape[0],
    "pairs without the first": lambda g: np.sum(g.x[1:, 0][:, None] * g.x[:, 1][None, :], axis=1),
    "a block without its first column": lambda g: np.sum((g.x[:, 0][:, None] - g.x[:, 1][None, :])[:, 1:], axis=0),
    "softmax over rows": lambda g: softmax(g.x.T),
    "special softmax": lambda g: mg.special.softmax(g.x, axis=0) + mg.special.softmax(g.x, axis=1),
    "special softmax of all": lambda g: mg.special.softmax(g.x),
    "special logsumexp": lambda g: mg.special.logsumexp(g.x, axis=1) + mg.special.logsumexp(g.x[:, 1]),
    "special log_softmax": lambda g: mg.special.log_softmax(g.x, axis=0) * mg.special.log_softmax(g.x, axis=-1),
    "rows by numbers": lambda g: g.x[np.array([0, -1, 0])] * 2,
    "a column by numbers": lambda g: g.x[:, 0][np.array([[0], [-1]])],
    "pair max": lambda g: np.max(g.x[:, 0][:, None] - g.x[:, 1][None, :], axis=1),
    "checkpoint": lambda g: mg.checkpoint(lambda x, y: np.tanh(x[:, :3] @ np.diag(y)).sum(axis=0))(g.x, g.y)
    if not isinstance(g.x, np.ndarray) else np.tanh(g.x[:, :3] @ np.diag(g.y)).sum(axis=0),
    "vmap of rows": lambda g: mg.vmap(lambda r: np.sum(np.tanh(r)) * r)(g.x) if not isinstance(g.x, np.ndarray)
    else np.tanh(g.x).sum(axis=1)[:, None] * g.x,
    "median": lambda g: np.median(g.x, axis=0),
    "median of all": lambda g: np.median(g.x, keepdims=True),
    "quantile": lambda g: np.quantile(g.x, 0.3, axis=0),
    "quantiles": lambda g: np.quantile(g.x, [[0.0, 0.25], [0.8, 1.0]], axis=0),
    "percentile of all": lambda g: np.percentile(g.x, 35),
    "quantile by another method": lambda g: np.quantile(g.x, 0.4, axis=0, method="hazen", keepdims=True),
    "lower quantile": lambda g: np.quantile(g.x, 0.4, axis=0, method="lower"),
    "quantile without nan": lambda g: np.nanquantile(np.where(g.x > 2, np.nan, g.x), 0.6, axis=1),
    "negative samples": lambda g: g.x[mg.random.randint(KEY, (5,), 0, g.x.shape[0])],
    "medians of lines": lambda g: np.median(g.x[:, 0][:, None] - g.x[:, 1][None, :], axis=1),
    "medians of columns": lambda g: np.median(g.x[:, 0][:, None] - g.x[:, 1][None, :], axis=0),
    "middle row": lambda g: np.partition(g.x, g.x.shape[0] // 2, axis=0)[g.x.shape[0] // 2],
    "interpolation": lambda g: np.interp(g.y, np.sort(g.x[:, 0]), g.x[:, 1]),
    "nearest other rows": lambda g: g.x[np.argsort(np.sum((g.x[:, None] - g.x[None]) ** 2, axis=2), axis=1)[:, :1]],
    "rows by the size": lambda g: g.x[1:g.x.shape[0]] * g.x[:g.x.shape[0] - 1],
    "a row by the size": lambda g: g.x[g.x.shape[0] - 1] + g.x[g.x.shape[0] // 2],
    "backwards to the second": lambda g: g.x[:0:-1],
    "pad by the edge": lambda g: np.pad(g.x, ((2, 1), (0, 0)), mode="edge"),
    "pad by reflection": lambda g: np.pad(g.x, ((2, 3), (0, 0)), mode="reflect"),
    "pad by symmetry": lambda g: np.pad(g.x, ((2, 3), (0, 0)), mode="symmetric"),
    "pad around": lambda g: np.pad(g.x, ((2, 3), (1, 0)), mode="wrap"),
    "convolution": lambda g: np.convolve(g.x[:, 0], [0.5, 2.0, -1.0]),
    "convolution with a value": lambda g: np.convolve(g.y, g.x[:, 1]),
    "convolution of one": lambda g: np.convolve(g.x[:, 0], [2.0], "same") + np.correlate(g.x[:, 0], [3.0]),
    "windows": lambda g: np.lib.stride_tricks.sliding_window_view(g.x, 1, axis=0),
    "delete": lambda g: np.concatenate([np.delete(g.x, 0, axis=0), np.delete(g.x, -1, axis=0)]),
    "split": lambda g: np.split(g.x, [1], axis=0)[1] + np.split(g.x, [-1], axis=0)[0],
    "squeeze": lambda g: np.squeeze(g.x[:, :1], axis=1),
    "unwrap": lambda g: np.unwrap(3 * g.x, axis=0),
    "centred": lambda g: g.x - np.mean(g.x, axis=0),
}

NOT_EMPTY = {name: s for name, s in SIZES.items() if all(n for n, _ in s)}
CASES = [(name, f, sizes) for name, f in ANY.items() for sizes in SIZES]
CASES += [(name, f, sizes) for name, f in ROWS.items() for sizes in NOT_EMPTY]


@pytest.mark.parametrize(("name", "f", "sizes"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_vmap_equals_the_loop(name, f, sizes):
    examples = molecules(SIZES[sizes])
    have = unbatched(mg.vmap(f)(mg.batch(examples)))
    want = [f(g) for g in examples]
    assert len(have) == len(want)
    for k, (h, w) in enumerate(zip(have, want, strict=True)):
        close(h, w, f"example {k}")


def scalar(f):
    def loss(p, g):
        moved = type(g)(g.x * p["x"] + p["b"], g.src, g.dst, g.w * p["w"], g.y * p["y"])
        out = f(moved)
        return np.sum(np.sin(out * 1.0))

    return loss


PARAMS = {"x": RNG.normal(size=4), "b": RNG.normal(size=4), "w": np.array(1.3), "y": RNG.normal(size=3)}
INTEGERS = ("range by threes", "range of edges and nodes", "any",
            "all", "count", "argsort", "argmax", "argmin", "number of rows", "position", "constant of the size",
            "only shared")
SMOOTH = [(n, f, "empty middle") for n, f in ANY.items() if n not in INTEGERS]
SMOOTH += [(n, f, "mixed") for n, f in ROWS.items() if n not in INTEGERS]


@pytest.mark.parametrize(("name", "f", "sizes"), SMOOTH, ids=lambda v: v if isinstance(v, str) else "")
def test_gradients_equal_the_loop(name, f, sizes):
    examples = molecules(SIZES[sizes])
    batch = mg.batch(examples)
    loss = scalar(f)
    each = [mg.grad(loss)(PARAMS, g) for g in examples]
    of_mean = mg.grad(mg.mean_loss(loss, in_axes=(None, 0)))(PARAMS, batch)
    per_example = mg.per_example_grad(loss, in_axes=(None, 0))(PARAMS, batch)
    step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))
    value, compiled = step(PARAMS, batch)
    close(value, np.mean([loss(PARAMS, g) for g in examples]), "value")
    tangent = {k: np.cos(v) for k, v in PARAMS.items()}
    _, pushed = mg.jvp(lambda p: mg.mean_loss(loss, in_axes=(None, 0))(p, batch), (PARAMS,), (tangent,))
    close(pushed, sum(np.sum(of_mean[k] * tangent[k]) for k in PARAMS), "jvp")
    for k in PARAMS:
        want = [e[k] for e in each]
        close(per_example[k], want, f"per-example gradient of {k}")
        close(of_mean[k], np.mean(want, axis=0), f"gradient of {k}")
        close(compiled[k], np.mean(want, axis=0), f"compiled gradient of {k}")


@pytest.mark.parametrize(("name", "f", "_"), SMOOTH, ids=lambda v: v if isinstance(v, str) else "")
def test_one_program_for_all_batches(name, f, _):
    run = mg.compile(mg.vmap(f))
    sizes = NOT_EMPTY if name in ROWS else SIZES
    for kind in sizes:
        examples = molecules(sizes[kind], seed=1)
        for h, g in zip(unbatched(run(mg.batch(examples))), examples, strict=True):
            close(h, f(g), kind)
    assert len(run.entries) == 1


SLICED = {"diff": lambda g: np.sum(np.diff(g.x, axis=0)), "three": lambda g: np.sum(g.x[3:]),
          "number": lambda g: g.x[3:].shape[0] * 1.0, "product": lambda g: np.sum(g.x[2:, 0] * g.x[1:-1, 1])}


@pytest.mark.parametrize("how", ["as it is", "numpy", "native"])
@pytest.mark.parametrize("sizes", [[(3, 1), (0, 0), (4, 1)], [(0, 0), (0, 0)]])
@pytest.mark.parametrize("what", SLICED)
def test_slices_longer_than_an_example_raise(what, how, sizes):
    one = SLICED[what]
    f = mg.vmap(one)
    run = f if how == "as it is" else mg.compile(f, backend=how)
    good = mg.batch(molecules([(3, 1), (5, 0), (4, 1)]))
    np.testing.assert_allclose(run(good), [one(g) for g in good.unbatch()])
    empty = next(k for k, (n, _) in enumerate(sizes) if not n)
    words = f"example {empty} has fewer rows than a slice of it leaves out|fewer rows than a slice of them leaves out"
    with pytest.raises(ValueError, match=words):
        run(mg.batch(molecules(sizes)))
    np.testing.assert_allclose(run(good), [one(g) for g in good.unbatch()])


@pytest.mark.parametrize("how", ["as it is", "numpy", "native"])
@pytest.mark.parametrize("key", [0, -1, np.s_[:1], np.s_[-2:], np.s_[:, 0], np.s_[:, :1], [0, 1]])
def test_rows_of_empty_blocks(key, how):
    f = mg.vmap(lambda m: m[np.array(key) if isinstance(key, list) else key])
    run = f if how == "as it is" else mg.compile(f, backend=how)
    good = mg.batch([np.arange(9.0).reshape(3, 3), np.ones((2, 2))], mg.f64[node, node])
    for have, m in zip(run(good).unbatch(), good.unbatch(), strict=True):
        np.testing.assert_array_equal(have, m[key])
    with pytest.raises(ValueError, match=r"an index is out of range: example 1 has fewer than \d rows"):
        run(mg.batch([np.ones((2, 2)), np.zeros((0, 0))], mg.f64[node, node]))


@mg.custom_vjp(lambda g, out, x: (g * np.where(abs(x) < 1, 1.0, 0.25),))
def clipped(x):
    return np.where(abs(x) < 1, x, np.sign(x))


@mg.custom_jvp(lambda d, out, x: d[0] * 2 * x)
def square(x):
    return x**2


@mg.custom_vjp(lambda g, out, w, x: (x.T @ (g * 3), 2 * (g @ w.T)))
def linear(w, x):
    return x @ w


@mg.custom_jvp(lambda d, out, w, x: 3 * (x @ d[0]) + 2 * (d[1] @ w))
def pushed(w, x):
    return x @ w


@mg.custom_vjp(lambda g, out, x: (np.ones_like(x) * g / x.shape[0],))
def middle(x):
    return np.sum(x, axis=0) / x.shape[0]


@mg.custom_vjp(lambda g, out, x, i: (mg.segment_sum(g * 2, i, x.shape[0]), None))
def picked(x, i):
    return x[i]


OWN = {"elementwise": lambda p, g: clipped(g.x * p["a"]), "elementwise, forward": lambda p, g: square(g.x * p["a"]),
       "something shared": lambda p, g: linear(p["w"], g.x * p["a"]),
       "something shared, forward": lambda p, g: pushed(p["w"], g.x * p["a"]),
       "a mean of rows": lambda p, g: middle(g.x * p["a"]), "an index": lambda p, g: picked(g.x * p["a"], g.src),
       "one in another": lambda p, g: clipped(middle(linear(p["w"], square(g.x * p["a"]))[g.src]))}


@pytest.mark.parametrize("what", OWN)
def test_custom_rules(what):
    """They differ from what differentiation would find, so that it shows that they are asked."""
    def loss(p, g):
        return np.sum(np.sin(OWN[what](p, g)))

    p, examples = {"a": np.arange(1.0, 5) / 2, "w": W}, molecules(SIZES["mixed"])
    batch, mean = mg.batch(examples), mg.mean_loss(loss, (None, 0))
    each = [mg.grad(loss)(p, g) for g in examples]
    for how in (lambda f: f, mg.compile, lambda f: mg.compile(f, backend="numpy")):
        value, gradient = how(mg.value_and_grad(mean))(p, batch)
        per_example = how(mg.per_example_grad(loss, in_axes=(None, 0)))(p, batch)
        close(value, np.mean([loss(p, g) for g in examples]))
        for k in p:
            close(per_example[k], [e[k] for e in each], k)
            close(gradient[k], np.mean([e[k] for e in each], axis=0), k)
    tangent = {"a": np.ones(4), "w": np.cos(W)}
    _, slope = mg.jvp(lambda p: mean(p, batch), (p,), (tangent,))
    close(slope, sum(np.sum(gradient[k] * tangent[k]) for k in p))


def test_constants_in_a_checkpoint():
    examples = molecules(SIZES["mixed"])
    have = mg.vmap(lambda g: mg.checkpoint(lambda x: np.where(x > 0, x, 0.5).sum(axis=0))(g.x))(mg.batch(examples))
    close(have, [np.where(g.x > 0, g.x, 0.5).sum(axis=0) for g in examples])


def test_missing_rows_raise_when_the_program_runs():
    with pytest.raises(IndexError, match="index 1 is out of range for an example with 1 rows"):
        mg.vmap(lambda g: g.x[:2].sum())(mg.batch(molecules([(3, 1), (1, 0)])))


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("ufunc", [np.maximum, np.minimum, np.fmax, np.fmin, np.multiply])
def test_running_extremes_stop_nan_at_the_example(ufunc, backend):
    values = [[1.0, np.nan, 3.0, 2.0], [], [5.0, -0.0, 0.0], [np.nan], [np.nan, np.inf, -np.inf]]
    examples = [np.stack([v, v[::-1]], axis=1) for v in map(np.array, values)]
    program = mg.compile(mg.vmap(lambda x: ufunc.accumulate(x, axis=0)), backend=backend)
    for h, x in zip(program(mg.batch(examples, mg.f64[node, 2])).unbatch(), examples, strict=True):
        np.testing.assert_array_equal(h, ufunc.accumulate(x, axis=0))


def test_equal_rows_share_the_cotangent_of_a_running_extreme():
    examples = [np.array([2.0, 2.0, 2.0, 1.0, 3.0]), np.array([]), np.array([1.0, 1.0])]
    gradients = mg.per_example_grad(lambda x: np.sum(np.maximum.accumulate(x)))(mg.batch(examples, mg.f64[node]))
    third = 2 / 3  # of the third place and the fourth, whose extreme three elements share
    for h, want in zip(gradients.unbatch(), ([1.5 + third, 0.5 + third, third, 0, 1], [], [1.5, 0.5]), strict=True):
        np.testing.assert_allclose(h, want)


def test_hessians_of_products_with_zeros_along_a_ragged_axis():
    examples = [np.array([2.0, 0.0, 3.0]), np.array([]), np.array([0.0, 0.0]), np.array([4.0])]
    want = [[7.0, 7.0 + 4.0, 4.0], [], [2.0, 2.0], [0.0]]  # of x + x y + 2 x y z, at equal directions

    def product(x):
        return mg.hvp(lambda x: np.sum(np.cumprod(x)) + np.prod(x), (x,), (np.ones_like(x),))

    for how in (lambda f: f, mg.compile):
        have = how(mg.vmap(product))(mg.batch(examples, mg.f64[node])).unbatch()
        for h, w in zip(have, want, strict=True):
            np.testing.assert_allclose(h, w, atol=1e-12)


@pytest.mark.parametrize("key", [np.s_[1::-1], np.s_[4:1:-1], np.s_[:1:-1], np.s_[-1:-4:-1], np.s_[-3:], np.s_[2:5]])
def test_slices_of_as_many_rows_in_each_example(key):
    examples = molecules([(5, 0), (7, 2)])
    for h, g in zip(unbatched(mg.vmap(lambda g: g.x[key])(mg.batch(examples))), examples, strict=True):
        np.testing.assert_array_equal(h, g.x[key])


FEW = {"np.convolve: example 1 has fewer than 3 rows": lambda g: np.convolve(g.x[:, 0], [1.0, 2.0, 3.0], "same"),
       "np.correlate: example 1 has fewer than 3 rows": lambda g: np.correlate(g.x[:, 0], [1.0, 2.0, 3.0]),
       "np.gradient: example 1 has fewer than 2 rows": lambda g: np.gradient(g.x, axis=0),
       "a window of 4: example 1 has fewer than 4 rows": lambda g: mnp.windows(g.x.T, 4),
       "sliding_window_view: example 1 has fewer than 2 rows":
       lambda g: np.lib.stride_tricks.sliding_window_view(g.x, 2, axis=0),
       "index -1 is out of range for an axis of size 1": lambda g: g.x[g.x.shape[0] - 2:]}


@pytest.mark.parametrize("how", ["as it is", "numpy", "native"])
@pytest.mark.parametrize("message", FEW)
def test_examples_with_too_few_rows_are_named(message, how):
    f = mg.vmap(FEW[message])
    run = f if how == "as it is" else mg.compile(f, backend=how)
    good = mg.batch(molecules([(4, 2), (5, 0)]))
    if "a window" not in message:
        for h, g in zip(unbatched(run(good)), good.unbatch(), strict=True):
            close(h, FEW[message](g))
    error = IndexError if "index" in message else ValueError
    message = f"{message}|fewer rows than a slice of them leaves out|index out of range"
    with pytest.raises(error, match=message):
        run(mg.batch(molecules([(4, 2), (1, 0)])))


def after(value, result):
    return result


DROPPED = {"a number": lambda w, g: after(g.x[1], w * np.sum(g.x)), "from the end": lambda w, g: after(g.x[-2], w),
           "an array": lambda w, g: after(g.x[np.array([0, 1])], w),
           "of a size": lambda w, g: after(g.x[0 * g.x.shape[0] + 1], w),
           "max": lambda w, g: np.max(g.x[1:] * w), "convolve": lambda w, g: np.sum(np.convolve(g.x[1:, 0] * w, [1.0]))}


@pytest.mark.parametrize("how", ["as it is", "numpy", "native"])
@pytest.mark.parametrize("name", DROPPED)
def test_derivatives_refuse_what_the_loss_refuses(name, how):
    loss = mg.mean_loss(DROPPED[name], in_axes=(None, 0))
    batch = mg.batch(molecules([(4, 2), (1, 0)]))
    error = ValueError if name in ("max", "convolve") else IndexError
    for f in (loss, mg.grad(loss), mg.value_and_grad(loss), mg.per_example_grad(DROPPED[name], in_axes=(None, 0)),
              lambda w, b: mg.jvp(lambda w: loss(w, b), (w,), (1.0,)), mg.hessian(loss)):
        run = f if how == "as it is" else mg.compile(f, backend=how)
        with pytest.raises(error, match=r"test_rules\.py:\d+.* example 1\b"):
            run(1.0, batch)


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_bounds_of_slices_follow_pythons_rules(backend):
    """All examples of up to six rows at once, and every pair of bounds beyond both ends."""
    examples = [np.arange(n, dtype=float) for n in (*range(7), 0)]
    batch, ends = mg.batch(examples, mg.f64[node]), (None, -8, -6, -3, -1, 0, 2, 5, 9)

    def parts(x, ends):
        return [x[slice(low, high, step)] for step in (1, 2, -1, -3) for low in ends for high in ends]

    def traced_parts(x, k):
        return parts(x, [None, *(k[i] for i in range(len(ends) - 1))])

    results = mg.compile(mg.vmap(traced_parts, in_axes=(0, None)), backend=backend)(batch, np.array(ends[1:]))
    for have, want in zip(results, zip(*(parts(x, ends) for x in examples), strict=True), strict=True):
        for h, w in zip(have.unbatch() if isinstance(have, mg.Batch) else have, want, strict=True):
            np.testing.assert_array_equal(h, w)


def test_bounds_that_are_no_integers_are_refused():
    for bound in (lambda g: g.x[0, 0], lambda g: g.src[:2], lambda g: g.x.shape[0] > 1):
        with pytest.raises(mg.DtypeError, match=r"a slice of f64\[node, 4\] with the bound .*: it is one integer"):
            mg.vmap(lambda g, bound=bound: g.x[:bound(g)])(mg.batch(molecules([(3, 1)])))


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_medians_of_nan_and_ties(backend):
    examples = [np.array(v) for v in ([1.0, np.nan, 2.0], [2.0, 2.0, 1.0, 2.0], [5.0, -0.0, 0.0], [3.0])]
    for f in (np.median, np.nanmedian, lambda x: np.quantile(x, 0.5)):
        have = mg.compile(mg.vmap(lambda x, f=f: f(x)), backend=backend)(mg.batch(examples, mg.f64[node]))
        np.testing.assert_array_equal(have, [f(x) for x in examples])
    with pytest.raises(ValueError, match=r"np\.median: example 1 has no rows"):
        mg.compile(mg.vmap(np.median), backend=backend)(mg.batch([examples[0], np.ones(0)], mg.f64[node]))


RAISE = {"max": np.max, "min": np.min, "ptp": np.ptp, "argmax": np.argmax, "argmin": np.argmin, "nanmax": np.nanmax,
         "nanargmin": np.nanargmin, "reduce": np.maximum.reduce, "quantile": lambda x: np.quantile(x, 0.3),
         "of rows": lambda x: np.max(x[:, None] * np.ones(2)), "first": lambda x: x[0], "last": lambda x: x[-1],
         "interp": lambda x: np.interp(0.5, x, x), "largest of order": lambda x: x[np.argsort(x)[-1]],
         "least": lambda x: np.linalg.norm(x, -np.inf)}
NEVER = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "var": np.var, "any": np.any, "count": np.count_nonzero,
         "norm": np.linalg.norm, "largest": lambda x: np.linalg.norm(x, np.inf), "logaddexp": np.logaddexp.reduce,
         "initial": lambda x: np.max(x, initial=-9.0),
         "softmax": lambda x: np.sum(mg.special.softmax(x)), "logsumexp": mg.special.logsumexp,
         "of columns": lambda x: np.linalg.norm(x[:, None] * np.ones(2), 1)}


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value", "ignore:Degrees of freedom")
@pytest.mark.parametrize("use", [lambda y, x: y * 1.0, lambda y, x: np.sum(x)], ids=["read", "unread"])
@pytest.mark.parametrize("name", RAISE | NEVER)
def test_reductions_of_no_rows_raise_where_the_loop_does(name, use):
    reduction = (RAISE | NEVER)[name]

    def f(x):
        return use(reduction(x), x)

    examples = [np.array([1.0, 2.0]), np.ones(0), np.array([3.0])]
    batch = mg.batch(examples, mg.f64[node])
    for g in (mg.vmap(f), mg.vmap(mg.grad(f)), mg.microbatch(mg.vmap(f), 2)):
        for run in (g, mg.compile(g, backend="numpy"), mg.compile(g, backend="native")):
            if name in RAISE:
                with pytest.raises((ValueError, IndexError)):
                    run(batch)
            else:
                run(batch)
    if name in RAISE:
        with pytest.raises((ValueError, IndexError)):
            f(examples[1])
    else:
        np.testing.assert_array_equal(mg.vmap(f)(batch), [f(x) for x in examples])


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_a_key_per_example(backend):
    """Each example draws what it draws alone, whatever the batch."""
    keys = mg.random.split(mg.random.key(1), 5)
    examples = [np.ones((n, 3)) for n in (2, 0, 7, 1, 4)]

    def draw(key, x):
        n = x.shape[0]
        return mg.random.normal(key, x.shape), mg.random.bits(key, (3, n, 2)), mg.random.permutation(key, n)

    have = mg.compile(mg.vmap(draw), backend=backend)(keys, mg.batch(examples, mg.f64[node, 3]))
    for k, (key, x) in enumerate(zip(keys, examples, strict=True)):
        for h, w in zip(have, draw(key, x), strict=True):
            np.testing.assert_allclose(h.unbatch()[k], w, rtol=1e-13)


def test_random_integers_below_no_size_are_refused():
    with pytest.raises(IndexError, match="index 0 is out of range for an axis of size 0"):
        mg.vmap(lambda g: mg.random.randint(KEY, (2,), 0, g.x.shape[0]))(mg.batch(molecules([(3, 1), (0, 0)])))


@mg.example
class Labelled:
    x: mg.f64[node, 4]
    kind: mg.i64[node]
    label: mg.i64[()]


@pytest.mark.parametrize("f", [
    lambda t, g: t[g.label] * np.sum(g.x), lambda t, g: t[g.label, 2] * np.sum(g.x),
    lambda t, g: t[g.label, np.array([0, 2])] * np.sum(g.x), lambda t, g: t[g.kind].sum(axis=0),
    lambda t, g: t[g.kind, 1].sum(), lambda t, g: t[g.kind, g.label].sum(), lambda t, g: np.mean(g.x, axis=1).sum(),
    lambda t, g: np.sum(np.sin(np.mean(g.x[:, :, None] * t[0], axis=(1, 2))))])
def test_shared_tables_and_means_of_rows(f):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(5, 3))
    examples = [Labelled(rng.normal(size=(n, 4)), rng.integers(0, 3, n), int(rng.integers(0, 3))) for n in (3, 0, 1, 2)]
    have = mg.compile(mg.vmap(f, in_axes=(None, 0)))(table, mg.batch(examples))
    close(have, [f(table, g) for g in examples])


def blocks(*sizes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=size) for size in sizes]


@pytest.mark.parametrize("f", [
    lambda a: np.sum(np.cumsum(a, axis=1) * a), lambda a: np.sum(np.argsort(a, axis=1) * a),
    lambda a: np.sum(np.sort(a, axis=1) * np.cumsum(np.ones_like(a), axis=1)),
    lambda a: np.sum(np.sort(a.T, axis=1)[0])])
def test_cumsum_and_sort_along_the_last_axis_of_a_block(f):
    examples = blocks((2, 3), (3, 2), (1, 4))
    batch = mg.batch(examples, mg.f64[node, edge])
    close(mg.vmap(f)(batch), [f(a) for a in examples])
    close(mg.compile(mg.vmap(f))(batch), [f(a) for a in examples])


def test_gradient_of_a_sort_along_the_last_axis_of_a_block():
    def f(a):
        return np.sum(np.sort(a, axis=1) ** 2 * np.cumsum(np.ones_like(a), axis=1))

    examples = blocks((2, 3), (0, 2), (3, 1))
    gradients = mg.per_example_grad(f)(mg.batch(examples, mg.f64[node, edge])).unbatch()
    for a, g in zip(examples, gradients, strict=True):
        np.testing.assert_allclose(g, 2 * a * (1 + np.argsort(np.argsort(a, axis=1), axis=1)), rtol=1e-12)


@pytest.mark.parametrize("f", [
    lambda a: np.cumsum(a, axis=0), lambda a: np.sort(a, axis=0), lambda a: np.argsort(a, axis=0),
    lambda a: np.cumprod(a, axis=0), lambda a: np.prod(a, axis=0), lambda a: np.fmin.accumulate(a, axis=0)])
def test_orders_along_the_first_axis_of_a_block(f):
    examples = blocks((2, 3), (0, 2), (4, 1), (3, 0), (1, 2))
    for how in (lambda f: f, mg.compile):
        for h, a in zip(unbatched(how(mg.vmap(f))(mg.batch(examples, mg.f64[node, edge]))), examples, strict=True):
            np.testing.assert_array_equal(h, f(a))


def test_barriers_keep_their_checks_in_a_batch():
    def f(g):
        return np.sum(Array(barrier(g.x._node, in_range(g.label._node, size=2))))

    def batch(*labels):
        return mg.batch([Labelled(np.ones((n, 4)), np.zeros(n, int), k) for n, k in zip((2, 3), labels, strict=True)])

    close(mg.vmap(f)(batch(1, 0)), [8.0, 12.0])
    with pytest.raises(IndexError, match="index 5 is out of range for an axis of size 2"):
        mg.vmap(f)(batch(1, 5))


def test_an_index_per_example_into_a_dense_axis_before_a_ragged_one():
    @mg.example
    class Columns:
        x: mg.f64[node, 3]
        k: mg.i64[()]
        ks: mg.i64[2]

    sizes = ((3, 2), (0, 1), (2, 0))
    examples = [Columns(x=np.arange(3.0 * n).reshape(n, 3), k=k, ks=np.array([k, 0])) for n, k in sizes]
    for f in (lambda g: g.x.T[g.k], lambda g: g.x.T[g.ks]):
        got = unbatched(mg.vmap(f)(mg.batch(examples)))
        for example, value in zip(examples, got, strict=True):
            np.testing.assert_array_equal(value, f(example))
