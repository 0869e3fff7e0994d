"""Passes end: everyday derivatives of everyday losses are compiled in a bounded number of rewrites.

Rewrites are counted, not seconds: `factorize` by its turns, each of which must close a node or a sum for good, and all
passes together by the nodes that they make.
"""

import functools
import itertools
import sys

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad import passes
from minigrad.graph import moment
from minigrad.transforms.symbolic_trace import trace_symbolic

contract = sys.modules["minigrad.passes.factorize"]
rng = np.random.default_rng(0)
ROWS = (None, 0, 0)
MOST_TURNS = 10  # of two runs of the passes: by hand, and in compile
MOST_NODES = 12  # made by all passes, per node of the graph


def network(p, x):
    for w, b in p[:-1]:
        x = np.tanh(x @ w + b)
    return x @ p[-1][0] + p[-1][1]


def layers(*sizes):
    return [(rng.normal(size=(n, m)) / np.sqrt(n), rng.normal(size=m)) for n, m in itertools.pairwise(sizes)]


def squared_error(p, x, y):
    return (network(p, x)[0] - y) ** 2


def two_parameters(p, x, y):
    return (np.tanh(p["a"] @ x) @ p["b"] - y) ** 2


def cross_entropy(p, x, y):
    z = network(p, x)
    z = z - z.max()
    return np.log(np.exp(z).sum()) - z[0] * y


def mixture(p, x, y):
    """Return the negative log-likelihood under a mixture of Gaussians with diagonal covariances."""
    z = p["w"] - 0.5 * (((x - p["mean"]) ** 2) * np.exp(-p["s"]) + p["s"]).sum(axis=1)
    return -np.log(np.exp(z - z.max()).sum()) - z.max() + y * p["w"][0]


LOSSES = {
    "one layer": (squared_error, lambda n: layers(3, n, 1)),
    "two layers": (squared_error, lambda n: layers(3, n, n, 1)),
    "two parameters": (two_parameters, lambda n: {"a": rng.normal(size=(n, 3)), "b": rng.normal(size=n)}),
    "softmax": (cross_entropy, lambda n: layers(3, n)),
    "mixture": (mixture, lambda n: {"w": rng.normal(size=n), "mean": rng.normal(size=(n, 3)),
                                    "s": rng.normal(size=(n, 3))}),
}


def penalised(loss):
    """Return the mean of the loss and of its squared gradient in x."""
    return mg.mean_loss(lambda p, x, y: loss(p, x, y) + (mg.grad(loss, argnums=1)(p, x, y) ** 2).sum(), ROWS)


def laplacian(loss):
    return mg.vmap(lambda p, x, y: np.trace(mg.hessian(loss, argnums=1)(p, x, y)), ROWS)


TRANSFORMS = {
    "grad": lambda f: mg.grad(mg.mean_loss(f, ROWS)),
    "hessian": lambda f: mg.hessian(mg.mean_loss(f, ROWS)),
    "hvp": lambda f: lambda p, x, y: mg.hvp(lambda p: mg.mean_loss(f, ROWS)(p, x, y), (p,), (p,)),
    "per_example_grad": lambda f: lambda p, x, y: [
        (g**2).sum() for g in optree.tree_leaves(mg.per_example_grad(f, in_axes=ROWS)(p, x, y))],
    "hessian of each": lambda f: mg.vmap(mg.hessian(f), ROWS),
    "jacobian of jacobian": lambda f: mg.vmap(mg.jacobian(mg.jacobian(f, argnums=1), argnums=0), ROWS),
    "gradient penalty": lambda f: mg.grad(penalised(f)),
    "hessian of a gradient penalty": lambda f: mg.hessian(penalised(f)),
    "laplacian": laplacian,
    "gradient of a laplacian": lambda f: mg.grad(lambda p, x, y: (laplacian(f)(p, x, y) ** 2).mean()),
    "microbatch": lambda f: mg.hessian(mg.microbatch(mg.mean_loss(f, ROWS), 3)),
}


def nodes_within(graph):
    """Return the number of nodes, those of the graphs that nodes hold included."""
    held = [v for n in graph.nodes for p in n.params.values() for v in (p if isinstance(p, tuple) else (p,))]
    return len(graph.nodes) + sum(nodes_within(v) for v in held if isinstance(v, mg.Graph))


@pytest.mark.parametrize("size", [1, 4, 12])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", LOSSES)
def test_compilation_terminates(name, transform, size, monkeypatch):
    loss, parameters = LOSSES[name]
    f, args = TRANSFORMS[transform](loss), (parameters(size), rng.normal(size=(9, 3)), rng.normal(size=9))
    turns, settled = [], contract._Search.settled

    @functools.wraps(settled)
    def watched(search):
        before = len(search.closed), len(search.literal)
        done = settled(search)
        after = len(search.closed), len(search.literal)
        assert done or sum(after) > sum(before)  # the measure: what may be rewritten gets less
        turns.append(after)
        assert len(turns) <= MOST_TURNS
        return done

    monkeypatch.setattr(contract._Search, "settled", watched)
    graph = trace_symbolic(f, args, {}).graph
    start = moment()
    passes.run(graph)
    assert moment() - start <= MOST_NODES * nodes_within(graph)

    got, want = mg.compile(f, backend="numpy")(*args), f(*args)
    for a, b in zip(optree.tree_leaves(got), optree.tree_leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10 * (1 + np.abs(b).max()))


@pytest.mark.parametrize("transform", ["hessian", "hessian of each", "gradient penalty"])
def test_factorize_lowers_the_cost(transform):
    for loss, parameters in LOSSES.values():
        for size in (4, 12):
            f = TRANSFORMS[transform](loss)
            _, stages = passes.run(trace_symbolic(f, (parameters(size), np.ones((9, 3)), np.ones(9)), {}).graph)
            for stage in stages:
                if stage.name == "factorize":
                    before, after = (sum(contract._cost(n) for n in g.nodes if n.inputs)
                                     for g in (stage.before, stage.after))
                    assert after < before


def test_the_hessian_of_a_small_network_over_rows_compiles():
    """The closed form: ``r = tanh(a x) b - y``, Hessian ``2 (r' r'^T + r r'')``, and ``r''`` in b is 0."""
    p, x, y = LOSSES["two parameters"][1](4), rng.normal(size=(40, 3)), rng.normal(size=40)
    h = mg.compile(TRANSFORMS["hessian"](two_parameters))(p, x, y)
    t = np.tanh(x @ p["a"].T)
    np.testing.assert_allclose(h["b"]["b"], 2 * t.T @ t / 40, rtol=1e-10)
    s, r = 1 - t**2, t @ p["b"] - y
    slope = 2 * (np.einsum("n,ni,ij->nij", r, s, np.eye(4)) + np.einsum("ni,nj,i->nij", s, t, p["b"]))
    np.testing.assert_allclose(h["a"]["b"], np.einsum("nij,nk->ikj", slope, x) / 40, rtol=1e-9, atol=1e-12)
