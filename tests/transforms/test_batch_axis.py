"""Roles of nodes along the batch axis: every primitive's batch is row by row, and what is not is refused."""

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES, TupleType
from minigrad.ops.control import parts
from minigrad.traced_array import Array

from .common import close

B = 3
PACKED = {  # which only the rules of examples of different size make, and their batches number rows across examples
    "segment_ids", "segment_cumsum", "segment_argsort", "block_einsum", "flatnonzero", "packed_scan", "tree_scan"}
CASES = {f"{name}-{i}": (prim, sample) for name, prim in sorted(PRIMITIVES.items())
         for i, sample in enumerate(prim.samples()) if sample.arrays and name not in PACKED}


def apply(prim, params):
    """Return the primitive as a function of traced values, with a list of results."""
    def f(*xs):
        node = prim(*(x._node for x in xs), **params)
        return [Array(p) for p in parts(node)] if isinstance(node.type, TupleType) else [Array(node)]

    return f


def examples(x):
    """Return three arrays like `x`, of which each has values of its own; integers may be indices, and stay."""
    x = np.asarray(x)
    return np.stack([(x * (1 - 0.1 * k)).astype(x.dtype) if x.dtype.kind == "f" else x for k in range(B)])


@pytest.mark.parametrize("case", CASES)
def test_the_batch_of_every_primitive_is_row_by_row(case):
    prim, sample = CASES[case]
    arrays = [np.asarray(a) for a in sample.arrays]
    f = apply(prim, sample.params)
    ways = [(0,) * len(arrays), *(tuple(0 if i == k else None for i in range(len(arrays))) for k in range(len(arrays)))]
    for axes in dict.fromkeys(ways):
        whole = mg.vmap(f, axes)
        args = [a if axis is None else examples(a) for a, axis in zip(arrays, axes, strict=True)]
        for size in (1, 2, B):
            close(mg.microbatch(whole, size)(*args), whole(*args))


# name: (function of a batch, why it mixes examples)
MIXED = {
    "scan along the batch, carry": (lambda X: mg.scan(lambda c, x: (c + x, None), np.zeros(4), X)[0], "goes along"),
    "scan along the batch, stack": (lambda X: mg.scan(lambda c, x: (c + x, c), np.zeros(4), X)[1], "goes along"),
    "scan that adds a mean": (lambda X: mg.scan(lambda c, t: (c + np.mean(X * t), None), 0.0, np.arange(3.0))[0],
                              "summed away"),
    "scan that squares a sum": (lambda X: mg.scan(lambda c, t: (c + np.sum(X * t) ** 2, None), 0.0, np.arange(3.0))[0],
                                "summed away"),
    "scan of sums that starts elsewhere": (
        lambda X: mg.scan(lambda c, t: (c + np.sum(X * t), None), 1.0, np.arange(3.0))[0], "summed away"),
    "scan that divides by the number": (
        lambda X: mg.scan(lambda c, t: (c + X / X.shape[0], None), 0 * X, np.arange(3.0))[0], "number of examples"),
    "scan that mixes rows": (lambda X: mg.scan(lambda c, t: (np.flip(c, 0), None), X, np.arange(3.0))[0],
                             "flip.*along the batch axis"),
    "loop until all are done": (
        lambda X: mg.while_loop(lambda s: np.any(s[:, 0] > 0), lambda s: s - 1, X), "test mixes examples"),
    "loop that counts until all are done": (
        lambda X: mg.while_loop(lambda s: np.any(s[0][:, 0] > 0), lambda s: (s[0] - 1, s[1] + 1), (X, 0))[1],
        "test mixes examples"),
    "choice by a sum": (lambda X: mg.cond(np.sum(X) > 0, lambda: X, lambda: -X), "batch statistic"),
    "rows times a sum": (lambda X: np.einsum("bi,bj,ij->", X, X, np.sum(X, axis=0)[:, None] * np.ones(4)),
                         "batch statistic"),
    "a rule that mixes rows": (
        mg.custom_vjp(lambda g, out, X: (g - np.flip(g, 0),))(lambda X: np.sin(X)), "in the custom, flip"),
    "a rule that averages rows": (
        lambda X: mg.custom_vjp(lambda g, out, w, X: (np.mean(g, axis=0), g))(lambda w, X: w * X)(np.ones(4), X),
        "rule mixes examples"),
    "noise for the whole batch": (lambda X: X * mg.random.normal(mg.random.key(0), X.shape), "not a row of the batch"),
    "a function of all rows": (
        lambda X: mg.callback(lambda X: X - X.mean(0), mg.f64[X.shape[0], 4], X), "called once for several"),
}


@pytest.mark.parametrize("name", MIXED)
def test_a_program_that_mixes_examples_is_refused(name):
    f, why = MIXED[name]
    X = np.random.default_rng(0).normal(size=(5, 4))
    with pytest.raises(mg.BatchError, match=why):
        mg.microbatch(f, 2)(X)


def test_sums_over_examples_may_be_carried_from_zero():
    X = np.random.default_rng(0).normal(size=(5, 4))

    def f(X):
        total, sums = mg.scan(lambda c, t: (c + 2 * np.sum(np.tanh(X * t), axis=0), c), np.zeros(4), np.arange(3.0))
        return np.sqrt(np.abs(total)), sums

    steps = [2 * np.tanh(X * t).sum(0) for t in range(3)]
    want = np.sqrt(np.abs(sum(steps))), np.stack([np.zeros(4), steps[0], steps[0] + steps[1]])
    for size in (1, 2, 5, 6):
        close(mg.microbatch(f, size)(X), want)
        close(mg.compile(mg.microbatch(f, size))(X), want)


X5, N5 = np.arange(1.0, 6), np.array([3, 0, 2, 5, 1])
STEPS = np.arange(8.0)


def step(i):
    """Return a number that only a turn before the last has."""
    return mg.numpy.take(STEPS, i, axis=0)


LOOPS = {  # a while loop of one example: the function, its arguments, and how they are mapped
    "until a value": (lambda x: mg.while_loop(lambda c: c < 10, lambda c: c * 2, x), (X5,), 0),
    "shared count": (lambda x, n: mg.fori_loop(0, n, lambda i, c: c * 2 + i, x), (X5, 3), (0, None)),
    "count per example": (lambda x, n: mg.fori_loop(0, n, lambda i, c: c * 2 + i, x), (X5, N5), 0),
    "first count per example": (lambda x, n: mg.fori_loop(n, 4, lambda i, c: c * 2 + i, x), (X5, N5), 0),
    "counter in the state": (
        lambda x, n: mg.while_loop(lambda s: s[1] < n, lambda s: (s[0] * 2, s[1] + 1), (x, 0)), (X5, N5), 0),
    "either ends it": (
        lambda x: mg.while_loop(lambda s: (s[1] < 4) & (s[0] < 50), lambda s: (s[0] * 3, s[1] + 1), (x, 0)), (X5,), 0),
    "flag in the state": (
        lambda x: mg.while_loop(lambda s: s[1], lambda s: (s[0] * 2, s[0] < 10), (x, True)), (X5,), 0),
    "shared state": (
        lambda x: mg.while_loop(lambda s: s[1] < 10, lambda s: (s[0] + x, s[1] * 2), (x, 1.0)), (X5,), 0),
    "state that stays": (
        lambda x: mg.while_loop(lambda s: s[0] < 10, lambda s: (s[0] * 2, s[1]), (x, 3.0)), (X5,), 0),
    "swapped state": (
        lambda x, n: mg.while_loop(lambda s: s[2] < n, lambda s: (s[1], s[0], s[2] + 1), (x, 2 * x, 0)), (X5, N5), 0),
    "loop in a loop": (
        lambda x: mg.while_loop(lambda c: c < 50, lambda c: mg.while_loop(
            lambda d: d < c * 2, lambda d: d + 1.0, c), x), (X5,), 0),
    "loop in a scan": (
        lambda x, n: mg.scan(lambda c, t: (mg.fori_loop(0, n, lambda i, d: d * t, c), c), x, np.arange(2.0)),
        (X5, N5), 0),
    "loop in a branch": (
        lambda x: mg.cond(x > 2, lambda: mg.while_loop(lambda c: c < 10, lambda c: c * 2, x), lambda: x), (X5,), 0),
    "two batches": (
        lambda x, n: mg.vmap(lambda y, m: mg.fori_loop(0, n + m, lambda i, c: c * 2 + x, y))(
            x * np.arange(3.0), np.array([1, 2, 0])), (X5, N5), 0),
    "two batches of loops that may raise": (
        lambda x, n: mg.vmap(lambda y, m: mg.fori_loop(0, n + m, lambda i, c: c * 2 + step(i) * x, y))(
            x * np.arange(3.0), np.array([1, 2, 0])), (X5, N5), 0),
    "a body that may raise": (
        lambda x, n: mg.fori_loop(0, n, lambda i, c: c * 2 + step(i), x), (X5, N5), 0),
    "a checkpoint of a body that may raise": (
        lambda x, n: mg.checkpoint(lambda x, n: mg.fori_loop(0, n, lambda i, c: c * 2 + step(i), x))(x, n),
        (X5, N5), 0),
    "tangent of a body that may raise": (
        lambda x, n: mg.jvp(lambda x: mg.fori_loop(0, n, lambda i, c: c * x + step(i), x), (x,), (1.0,)), (X5, N5), 0),
    "tangent": (
        lambda x, n: mg.jvp(lambda x: mg.fori_loop(0, n, lambda i, c: c * 2 * x + i, x), (x,), (1.0,)), (X5, N5), 0)}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_single_examples_run_some_at_a_time(name):
    f, args, axes = LOOPS[name]
    flags = axes if isinstance(axes, tuple) else (axes,) * len(args)
    rows = [optree.tree_leaves(f(*(a if axis is None else a[k] for a, axis in zip(args, flags, strict=True))))
            for k in range(5)]
    want = [np.stack(column) for column in zip(*rows, strict=True)]
    for size in (1, 2, 5):
        some = mg.microbatch(mg.vmap(f, axes), size, in_axes=axes)
        for g in (some, mg.compile(some)):
            close(optree.tree_leaves(g(*args)), want)
