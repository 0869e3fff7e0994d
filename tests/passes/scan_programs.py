"""Programs of scans for the tests of the passes on scans, with the graph and the notes of the passes."""

import numpy as np
import optree

import minigrad as mg

rng = np.random.default_rng(0)
T, N, M, B = 6, 5, 7, 4
W, U = rng.normal(size=(N, M)) / 3, rng.normal(size=(M, M)) / 3
C = rng.normal(size=M) / 3
XS, XB = rng.normal(size=(T, N)), rng.normal(size=(B, T, N))


def rnn(p, xs, reverse=False):
    def step(h, x):
        h = np.tanh(x @ p[0] + h @ p[1] + p[2])
        return h, h * 2.0

    h, ys = mg.scan(step, np.zeros_like(p[2]), xs, reverse=reverse)
    return (h**2).sum() + np.sin(ys).sum()


def lstm(p, xs):
    def step(state, x):
        h, c = state
        i, f, o, g = (x @ p[0] + h @ p[1]).reshape(4, -1)
        c = mg.special.expit(f) * c + mg.special.expit(i) * np.tanh(g)
        h = mg.special.expit(o) * np.tanh(c)
        return (h, c), None

    (h, c), _ = mg.scan(step, (np.zeros(M), np.zeros(M)), xs)
    return (h * c).sum()


LSTM = rng.normal(size=(N, 4 * M)) / 3, rng.normal(size=(M, 4 * M)) / 3
P = W, U, C


def nested(p, xs):
    def outer(h, x):
        inner, ys = mg.scan(lambda k, z: (np.sin(k @ p[1] + (x @ p[0]) * z), k * z), h, np.arange(1.0, 4.0))
        return inner, ys.sum()

    h, ys = mg.scan(outer, np.ones(M), xs)
    return h.sum() + (ys**2).sum()


def counted(p, xs):
    """A carry of integers that counts, one that is handed on as it is, one that adds up."""
    def step(state, x):
        n, same, total = state
        return (n + 1, same, total + x * same.sum()), (x, n * 2)

    (n, same, total), (ys, ns) = mg.scan(step, (np.asarray(3), p[2], np.zeros(N)), xs)
    return n, same, total, ys, ns


def squares(g):
    return sum((x**2).sum(axis=tuple(range(1, x.ndim))) for x in optree.tree_leaves(g))


PROGRAMS = {
    "forward": (rnn, (P, XS)),
    "gradient": (mg.value_and_grad(rnn, argnums=(0, 1)), (P, XS)),
    "reverse": (mg.value_and_grad(lambda p, xs: rnn(p, xs, True)), (P, XS)),
    "one step": (mg.value_and_grad(rnn), (P, XS[:1])),
    "no step": (mg.value_and_grad(rnn), (P, XS[:0])),
    "lstm": (mg.value_and_grad(lstm), (LSTM, XS)),
    "under vmap": (mg.value_and_grad(mg.mean_loss(rnn, (None, 0))), (P, XB)),
    "per-example gradients": (mg.per_example_grad(rnn, in_axes=(None, 0)), (P, XB)),
    "norms": (lambda p, x: squares(mg.per_example_grad(rnn, in_axes=(None, 0))(p, x)), (P, XB)),
    "nested": (nested, (P, XS)),
    "nested, gradient": (mg.value_and_grad(nested), (P, XS)),
    "jvp": (lambda p, xs: mg.jvp(rnn, (p, xs), (tuple(map(np.cos, p)), np.sin(xs))), (P, XS)),
    "gradient of a gradient": (mg.grad(lambda p, xs: sum((g**2).sum() for g in mg.grad(rnn)(p, xs))), (P, XS)),
    "checkpoint": (mg.value_and_grad(lambda p, xs: mg.scan(mg.checkpoint(
        lambda h, x: (np.tanh(x @ p[0] + h @ p[1]), None)), p[2], xs)[0].sum()), (P, XS)),
    "integers": (counted, (P, XS)),
}


def same_values(fast, literal, args):
    for got, want in zip(optree.tree_leaves(fast(*args)), optree.tree_leaves(literal(*args)), strict=True):
        assert np.shape(got) == np.shape(want)
        assert np.asarray(got).dtype == np.asarray(want).dtype
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11 * max(1.0, np.abs(want).max(initial=0)))


SCANS = ("hoist_scan", "sum_after_scan", "shrink_scan")


def compiled_graph(f, args, **kwargs):
    """Return the graph that a backend gets, and the notes of each pass on scans that changed it."""
    entry = mg.compile(f, backend="numpy", **kwargs).build(*args)
    graph = next(s.before for s in entry.stages if s.name == "fuse")
    return graph, {s.name: s.note for s in entry.stages if s.name in SCANS}


def loops(graph):
    return [n for n in graph.nodes if n.prim.name == "scan"]
