"""Errors of indices out of range name the index, the size of its axis, the argument, and the example."""

import functools
import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import numpy as mnp

node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Item:
    x: mg.f64[node]
    rows: mg.i64[edge]
    pairs: mg.i64[edge, 2]
    row: mg.i64[()]


def item(n, rows, row=0):
    rows = np.array(rows, np.int64)
    return Item(np.arange(n) + 1.0, rows, np.stack([np.zeros_like(rows), rows], axis=1), row)


ITEMS = [item(2, [0, 1]), item(1, []), item(3, [2, -1, 5, 1]), item(4, [3], 1), item(2, [9])]
BATCH = mg.batch(ITEMS)
ONE_ROW = mg.batch([item(2, [0], 1), item(3, [0], 2), item(1, [0], -3), item(2, [0], 9)])
X, ROWS = np.ones((4, 3)), np.array([[0, 2], [1, 1], [-4, 0], [7, 7]])
RAGGED = {
    "brackets": (lambda g: np.sum(g.x[g.rows]),
                 "index 5 is out of range for an example with 3 rows, in g['rows'] of example 2"),
    "gather": (lambda g: np.sum(mg.gather(g.x, g.rows)),
               "index 5 is out of range for an example with 3 rows, in g['rows'] of example 2"),
    "segments of an axis": (lambda g: np.sum(mg.segment_max(1.0 * g.rows, g.rows, g.x.shape[0], null=-1)),
                            "index 5 is out of range for an example with 3 rows, in g['rows'] of example 2"),
    "a number of segments": (lambda g: mg.segment_sum(1.0 * g.rows, g.rows, 6, null=-1),
                             "index 9 is out of range for an axis of size 6, in g['rows'] of example 4"),
    "a table": (lambda g: np.sum(mnp.take(np.arange(4.0), g.rows)),
                "index 5 is out of range for an axis of size 4, in g['rows'] of example 2"),
    "two columns": (lambda g: np.sum(g.x[g.pairs]),
                    "index 5 is out of range for an example with 3 rows, in g['pairs'] of example 2"),
    "constants": (lambda g: np.sum(g.x[np.array([0, 1])]),
                  "index 1 is out of range for an example with 1 rows, in example 1"),
    "a multiple": (lambda g: np.sum(g.x[2 * g.rows - 1]),
                   "index 3 is out of range for an example with 3 rows, in example 2"),
}
DENSE = {
    "brackets": (lambda x, i: np.sum(x[i]), "index -4 is out of range for an axis of size 3, in i of example 2"),
    "gather": (lambda x, i: np.sum(mg.gather(x, i)),
               "index -4 is out of range for an axis of size 3, in i of example 2"),
    "segments": (lambda x, i: mg.segment_sum(x[:2], i, 3, null=-4),
                 "index 7 is out of range for an axis of size 3, in i of example 3"),
    "a table": (lambda x, i: np.sum(mnp.take(np.arange(4.0), i)),
                "index 7 is out of range for an axis of size 4, in i of example 3"),
    "one index": (lambda x, i: x[i[1]], "index 7 is out of range for an axis of size 3, in i of example 3"),
    "two axes": (lambda x, i: np.sum(np.stack([x, x])[i * 0, i]),
                 "index -4 is out of range for an axis of size 3, in i of example 2"),
}


def total(f):
    @functools.wraps(f)
    def loss(*args):
        return np.sum(f(*args))

    return loss


WAYS = {
    "eager": lambda f, axes: mg.vmap(f, axes),
    "numpy": lambda f, axes: mg.compile(mg.vmap(f, axes), backend="numpy"),
    "native": lambda f, axes: mg.compile(mg.vmap(f, axes), backend="native"),
    "in parts": lambda f, axes: mg.microbatch(mg.vmap(f, axes), 2, axes),
    "compiled parts": lambda f, axes: mg.compile(mg.microbatch(mg.mean_loss(total(f), axes), 1, axes)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RAGGED)
def test_indices_within_examples_of_different_size(name, way):
    f, words = RAGGED[name]
    with pytest.raises(IndexError, match=f"^test_index_errors.py:.*: {re.escape(words)}"):
        WAYS[way](f, 0)(BATCH)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", DENSE)
def test_indices_within_examples_of_one_size(name, way):
    f, words = DENSE[name]
    with pytest.raises(IndexError, match=f"^test_index_errors.py:.*: {re.escape(words)}"):
        WAYS[way](f, (0, 0))(X, ROWS)


@pytest.mark.parametrize("way", WAYS)
def test_one_index_per_example(way):
    words = "index -3 is out of range for an example with 1 rows, in g['row'] of example 2"
    with pytest.raises(IndexError, match=re.escape(words)):
        WAYS[way](lambda g: g.x[g.row], 0)(ONE_ROW)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_branches_count_the_examples_of_the_whole_batch(size):
    def f(x, i):
        return mg.cond(i[0] == 1, lambda: x[1], lambda: np.sum(x[i]))

    index = np.array([[1, 9], [0, 2], [1, 7], [2, 8]])
    for g in (mg.vmap(f), mg.microbatch(mg.vmap(f), size)):
        with pytest.raises(IndexError, match=r"index 8 is out of range for an axis of size 3, in (i of )?example 3"):
            g(X, index)


def test_derivatives_name_the_example_and_not_a_direction():
    loss = mg.mean_loss(lambda w, x, i: np.sum(w[:2] * x[i] ** 3 * np.sum(w)), (None, 0, 0))
    for f in (mg.grad(loss), mg.hessian(loss), mg.compile(mg.hessian(loss)), mg.microbatch(mg.hessian(loss), 3)):
        with pytest.raises(IndexError, match="index -4 is out of range for an axis of size 3, in i of example 2"):
            f(np.ones(3), X, ROWS)


def test_an_index_that_all_examples_share():
    with pytest.raises(IndexError, match=r"index -4 is out of range for an axis of size 3, in i\n"):
        mg.vmap(lambda x, i: np.sum(x[i]), (0, None))(X, ROWS[2])


def test_a_function_without_a_batch():
    with pytest.raises(IndexError, match=re.escape("index -4 is out of range for an axis of size 3, in p['rows'][1]")):
        mg.compile(lambda x, p: x[p["rows"][1]])(X[0], {"rows": (ROWS[0], ROWS[2])})


def test_steps_of_a_scan():
    def f(x, i):
        return mg.scan(lambda c, k: (c + x[k], c), 0.0, i)[0]

    with pytest.raises(IndexError, match=r"index -4 is out of range for an axis of size 3, in k of example 2"):
        mg.vmap(f)(X, ROWS)
